"""Replays what was measured: a CSV through its model, or a hall's history through the whole decision path.

The decision path runs in advisory with a gate that has no device behind it: it says what it would
have done and can write nothing. The hall does not answer in a replay, so what it would have done once
it would do again: a wish for the same move and place counts once in AGAIN_S.
"""

import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.backtest import Wish, saving
from agent.clock import VirtualClock, utc
from agent.core import Agent
from agent.history.service import History
from agent.journal import Journal
from agent.scoring import score_rows
from agent.table import Row
from config.schema import LoopsSection
from config.site import Site
from control import mms
from control.ims_model import ImsModel
from control.monitor import Trained
from control.types import Quality, Reading
from drivers.gate import Gate

AGAIN_S = 1_800.0
CHUNK = 512  # ticks of history read at once
NOW = 1e-3


@dataclass(slots=True)
class Track:
    """What a replay saw. One entry a tick: `times_s`, and for each unit D(x), its EMA, its state and
    the features that contribute most; `acts` are (time, move, scope, done or only wished, reason)."""

    units: tuple[str, ...]
    tau_fast: float
    tau_persist: float
    timed: bool = True
    times_s: list[float] = field(default_factory=list)
    deviation: list[list[float]] = field(default_factory=list)
    ema: list[list[float]] = field(default_factory=list)
    states: list[list[str]] = field(default_factory=list)
    tops: list[list[tuple[str, ...]]] = field(default_factory=list)
    acts: list[tuple[float, str, str, bool, str]] = field(default_factory=list)
    wishes: list[Wish] = field(default_factory=list)

    def told(self) -> dict[str, Any]:
        """The replay in plain JSON values: counts, each change of state, each act."""
        codes, changes = self.codes(), []
        for t in range(len(codes)):
            before = codes[t - 1] if t else np.full(len(self.units), -1)
            changes += [
                {"at": self._when(t), "unit": self.units[u], "state": self.states[t][u],
                 "ema": _number(self.ema[t][u]), "top": list(self.tops[t][u])}
                for u in np.flatnonzero(codes[t] != before)
            ]  # fmt: skip
        return {
            "rows": len(self.times_s), "tau_fast": self.tau_fast, "tau_persist": self.tau_persist,
            "states": {u: dict(Counter(s[i] for s in self.states)) for i, u in enumerate(self.units)},
            "changes": changes,
            "saving": saving(self.wishes, self.times_s[-1]) if self.timed and self.times_s else None,
            "actions": [{"at": utc(t), "move": m, "scope": s, "done": d, "reason": r}
                        for t, m, s, d, r in self.acts],
        }  # fmt: skip

    def codes(self) -> NDArray[np.int8]:
        """The states as numbers, (ticks, units)."""
        names = {n: i for i, n in enumerate(mms.STATE_NAMES)}
        flat = [[names[s] for s in row] for row in self.states]
        return np.array(flat, dtype=np.int8).reshape(len(self.states), len(self.units))

    def _when(self, t: int) -> str | int:
        return utc(self.times_s[t]) if self.timed else int(self.times_s[t])


def _number(value: float) -> float | None:
    return round(value, 4) if np.isfinite(value) else None


def replay_rows(model: ImsModel, rows: Iterable[Row], name: str) -> Track:
    """A table through IMS and MMS, row by row."""
    track = Track((name,), model.tau_fast, model.tau_persist)
    for row, scored in _scored(model, rows):
        track.timed = row.time_s is not None
        track.times_s.append(float(row.number) if row.time_s is None else row.time_s)
        track.deviation.append([np.nan if scored.deviation is None else scored.deviation])
        track.ema.append([np.nan if scored.ema is None else scored.ema])
        track.states.append([scored.state])
        track.tops.append([scored.top])
    return track


def _scored(model: ImsModel, rows: Iterable[Row]) -> Iterable[tuple[Row, Any]]:
    taken: list[Row] = []

    def passed() -> Iterable[Row]:
        for row in rows:
            taken[:] = [row]
            yield row

    for scored in score_rows(model, passed(), mms.MmsParams()):
        yield taken[0], scored


