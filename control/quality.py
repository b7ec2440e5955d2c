"""Which readings to believe: the gate in front of IMS, which can't see a flat line.

Decides one verdict for each of n points: good, missing, impossible, stale, jumping, stuck or
drifting, and since when. A frozen sensor is the most nominal thing a distance ever saw, so it must
be found by other means: it stays still while its neighbours move, or while it always moved before.
Only good values should be scored or be evidence for a move towards risk; a suspect one is
not proof of trouble either. What each verdict means:

    impossible  outside of the quantity's plausible band, or not a number that can be
    stale       older than the point's max_age_s
    jumping     changed faster than physics lets it, until `confirm` more readings agree
    stuck       unchanged for stuck_s while its group's median moved by `moved`, or for 100 times
                as long as it ever stayed unchanged before
    drifting    its distance to its group's median left the usual place by more than drift_limit

Must never: repair or replace a value, judge a point by fewer than 3 good neighbours, or take
a suspect value into what it learns. Pure numpy: states are replaced, the time is given.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

GOOD, MISSING, IMPOSSIBLE, STALE, JUMPING, STUCK, DRIFTING = range(7)
NAMES = ("good", "missing", "impossible", "stale", "jumping", "stuck", "drifting")


@dataclass(frozen=True, slots=True, eq=False)
class Limits:
    """What is known about n points beforehand, arrays (n,) in the points' own units.

    `low`, `high`: the plausible band. `max_slew_per_s`: 0 where not known (no jump is then seen).
    `resolution`: the smallest step of the sensor, 0 where not known. `moved`: how far the group must
    move for a flat point to be stuck, inf to never say so. `drift_limit`: inf to never say so.
    `group`: which points stand side by side and should agree, -1 for none.
    """

    low: Floats
    high: Floats
    max_age_s: Floats
    max_slew_per_s: Floats
    resolution: Floats
    moved: Floats
    drift_limit: Floats
    group: NDArray[np.intp]

    def members(self) -> NDArray[np.intp]:
        """The points of each group, (groups, most), padded with n; compile once."""
        n, count = len(self.group), int(self.group.max(initial=-1)) + 1
        found = [np.flatnonzero(self.group == g) for g in range(count)]
        table = np.full((count, max((len(f) for f in found), default=0)), n, dtype=np.intp)
        for row, at in zip(table, found, strict=True):
            row[: len(at)] = at
        return table


@dataclass(frozen=True, slots=True)
class Params:
    """Times in seconds, counts in readings."""

    stuck_s: float = 1800.0
    confirm: int = 2
    slew_slack: float = 3.0
    alone_factor: float = 100.0
    drift_mean_s: float = 3600.0
    drift_learn_s: float = 86_400.0
    drift_follow_s: float = 14 * 86_400.0


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """What is remembered of n points; every array is (n,), NaN where nothing is known yet."""

    code: NDArray[np.int8]
    since_s: Floats
    value: Floats  # the last reading, whatever it was worth
    taken_s: Floats
    level: Floats  # the last value that was believed
    level_s: Floats
    agreeing: Ints  # readings in a row that agree with each other but not with the level
    flat_s: Floats  # when the value last changed
    longest_s: Floats  # the longest it stayed unchanged so far
    changes: Ints
    group_low: Floats  # range of the group's median while the value is flat
    group_high: Floats
    offset: Floats  # slow mean of the distance to the group's median
    usual: Floats  # where that distance usually is
    known_s: Floats  # for how long it has been learned


def start(n: int, now_s: float) -> State:
    """Nothing read yet: every point is missing since `now_s`."""
    nan, zero = np.full(n, np.nan), np.zeros(n, dtype=np.int64)
    return State(
        np.full(n, MISSING, dtype=np.int8), np.full(n, float(now_s)), nan, nan, nan, nan, zero,
        nan, np.zeros(n), zero, nan, nan, nan, nan, np.zeros(n),
    )  # fmt: skip


def check(
    params: Params,
    limits: Limits,
    members: NDArray[np.intp],
    old: State,
    values: Floats,
    taken_s: Floats,
    now_s: float,
) -> State:
    """One tick: `values` (n,), NaN where missing, each taken at `taken_s` (n,). `code` is the verdict.

    A value whose time has not moved since the last tick is the same reading again: it only ages.
    """
    missing = np.isnan(values)
    possible = ~missing & (values >= limits.low) & (values <= limits.high)
    fresh = possible & ~(taken_s <= old.taken_s)
    values = np.where(possible, values, np.nan)
    agreeing, level, level_s, jumping = _jumps(params, limits, old, values, taken_s, fresh)
    believed = fresh & ~jumping
    middle = _medians(np.where(jumping, np.nan, values), members, limits.group)
    flat = _flatness(limits, old, values, taken_s, fresh, middle)
    stuck = _stuck(params, limits, flat, taken_s)
    offset, usual, known_s = _offsets(params, limits, old, values - middle, taken_s, believed)
    drifting = (known_s >= params.drift_learn_s) & (np.abs(offset - usual) > limits.drift_limit)
    verdicts = (
        (missing, MISSING), (~possible, IMPOSSIBLE), (now_s - taken_s > limits.max_age_s, STALE),
        (jumping, JUMPING), (stuck, STUCK), (drifting, DRIFTING),
    )  # fmt: skip
    code = np.select([v for v, _ in verdicts], [c for _, c in verdicts], GOOD).astype(np.int8)
    since_s = np.where(code == old.code, old.since_s, now_s)
    value, seen_s = np.where(fresh, values, old.value), np.where(fresh, taken_s, old.taken_s)
    return State(
        code, since_s, value, seen_s, level, level_s, agreeing, *flat, offset, usual, known_s
    )


def _jumps(
    params: Params,
    limits: Limits,
    old: State,
    values: Floats,
    taken_s: Floats,
    fresh: NDArray[np.bool_],
) -> tuple[Ints, Floats, Floats, NDArray[np.bool_]]:
    """A value further from the believed level than physics allows waits for others to confirm it."""
    rate = params.slew_slack * np.where(limits.max_slew_per_s > 0, limits.max_slew_per_s, np.inf)
    slack = 2.0 * limits.resolution
    with np.errstate(invalid="ignore"):
        far = np.abs(values - old.level) > np.fmax(rate * (taken_s - old.level_s), 0.0) + slack
        near = np.abs(values - old.value) <= np.fmax(rate * (taken_s - old.taken_s), 0.0) + slack
    agreeing = np.where(fresh, np.where(far, np.where(near, old.agreeing + 1, 0), 0), old.agreeing)
    jumping = np.where(fresh, far & (agreeing < params.confirm), old.code == JUMPING)
    taken = fresh & ~jumping
    level, level_s = np.where(taken, values, old.level), np.where(taken, taken_s, old.level_s)
    return agreeing, level, level_s, jumping


def _medians(values: Floats, members: NDArray[np.intp], group: NDArray[np.intp]) -> Floats:
    """For each point the median of its group, NaN with fewer than 4 good members."""
    if not members.size:
        return np.full(len(values), np.nan)
    ordered = np.sort(np.append(values, np.nan)[members], axis=1)
    count = np.isfinite(ordered).sum(axis=1)
    rows, last = np.arange(len(members)), np.maximum(count - 1, 0)
    middle = (ordered[rows, last // 2] + ordered[rows, (last + 1) // 2]) / 2
    return np.where(group >= 0, np.where(count >= 4, middle, np.nan)[group], np.nan)


_Flat = tuple[Floats, Floats, Ints, Floats, Floats]


def _flatness(
    limits: Limits,
    old: State,
    values: Floats,
    taken_s: Floats,
    fresh: NDArray[np.bool_],
    middle: Floats,
) -> _Flat:
    """Since when flat, the longest so far, changes seen, and the group's range meanwhile."""
    with np.errstate(invalid="ignore"):
        still = np.abs(values - old.value) <= 0.5 * limits.resolution
    changed = fresh & ~still
    was_s = np.where(np.isnan(old.flat_s), 0.0, taken_s - old.flat_s)
    longest_s = np.where(
        changed & (old.changes > 0), np.maximum(old.longest_s, was_s), old.longest_s
    )
    flat_s = np.where(changed, taken_s, old.flat_s)
    low = np.where(changed, middle, np.fmin(old.group_low, middle))
    high = np.where(changed, middle, np.fmax(old.group_high, middle))
    return flat_s, longest_s, old.changes + changed, low, high


