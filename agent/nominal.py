"""Which stretches of a hall's history a model may be trained on, by rules that anybody can check.

Left out: what the monitor called persistent, alarms of a row or of the hall, work by hand (an
operator's change, a point that somebody has overridden) with half an hour after it, and
maintenance (a tag's point, or a stretch that was marked). Decides nothing else: a stretch is not
nominal because nobody complained, so what was left out and what is covered goes to a person.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.clock import parse_utc
from agent.history.query import Action
from agent.history.service import History
from config.site import Site
from control.features import unit_names
from control.layout import HALL, Layout

AFTER_HAND_S = 1_800.0
AROUND_ALARM_S = 600.0
KINDS = ("alarm", "action", "maintenance")
ENDED = frozenset({"normal", "returned"})
OF_HALL = ("interlock:", "kill", "network", "latency")  # alarms that stand for everything


@dataclass(frozen=True, slots=True)
class Out:
    """A stretch that is left out of `scope` ("hall", "row:A", "rack:A01"), and why."""

    since_s: float
    until_s: float
    scope: str
    why: str


async def left_out(
    history: History, site: Site, since_s: float, until_s: float, trust_alarms: bool
) -> list[Out]:
    """Everything that is left out between two times. Raises HistoryDown.

    `trust_alarms` False trains on what the monitor called persistent: when it is the old model that
    is wrong, and only then.
    """
    acts = await history.actions(since_s - 86_400.0, 100_000, None, KINDS, until_s)
    found = [*_alarms(acts, until_s, trust_alarms), *_by_hand(site, acts), *_marked(acts)]
    for key in _tags(site):
        for s in await history.series(key, since_s, until_s, 60.0):
            if s.high is not None and s.high > 0.5:
                found.append(Out(s.ts_s, s.ts_s + 60.0 + AFTER_HAND_S, "hall", "maintenance"))
    if trust_alarms:
        for unit in unit_names(Layout(site)):
            for at_s in await history.persistent(unit, since_s, until_s, AROUND_ALARM_S):
                end_s = at_s + 2 * AROUND_ALARM_S
                found.append(Out(at_s - AROUND_ALARM_S, end_s, unit, "persistent"))
    return found


def _alarms(acts: Sequence[Action], until_s: float, trust: bool) -> Iterable[Out]:
    """From the first word of an alarm to its end. Records come newest first."""
    open_s: dict[str, float] = {}
    for act in reversed(acts):
        if act.kind != "alarm":
            continue
        name = str(act.detail.get("id", ""))
        if act.detail.get("state") not in ENDED:
            open_s.setdefault(name, act.ts_s)
        elif name in open_s:
            yield from _alarm(name, open_s.pop(name), act.ts_s, trust)
    for name, at_s in open_s.items():
        yield from _alarm(name, at_s, until_s, trust)


def _alarm(name: str, since_s: float, until_s: float, trust: bool) -> Iterable[Out]:
    of_all = name.startswith(OF_HALL)
    judged = name == HALL or name.startswith("row:")  # the monitor's own word is among it
    if of_all or (judged and trust):
        scope = HALL if of_all else name
        yield Out(since_s - AROUND_ALARM_S, until_s + AROUND_ALARM_S, scope, "alarm")


def _by_hand(site: Site, acts: Sequence[Action]) -> Iterable[Out]:
    for act in acts:
        if act.kind != "action":
            continue
        receipts = act.detail.get("receipts") or {}
        hands = [p for p, r in receipts.items() if r == "overridden" or act.loop == "operator"]
        rows = {site.points[p].row for p in hands if p in site.points}
        for row in sorted(rows, key=str):
            scope = f"row:{row}" if row else "hall"
            yield Out(act.ts_s - 60.0, act.ts_s + AFTER_HAND_S, scope, "work by hand")


def _marked(acts: Sequence[Action]) -> Iterable[Out]:
    for act in acts:
        end_s = parse_utc(str(act.detail.get("until", "")))
        if act.kind == "maintenance" and end_s is not None:
            yield Out(act.ts_s, end_s, act.scope or "hall", "maintenance")


def _tags(site: Site) -> list[str]:
    """The points that say that somebody works here."""
    points = [u.maintenance for u in site.units] + [
        i.point for i in site.interlocks if i.kind == "maintenance"
    ]
    return sorted({p for p in points if p is not None})


def mask(
    site: Site, units: Sequence[str], times_s: NDArray[np.float64], out: Iterable[Out]
) -> tuple[NDArray[np.bool_], dict[str, float]]:
    """Which rows of which units are left out, (t, u), and the share of all rows in % by reason."""
    index = {name: i for i, name in enumerate(units)}
    racks: dict[str, list[int]] = {}
    for rack, row in site.row_of_rack.items():
        racks.setdefault(f"row:{row}", []).append(index[f"rack:{rack}"])
    whole = index[HALL]  # is as nominal as all of its parts
    gone = np.zeros((len(times_s), len(units)), dtype=np.bool_)
    why: dict[str, float] = {}
    for o in sorted(out, key=lambda o: o.why):
        rows = np.flatnonzero((times_s >= o.since_s) & (times_s < o.until_s))
        at = [index[o.scope], whole] if o.scope in index else []
        at = list(index.values()) if o.scope == "hall" else [*at, *racks.get(o.scope, [])]
        where = np.ix_(rows, np.array(at, dtype=np.intp))
        why[o.why] = why.get(o.why, 0.0) + 100.0 * float((~gone[where]).sum()) / max(gone.size, 1)
        gone[where] = True
    return gone, {k: round(v, 2) for k, v in why.items()}