async def replay_history(
    site: Site, history: History, model: Trained, since_s: float, until_s: float
) -> Track:
    """A hall's history through the agent in advisory. Raises HistoryDown, ValueError."""
    watched = replace(
        site,
        agent=site.agent.model_copy(update={"mode": "advisory", "armed": ()}),
        mqtt=None,
        api=None,
    )
    clock = VirtualClock(since_s)
    with tempfile.TemporaryDirectory(prefix="skadi-replay-") as folder:
        journal = Journal(Path(folder) / "journal.db")
        try:
            agent = Agent(
                watched, clock, journal, lambda may: Gate(watched.points, {}, journal, may), model
            )
            track = Track(agent.layout.judged, model.ims.tau_fast, model.ims.tau_persist)
            agent.listeners.append(_Listener(track, agent).listen)
            await _run(agent, clock, history, site.loops, since_s, until_s)
        finally:
            journal.close()
    for act in await history.actions(since_s, 10_000, None, ("action",), until_s):
        text = str(act.detail.get("reason", ""))
        track.acts.append((act.ts_s, act.move or "", act.scope or "", True, text))
    track.acts.sort()
    return track


async def _run(
    agent: Agent, clock: VirtualClock, history: History, loops: LoopsSection, since_s: float, until_s: float
) -> None:  # fmt: skip
    step_s = loops.ims_mms_s
    every = (
        (loops.ims_mms_s, agent.observe),
        (loops.fast_s, agent.fast),
        (loops.slow_s, agent.slow),
    )
    due = [since_s + period_s for period_s, _ in every]
    ticks = int((until_s - since_s) // step_s)
    for first in range(0, ticks, CHUNK):
        count = min(CHUNK, ticks - first)
        values = await _values(agent, history, since_s + first * step_s, count, step_s)
        for row in values:
            clock.advance(step_s)
            now_s = clock.now_s()
            for device in agent.site.devices:
                found = [
                    Reading(p.key, float(v), now_s, Quality.GOOD)
                    for p in device.points
                    if not np.isnan(v := row[agent.layout.index[p.key]])
                ]
                if found:
                    agent.take(device, found)
            for i, (period_s, run) in enumerate(every):
                if now_s >= due[i] - NOW:
                    due[i] = now_s + period_s
                    await run()


async def _values(
    agent: Agent, history: History, since_s: float, count: int, step_s: float
) -> NDArray[np.float64]:
    """What was read of every point, a row a tick, (count, points); NaN where nothing was."""
    out = np.full((count, len(agent.layout.index)), np.nan)
    for key, column in agent.layout.index.items():
        at_s, means = await history.means(key, since_s, since_s + count * step_s, step_s)
        rows = ((at_s - since_s) / step_s).astype(int)
        good = (rows >= 0) & (rows < count)
        out[rows[good], column] = means[good]
    return out


class _Listener:
    """Writes down what the agent tells."""

    def __init__(self, track: Track, agent: Agent) -> None:
        self._track, self._agent = track, agent
        self._wished: dict[tuple[str, str], float] = {}

    def listen(self, kind: str, detail: dict[str, Any]) -> None:
        if kind == "findings" and detail["findings"]:
            rows = [detail["findings"][u] for u in self._track.units]
            self._track.times_s.append(self._agent.clock.now_s())
            self._track.deviation.append([f.deviation for f in rows])
            self._track.ema.append([f.ema for f in rows])
            self._track.states.append([f.state for f in rows])
            self._track.tops.append([f.top for f in rows])
        elif kind == "decision" and detail.get("would"):
            move, scope, at_s = str(detail["move"]), str(detail["scope"]), float(detail["ts_s"])
            if at_s - self._wished.get((move, scope), -np.inf) >= AGAIN_S:
                self._wished[move, scope] = at_s
                self._track.acts.append((at_s, move, scope, False, str(detail["reason"])))
                worth = float(detail["predicted_kw"]), float(detail["predicted_sigma_kw"])
                self._track.wishes.append(Wish(at_s, move, scope, *worth))
