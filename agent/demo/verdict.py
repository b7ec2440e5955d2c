"""The demo's verdict: the same hall, arrivals and seed without Skadi and with it, side by side.

Decides whether a demo has passed, by the rules of `FAILURES`. Pure. Must never leave out what
speaks against Skadi: deferred work is charged by the hall's account, rejected prompts and
minutes over a limit stand in the table.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rich.table import Table

Json = Mapping[str, Any]

# Out of the hall's own account (its true values, not what the agent measured).
_FROM_TRUTH = (
    "wh_per_prompt", "wh_per_1k_tokens", "prompts", "tokens", "rejected", "jobs_deferred",
    "deferred_kwh",
    "it_kwh", "cooling_kwh", "total_kwh", "pue", "worst_inlet_c", "inlet_compliance_pct",
    "worst_latency_p95_ms", "worst_rack_kw", "minutes_over_limit",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of the site that the demo ran on."""

    inlet_max_c: float
    latency_p95_max_ms: float
    rack_max_kw: float


@dataclass(frozen=True, slots=True)
class Acts:
    """What was done on the wire: writes the devices took, by protocol, and what was made of them.

    readbacks_confirmed: points whose value was read back as written.
    """

    writes_by_protocol: Mapping[str, int]
    readbacks_confirmed: int = 0
    rollbacks: int = 0
    protective_moves: int = 0

    @property
    def writes(self) -> int:
        """All protocols together."""
        return sum(self.writes_by_protocol.values())


NO_ACTS = Acts({})


def side(truth: Json, acts: Acts) -> dict[str, Any]:
    """One side of the verdict: the hall's account and the acts on it."""
    return {key: truth[key] for key in _FROM_TRUTH} | {
        "writes": acts.writes,
        "writes_by_protocol": dict(acts.writes_by_protocol),
        "readbacks_confirmed": acts.readbacks_confirmed,
        "rollbacks": acts.rollbacks,
        "protective_moves": acts.protective_moves,
    }


def saving_pct(baseline: Json, skadi: Json) -> float | None:
    """Wh/prompt saved, in percent of the baseline's. None where one has no prompts."""
    before, after = baseline["wh_per_prompt"], skadi["wh_per_prompt"]
    if not before or after is None:
        return None
    return 100.0 * (1.0 - float(after) / float(before))


def failures(baseline: Json, skadi: Json, limits: Limits) -> list[str]:
    """Why a demo has not passed; empty when it has."""
    return [text for rule in _RULES if (text := rule(baseline, skadi, limits))]


def _compliance(_: Json, skadi: Json, limits: Limits) -> str | None:
    share = skadi["inlet_compliance_pct"]
    if share is not None and share >= 99.0:
        return None
    return f"inlets were within {limits.inlet_max_c:g} degC in {share} % of rack-samples, not 99"


def _latency(_: Json, skadi: Json, limits: Limits) -> str | None:
    worst = skadi["worst_latency_p95_ms"]
    if worst is None or worst < limits.latency_p95_max_ms:
        return None
    return f"p95 latency reached {worst:.0f} ms, limit {limits.latency_p95_max_ms:g} ms"


def _rack(_: Json, skadi: Json, limits: Limits) -> str | None:
    worst = skadi["worst_rack_kw"]
    if worst is None or worst < limits.rack_max_kw:
        return None
    return f"a rack drew {worst:.2f} kW, limit {limits.rack_max_kw:g} kW"


def _minutes(baseline: Json, skadi: Json, _: Limits) -> str | None:
    before, after = baseline["minutes_over_limit"], skadi["minutes_over_limit"]
    if after <= before:
        return None
    return f"{after:.1f} minutes over a limit, {before:.1f} without Skadi"


def _wrote(_: Json, skadi: Json, __: Limits) -> str | None:
    return None if skadi["writes"] > 0 else "nothing was written to any device"


_RULES: tuple[Callable[[Json, Json, Limits], str | None], ...] = (
    _compliance, _latency, _rack, _minutes, _wrote,
)  # fmt: skip

_ROWS: tuple[tuple[str, str, str], ...] = (
    ("wh_per_prompt", "Wh per prompt", ".4f"),
    ("wh_per_1k_tokens", "Wh per 1,000 tokens", ".4f"),
    ("total_kwh", "energy, kWh", ",.1f"),
    ("it_kwh", "  IT at the PDUs", ",.1f"),
    ("cooling_kwh", "  cooling", ",.1f"),
    ("pue", "PUE", ".3f"),
    ("prompts", "prompts completed", ",.0f"),
    ("tokens", "tokens", ",.0f"),
    ("rejected", "prompts rejected", ",.0f"),
    ("jobs_deferred", "jobs deferred (charged)", ",.0f"),
    ("worst_inlet_c", "warmest inlet, °C", ".1f"),
    ("inlet_compliance_pct", "rack-samples in limit, %", ".2f"),
    ("worst_latency_p95_ms", "worst p95 latency, ms", ".0f"),
    ("worst_rack_kw", "highest rack, kW", ".2f"),
    ("minutes_over_limit", "minutes over a limit", ".1f"),
    ("writes", "setpoints written", "d"),
    ("readbacks_confirmed", "read back as written", "d"),
    ("rollbacks", "undone", "d"),
    ("protective_moves", "protective moves", "d"),
)


def table(result: Json) -> Table:
    """The verdict for people."""
    shown = Table(
        title=f"{result['scenario']}, seed {result['seed']}, {result['hours']:g} h: "
        "the same hall and arrivals",
        title_style="bold", header_style="bold",
    )  # fmt: skip
    for name, justify in (("", "left"), ("without Skadi", "right"), ("with Skadi", "right"),
                          ("change", "right")):  # fmt: skip
        shown.add_column(name, justify=justify)  # type: ignore[arg-type]
    for key, name, form in _ROWS:
        before, after = result["baseline"][key], result["skadi"][key]
        shown.add_row(name, _cell(before, form), _cell(after, form), _change(before, after))
    return shown


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _change(before: float | None, after: float | None) -> str:
    if not before or after is None or before == after:
        return ""
    return f"{100.0 * (after / before - 1.0):+.2f} %"


def summary(result: Json) -> str:
    """One sentence for people: what came out."""
    saving = result["saving_pct"]
    by = ", ".join(f"{n} by {p}" for p, n in result["skadi"]["writes_by_protocol"].items())
    more = "more" if saving is not None and saving < 0 else "less"
    what = "Wh/prompt unknown" if saving is None else f"{abs(saving):.2f} % {more} energy a prompt"
    verdict = "passed" if not result["failures"] else "NOT passed"
    return f"{verdict}: {what}; writes: {by or 'none'}"
