"""What a replay would have saved, and two of them beside each other: models, or releases of Skadi.

Decides what a wish is worth: its predicted kW, once, for as long as it is not wished for again in
the same place, at most HOLD_S. The hall does not answer in a replay, so this is the worth of first
steps, modelled; doubt adds up within a knob (one coefficient) and in squares between knobs.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot
from pathlib import Path
from typing import Any

HOLD_S = 1_800.0
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Wish:
    """A proposal that only the mode kept from being done. kW: negative saves."""

    at_s: float
    move: str
    scope: str
    kw: float
    sigma_kw: float


def saving(wishes: Sequence[Wish], until_s: float) -> Json:
    """kWh with its 95 % interval."""
    kwh, doubt = 0.0, dict[tuple[str, str], float]()
    for i, wish in enumerate(wishes):
        knob = wish.move, wish.scope
        again = (w.at_s for w in wishes[i + 1 :] if (w.move, w.scope) == knob)
        hours = (min(next(again, until_s), until_s, wish.at_s + HOLD_S) - wish.at_s) / 3_600.0
        kwh -= wish.kw * hours
        doubt[knob] = doubt.get(knob, 0.0) + wish.sigma_kw * hours
    half = 1.96 * hypot(*doubt.values())
    return {"source": "modelled", "unit": "kWh", "kwh": kwh, "low": kwh - half, "high": kwh + half,
            "steps": len(wishes), "against": "leaving every setpoint where it was"}  # fmt: skip


def difference(ours: Json, theirs: Json) -> Json:
    """How much more the first would have saved, as if the two doubts were independent."""
    half = hypot(ours["high"] - ours["kwh"], theirs["high"] - theirs["kwh"])
    more = ours["kwh"] - theirs["kwh"]
    return {"unit": "kWh", "kwh": more, "low": more - half, "high": more + half}


def earlier(path: Path) -> Json | None:
    """The saving in what `skadi replay --json` printed; None for another JSON file (a model).

    Raises ValueError, OSError.
    """
    found = json.loads(path.read_text(encoding="utf-8"))
    told = found.get("saving") if isinstance(found, dict) else None
    if told is None:
        return None
    try:
        return {k: float(told[k]) for k in ("kwh", "low", "high")}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"its saving is not one: {error}") from error
