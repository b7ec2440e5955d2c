"""Scoring a table row by row, as the agent would have seen it: IMS, then MMS.

Decides nothing itself: it carries the two states from row to row. Streaming and causal: a row's
result is handed out before the next row is asked for. One unit; a table of many racks is
scored rack by rack.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from agent.table import Row
from control import ims, mms
from control.ims_model import ImsModel

TOP = 3
_STRANGER = np.array([-1], dtype=np.intp)


@dataclass(frozen=True, slots=True)
class Scored:
    """One row's result: `deviation` and `ema` are None where the row is unknown.

    `state` is one of mms.STATE_NAMES; `top` the up to three features that contribute most.
    """

    number: int
    deviation: float | None
    ema: float | None
    state: str
    unknown: bool
    top: tuple[str, ...]
    why: str


def score_rows(model: ImsModel, rows: Iterable[Row], params: mms.MmsParams) -> Iterator[Scored]:
    """Score `rows`, whose values are the model's features in its order, one after the other."""
    ims_state: ims.ImsState | None = None
    mms_state = mms.start(1, 0.0)
    spacing_s = model.row_s or 1.0
    for row in rows:
        if ims_state is None:
            ims_state = ims.start(model, 1)
        now_s = row.number * spacing_s if row.time_s is None else row.time_s
        may_learn = mms_state.state == mms.NOMINAL
        x = row.values[None, :]
        ims_state, scores = ims.observe(model, ims_state, x, _STRANGER, may_learn)
        mms_state = mms.step(
            params, mms_state, scores.deviation, scores.unknown,
            model.tau_fast, model.tau_persist, now_s,
        )  # fmt: skip
        unknown = bool(scores.unknown[0])
        yield Scored(
            row.number,
            None if unknown else float(scores.deviation[0]),
            None if unknown else float(mms_state.ema[0]),
            mms.STATE_NAMES[int(mms_state.state[0])],
            unknown,
            tuple(name for name, _ in ims.top_contributors(model, scores, 0, TOP)),
            mms.explain(params, mms_state, 0, model.tau_fast, model.tau_persist),
        )


HEADER = "deviation,ema,state,unknown,top1,top2,top3"


def as_csv(scored: Scored) -> str:
    """One line of the output table, in the order of HEADER; names are quoted where needed."""
    numbers = ["" if v is None else f"{v:.6g}" for v in (scored.deviation, scored.ema)]
    names = [*scored.top, *[""] * (TOP - len(scored.top))]
    cells = [*numbers, scored.state, str(int(scored.unknown)), *map(_quoted, names)]
    return ",".join(cells)


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if set(text) & set(',"\n\r') else text


def tally(state_counts: dict[str, int], scored: Scored) -> None:
    """Count a row's state, in place."""
    state_counts[scored.state] = state_counts.get(scored.state, 0) + 1


def window(rows: Iterable[Row], start: int = 0, count: int | None = None) -> Iterator[Row]:
    """The rows from number `start` on, at most `count` of them; reading ends with the last."""
    end = np.inf if count is None else start + count
    for row in rows:
        if row.number >= start:
            yield row
        if row.number + 1 >= end:
            return