def _stuck(params: Params, limits: Limits, flat: _Flat, taken_s: Floats) -> NDArray[np.bool_]:
    flat_s, longest_s, changes, low, high = flat
    with np.errstate(invalid="ignore"):
        long = taken_s - flat_s >= params.stuck_s
        others = high - low >= limits.moved
        never = (changes >= 20) & (taken_s - flat_s >= params.alone_factor * longest_s)
    stuck: NDArray[np.bool_] = long & (others | (never & np.isfinite(limits.moved)))
    return stuck


def _offsets(
    params: Params,
    limits: Limits,
    old: State,
    gap: Floats,
    taken_s: Floats,
    believed: NDArray[np.bool_],
) -> tuple[Floats, Floats, Floats]:
    """The slow mean of the distance to the group, where it usually is, and how long it was learned.

    The usual place is a plain mean while it is learned; then it follows very slowly, and only while
    the distance is within half of the limit, so that a drift is not learned away.
    """
    use = believed & np.isfinite(gap)
    dt_s = np.where(use, np.clip(np.nan_to_num(taken_s - old.taken_s), 0.0, 600.0), 0.0)
    first = use & np.isnan(old.offset)
    step = dt_s / np.maximum(params.drift_mean_s, dt_s)
    offset = np.where(first, gap, np.where(use, old.offset + step * (gap - old.offset), old.offset))
    known_s = old.known_s + dt_s
    near = np.abs(offset - old.usual) < 0.5 * limits.drift_limit
    learning = known_s < params.drift_learn_s
    slow = dt_s / np.where(learning, np.maximum(known_s, 1.0), params.drift_follow_s)
    moved = old.usual + np.where(learning | near, slow, 0.0) * (gap - old.usual)
    usual = np.where(first, gap, np.where(use, moved, old.usual))
    return offset, usual, known_s


def explain(params: Params, limits: Limits, state: State, point: int, now_s: float) -> str:
    """One sentence on one point's verdict, with the numbers it rests on; "" when it is good."""
    code, value = int(state.code[point]), float(state.value[point])
    age_s = now_s - float(state.taken_s[point])
    moved = float(state.group_high[point] - state.group_low[point])
    off = float(state.offset[point] - state.usual[point])
    texts = {
        GOOD: "",
        MISSING: "no value",
        IMPOSSIBLE: f"outside of {limits.low[point]:g}..{limits.high[point]:g}",
        STALE: f"{age_s:.0f} s old, at most {limits.max_age_s[point]:g} s is allowed",
        JUMPING: f"{value:g} after {state.level[point]:g}: faster than "
        f"{limits.max_slew_per_s[point]:g}/s times {params.slew_slack:g}",
        STUCK: f"{value:g} unchanged for {state.taken_s[point] - state.flat_s[point]:.0f} s while its "
        f"neighbours moved by {moved:.3g}",
        DRIFTING: f"{off:+.3g} from its usual distance to its neighbours, the limit is "
        f"{limits.drift_limit[point]:g}",
    }
    return texts[code]
