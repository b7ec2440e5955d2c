"""Training a hall's model from its history, in a worker process: reads, chooses, learns, answers.

Decides which rows: stretches that are nominal by rule (agent/nominal.py), evenly spread over the
time asked for, as many as fit in memory. Must never train on a row that a rule leaves out, write
to the database, or run in the agent's own process: the agent calls `train_from_history`.
"""

import asyncio
import json
import pickle
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent import training
from agent.clock import WallClock, utc
from agent.history.service import History, HistoryDown
from agent.lessons import Observed, learn, stacked
from agent.nominal import left_out, mask
from agent.training import MIN_ROWS, WINDOW, TrainingError, TrainOptions, run_worker
from agent.worker import lowered
from config.site import Site
from control.context import Commands, Context, follow
from control.features import unit_features, unit_names
from control.ims_model import ImsModel
from control.layout import FEATURES, Layout
from control.monitor import Trained
from control.types import Snapshot

F64 = NDArray[np.float64]
MOST_CELLS = 600_000  # rows times units that are read
LEAST_STRETCH = 64  # rows: a shorter one says little of how rows follow each other
SPAN_S = 60.0  # of the moving mean that is judged
DRIFT_S = 5_000.0  # a nominal unit's usual place is followed over this
BINS = 10
RANGES = ("outdoor_c", "prompts_ps", "it_power_kw", "supply_air_setpoint_c", "fan_rpm_pct")


@dataclass(frozen=True, slots=True)
class Asked:
    """What to train on: from since_s to until_s. `trust_alarms`: see agent.nominal.left_out."""

    since_s: float
    until_s: float
    trust_alarms: bool = True


@dataclass(frozen=True, slots=True)
class Lesson:
    """A trained model, and what a person should know before approving it (plain JSON values)."""

    model: Trained
    about: Mapping[str, Any]

    def document(self) -> dict[str, Any]:
        """As it is kept in history."""
        return {"id": self.model.ims.id, **self.model.to_dict(), "about": dict(self.about)}


async def train_from_history(site: Site, environ: Mapping[str, str], asked: Asked) -> Lesson:
    """Train in a process of its own, which ends with this call. Raises TrainingError."""
    with tempfile.TemporaryDirectory(prefix="skadi-train-") as name:
        folder = Path(name)  # ours alone (mode 0700): what is unpickled there is what we put there
        (folder / "order.pickle").write_bytes(pickle.dumps((site, asked)))
        answer = await run_worker("agent.training_history", folder, environ)
    return Lesson(Trained.from_dict(answer["model"]), answer["about"])


