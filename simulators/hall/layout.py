"""Where things stand: rows, racks, CRAC units, and how rows and racks differ.

Two small tables decide everything; no random numbers.
"""

from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Number = TypeVar("Number", float, Array)  # one value, or one of each future

RACKS_PER_ROW: Final = 12
CRACS_PER_ROW: Final = 2


@dataclass(frozen=True, slots=True)
class Row:
    """How one row differs (engineering judgement; a hall is never uniform).

    recirculation: hot air drawn in at exact supply; energy: energy a prompt, 1 = nominal;
    speed: prompts a node, 1 = nominal; plenum_gain: supply air's gain, 1 = nominal;
    liquid: first rack (1..12) with cold plates, 13 = none.
    """

    id: str
    recirculation: float
    energy: float
    speed: float
    plenum_gain: float
    liquid: int = 13


ROW_TABLE: Final = (
    Row("A", 0.060, 0.98, 1.01, 0.8),
    Row("B", 0.055, 0.97, 1.01, 0.8, liquid=7),
    Row("C", 0.085, 1.00, 1.00, 1.2),
    Row("D", 0.070, 1.05, 0.98, 1.0),
    Row("E", 0.060, 1.00, 1.00, 0.8),
    Row("F", 0.095, 1.01, 1.00, 1.5),
)

# Rack 01..12: share of the row's load, and recirculation against the row's (row ends are worse).
RACK_LOAD: Final = (0.95, 1.00, 1.04, 1.05, 0.92, 0.93, 1.03, 1.06, 1.02, 1.04, 1.00, 0.96)
RACK_RECIRCULATION: Final = (1.7, 1.2, 1.0, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 1.0, 1.2, 1.7)

ROWS: Final = tuple(r.id for r in ROW_TABLE)
RACKS: Final = tuple(f"{r}{n:02d}" for r in ROWS for n in range(1, RACKS_PER_ROW + 1))
CRACS: Final = tuple(f"crac-{r.lower()}{n}" for r in ROWS for n in range(1, CRACS_PER_ROW + 1))
RACK_INDEX: Final = {rack: i for i, rack in enumerate(RACKS)}
CRAC_INDEX: Final = {crac: i for i, crac in enumerate(CRACS)}
ROW_INDEX: Final = {row: i for i, row in enumerate(ROWS)}

N_ROWS: Final = len(ROWS)
N_RACKS: Final = len(RACKS)
N_CRACS: Final = len(CRACS)


def per_rack(row_values: Array) -> Array:
    """Repeat one value a row for its racks: shape (..., 6) -> (..., 72)."""
    return np.repeat(row_values, RACKS_PER_ROW, axis=-1)


def by_row(values: Array) -> Array:
    """Racks or CRAC units by row: shape (..., 72) -> (..., 6, 12), (..., 12) -> (..., 6, 2)."""
    return values.reshape(*values.shape[:-1], N_ROWS, -1)


def rack_load() -> Array:
    """Return each rack's load against the mean of its row; shape (72,), mean 1."""
    load: Array = np.asarray(RACK_LOAD) / np.mean(RACK_LOAD)
    return np.tile(load, N_ROWS)


def rack_recirculation() -> Array:
    """Return the share of hot air each rack draws in at exact supply; shape (72,)."""
    rows = np.asarray([r.recirculation for r in ROW_TABLE])
    whole: Array = per_rack(rows) * np.tile(np.asarray(RACK_RECIRCULATION), N_ROWS)
    return whole


def rack_liquid(fraction: float) -> Array:
    """Return the share of each rack's GPU heat that goes to water; shape (72,)."""
    place = np.arange(1, RACKS_PER_ROW + 1)
    rows = [np.where(place >= r.liquid, fraction, 0.0) for r in ROW_TABLE]
    whole: Array = np.concatenate(rows)
    return whole
