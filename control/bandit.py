"""Which of the safe moves of work to make now: a contextual bandit over batching and traffic.

Arms are the candidates no objection speaks against, and to hold. Their worth is what physics and
measurements predict, put right by what earlier moves of the kind brought in weather, load and row
state like these. The best is taken, but for EXPLORE of the draws, in which every arm is as likely
(epsilon-greedy): what is tried for the sake of knowing costs energy, and looks odd to the monitor.
Chances are logged with what was chosen, so that another policy can be judged by what this one did:
inverse propensities, doubly robust (Dudik, Langford & Li 2011).
Chance comes from the state's seed and the cycle: the same state decides the same. Never makes a
move safe that is not.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from control.estimate import Gaussian, learn
from control.predict import View
from control.signals import HALL
from control.slow_loop import Candidate
from control.state import ControlState, Verification

F64 = NDArray[np.float64]

MOVES_OF_WORK = ("batching", "traffic_shift")
EXPLORE = 0.03  # of all draws: with what the air side tries, within the 4 % of the time that trying may take
CONTEXT = ("one", "outdoor", "load", "heat")
OUTDOOR_C, OUTDOOR_SPAN_K = 15.0, 15.0  # what makes each part of the context about one
NOISE_KW = 0.5
HELD = "bandit: to hold was drawn"


def context(view: View) -> F64:
    """Weather, load against its first average, the warmest row's heat; unknown counts as usual."""
    load, usual = view.number("prompts_ps"), float(view.belief.origin[HALL.index("prompts_ps")])
    heat = max(
        (f.heat for k, f in view.case.state.findings.items() if k.startswith("row:")), default=0.0
    )
    parts = (
        (view.number("outdoor_c") - OUTDOOR_C) / OUTDOOR_SPAN_K,
        load / usual - 1.0 if usual else 0.0,
        min(max(heat, 0.0), 3.0),
    )
    return np.array([1.0, *(float(p) if np.isfinite(p) else 0.0 for p in parts)])


def fresh(kw: float) -> Gaussian:
    """Nothing learned yet of what a kind of move brings beside its prediction. kw: what is usual."""
    sigma = np.full(len(CONTEXT), 0.2 * kw)
    return Gaussian.prior(np.zeros(len(CONTEXT)), sigma, 0.01 * sigma)


def drawn(view: View, ranked: Sequence[Candidate], cycle: str) -> list[Candidate]:
    """The candidates with the arms' chances; of the arms only the one drawn stays free."""
    arms = [i for i, c in enumerate(ranked) if c.knob.move in MOVES_OF_WORK and c.against is None]
    out = list(ranked)
    if not arms or any(ranked[i].relieves is not None for i in arms):
        return out  # too slow is no matter of chance
    x, state = context(view), view.case.state
    worth = [c.score_kw + _beside(state, c.knob.move, x) for c in (ranked[i] for i in arms)]
    chance = chances(np.array([*worth, 0.0]))
    rng = np.random.default_rng([abs(state.seed), crc32(cycle.encode())])
    at = int(rng.choice(len(chance), p=chance))
    for n, i in enumerate(arms):
        other = HELD if at == len(arms) else f"bandit: {ranked[arms[at]].knob.name} was drawn"
        out[i] = replace(ranked[i], chance=float(chance[n]), against=None if n == at else other)
    return out


def chances(worth: F64) -> F64:
    """The chance of each arm, by its worth: all but EXPLORE of it is the best's. Sums to 1."""
    even = EXPLORE / len(worth)
    return np.where(np.arange(len(worth)) == worth.argmax(), 1.0 - EXPLORE + even, even)


def _beside(state: ControlState, move: str, x: F64) -> float:
    """What moves of this kind saved beside what was predicted, kW."""
    known = state.bandit.get(move)
    return known.predict(x)[0] if known is not None else 0.0


def learned(
    view: View, state: ControlState, judged: Sequence[tuple[Verification, float]]
) -> ControlState:
    """The state after moves were judged: (verification, realised kW); moves of cooling teach nothing."""
    bandit: Mapping[str, Gaussian] = state.bandit
    for v, realised_kw in judged:
        move, predicted_kw = v.proposal.move, v.effect.total_power_kw
        if move in MOVES_OF_WORK and np.isfinite(realised_kw):
            usual = max(abs(predicted_kw), NOISE_KW)
            now = learn(
                bandit.get(move, fresh(usual)), context(view), predicted_kw - realised_kw, NOISE_KW
            )
            bandit = {**bandit, move: now}
    return state if bandit is state.bandit else replace(state, bandit=bandit)


@dataclass(frozen=True, slots=True)
class Logged:
    """One logged choice: its context, each arm's chance and predicted saving in kW, the arm chosen, and
    what it saved."""

    x: F64
    chances: F64
    predicted_kw: F64
    chosen: int
    saved_kw: float


def off_policy(logged: Sequence[Logged], target: Callable[[Logged], F64]) -> tuple[float, float]:
    """(mean, standard error) in kW a choice that another policy would have saved, doubly robust.

    target: a choice's chances of each arm, (arms,). Right if predictions or logged chances are.
    """
    values = []
    for one in logged:
        wanted = target(one)
        weight = wanted[one.chosen] / one.chances[one.chosen]
        surprise = one.saved_kw - one.predicted_kw[one.chosen]
        values.append(float(wanted @ one.predicted_kw) + weight * surprise)
    if not values:
        return float("nan"), float("nan")
    return float(np.mean(values)), float(np.std(values) / np.sqrt(len(values)))