async def lesson(site: Site, history: History, asked: Asked) -> Lesson:
    """Read and learn, in this process. Raises TrainingError, HistoryDown."""
    layout = Layout(site)
    units, step_s = unit_names(layout), _step_s(site)
    out = await left_out(history, site, asked.since_s, asked.until_s, asked.trust_alarms)
    times = np.arange(asked.since_s // step_s * step_s, asked.until_s, step_s)
    gone, why = mask(site, units, times, out)
    whole = np.arange(len(times))[(~gone).mean(axis=1) >= 0.5]
    stretches = _stretches(whole, max(MOST_CELLS // len(units), WINDOW))
    if sum(len(s) for s in stretches) < MIN_ROWS:
        raise TrainingError(f"no nominal stretch in this time: left out {_said(why)}; "
                            "choose another time, or end what is wrong first")  # fmt: skip
    parts = [await _observed(history, layout, times[s], step_s) for s in stretches]
    seen = _joined(parts, units)
    seen.x[gone[np.concatenate(stretches)]] = np.nan
    if not np.isfinite(seen.x).any():
        raise TrainingError("history has no reading of these units in this time")
    options = TrainOptions(
        clusters=site.ims.clusters, fast_percentile=site.ims.tau_fast_percentile,
        persist_percentile=site.ims.tau_persist_percentile, row_s=step_s,
        span_rows=max(3, round(SPAN_S / step_s)), drift_alpha=min(step_s / DRIFT_S, 0.1),
    )  # fmt: skip
    begun_s = await _begun(history, asked)
    quiet = times[np.concatenate(stretches)] < begun_s
    seen = replace(seen, quiet=quiet if quiet.sum() >= 4 * MIN_ROWS else np.ones_like(quiet))
    model = await learn(seen, options, _train)
    about = _facts(model, seen, times, stretches, why) | {
        "since": utc(asked.since_s), "until": utc(asked.until_s), "step_s": step_s,
        "alarms_trusted": asked.trust_alarms,
        "coverage": await _coverage(history, site, asked, times[np.concatenate(stretches)]),
    }  # fmt: skip
    return Lesson(model, about)


def _step_s(site: Site) -> float:
    """A row for each tick of the monitor, or for each poll where that is slower."""
    slowest_s = max((d.poll_interval_s for d in site.devices if d.protocol != "push"), default=0.0)
    return max(site.loops.ims_mms_s, min(slowest_s, 60.0))


def _stretches(rows: NDArray[np.intp], most: int) -> list[NDArray[np.intp]]:
    """Stretches of successive rows, none longer than WINDOW, evenly spread, `most` rows in all."""
    if not len(rows):
        return []
    runs = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)
    pieces = [run[i : i + WINDOW] for run in runs for i in range(0, len(run), WINDOW)]
    pieces = [p for p in pieces if len(p) >= LEAST_STRETCH]
    room = max(1, most // WINDOW)
    if len(pieces) <= room:
        return pieces
    return [pieces[i] for i in np.linspace(0, len(pieces) - 1, room).astype(int)]


async def _observed(history: History, layout: Layout, times: F64, step_s: float) -> Observed:
    """One stretch as the monitor would have seen it: a value stands until it is too old."""
    site, commands = layout.site, Commands(layout)
    values = np.full((len(times), len(layout.index)), np.nan)
    for key, column in layout.index.items():
        at, means = await history.means(key, times[0], times[-1] + step_s, step_s)
        rows = np.round((at - times[0]) / step_s).astype(int)
        good = (rows >= 0) & (rows < len(times))
        values[rows[good], column] = means[good]
    ages = np.array([max(1, int(p.max_age_s // step_s)) for p in site.points.values()])
    last, age = np.full(len(layout.index), np.nan), np.full(len(layout.index), 1 << 30)
    xs: list[F64] = []
    cs: list[Context] = []
    orders: list[F64] = []
    for now_s, row in zip(times, values, strict=True):
        fresh = ~np.isnan(row)
        last, age = np.where(fresh, row, last), np.where(fresh, 0, age + 1)
        current = np.where(age <= ages, last, np.nan)
        snapshot = Snapshot(float(now_s), layout.index, current, last, age * step_s)
        now = commands.read(snapshot)
        xs.append(unit_features(layout, snapshot))
        cs.append(follow(cs[-1] if cs else None, now, step_s))
        orders.append(commands.orders(now, snapshot))
    alone = np.ones(len(times), dtype=np.bool_)
    return Observed(np.array(xs), stacked(cs), np.array(orders), unit_names(layout), alone)


def _joined(parts: Sequence[Observed], units: tuple[str, ...]) -> Observed:
    lengths = [len(p.x) for p in parts]
    context = Context(*(
        np.concatenate([getattr(p.context, f) for p in parts]) for f in ("now", "quick", "slow")
    ))  # fmt: skip
    return Observed(
        np.concatenate([p.x for p in parts]), context, np.concatenate([p.orders for p in parts]),
        units, np.ones(sum(lengths), dtype=np.bool_), (0, *np.cumsum(lengths)[:-1].tolist()),
    )  # fmt: skip


async def _begun(history: History, asked: Asked) -> float:
    """When the agent made its first change in this time; before, the hall ran by itself."""
    acts = await history.actions(asked.since_s, 100_000, None, ("action",), asked.until_s)
    return min((a.ts_s for a in acts), default=asked.until_s)


async def _train(
    x: F64, names: Sequence[str], options: TrainOptions, units: Sequence[str]
) -> ImsModel:
    return training.train(x, names, options, units)


def _facts(
    model: Trained, seen: Observed, times: F64, stretches: Sequence[NDArray[np.intp]],
    why: Mapping[str, float],
) -> dict[str, Any]:  # fmt: skip
    used_s = times[np.concatenate(stretches)]
    low, high = np.nanpercentile(seen.x.reshape(-1, len(FEATURES)), [0.5, 99.5], axis=0)
    return {
        "rows": len(used_s), "stretches": len(stretches), "left_out_pct": dict(why),
        "hours_of_day": len({int(t // 3600) % 24 for t in used_s}),
        "days": len({int(t // 86_400) for t in used_s}),
        "trained_range": {
            f: [round(float(a), 4), round(float(b), 4)]
            for f, a, b in zip(FEATURES, low, high, strict=True)
            if f in model.ims.features
        },
    }  # fmt: skip


async def _coverage(
    history: History, site: Site, asked: Asked, used_s: F64
) -> dict[str, dict[str, Any]]:
    """Of all hours that history has: how many were in a state that was trained on, quantity by
    quantity. A tenth of the range seen counts as trained when a trained hour was in it."""
    since_s = asked.until_s - site.history.keep_days * 86_400.0
    trained = {int(t // 3600) for t in used_s}
    found: dict[str, dict[str, Any]] = {}
    for quantity in RANGES:
        sums: dict[int, list[float]] = {}
        for point in site.of_quantity(quantity)[:12]:
            for s in await history.series(point.key, since_s, asked.until_s, 3_600.0):
                if s.value is not None:
                    sums.setdefault(int(s.ts_s // 3600), []).append(s.value)
        if not sums:
            continue
        hours, means = list(sums), np.array([np.mean(v) for v in sums.values()])
        low, width = float(means.min()), float(np.ptp(means)) or 1.0
        bins = np.minimum((BINS * (means - low) / width).astype(int), BINS - 1)
        known = {int(b) for h, b in zip(hours, bins, strict=True) if h in trained}
        share = np.mean([int(b) in known for b in bins])
        found[quantity] = {"seen": [round(low, 3), round(float(means.max()), 3)], "hours": len(hours),
                           "covered_pct": round(100.0 * float(share), 1)}  # fmt: skip
    return found


def _said(why: Mapping[str, float]) -> str:
    return ", ".join(f"{pct:.0f} % for {name}" for name, pct in why.items()) or "nothing"


async def work(folder: Path) -> dict[str, Any]:
    """What the worker does: the order in, the answer out."""
    site, asked = pickle.loads((folder / "order.pickle").read_bytes())  # our own: see above
    history = History(site, WallClock())
    try:
        done = await lesson(site, history, asked)
    except (ValueError, HistoryDown) as error:  # TrainingError, and the calibration's own
        return {"error": str(error)}
    finally:
        await history.close()
    return {"model": done.model.to_dict(), "about": dict(done.about)}


if __name__ == "__main__":
    lowered()
    where = Path(sys.argv[1])
    (where / "answer.json").write_text(json.dumps(asyncio.run(work(where))), encoding="utf-8")
