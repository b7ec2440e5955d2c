"""When prompts arrive: a diurnal shape by default, or the shape of a recorded trace.

Decides the mean rate at an instant and draws what arrives in a step. A trace gives its
shape only: it is scaled to the hall's mean rate and repeated.
"""

import csv
import math
from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simulators.hall.constants import Constants
from simulators.hall.weather import DAY_S

# Requests a minute of the conversation part of the Azure LLM inference trace 2023 (Azure Public
# Dataset, CC-BY 4.0), its 58 whole minutes from 2023-11-16 18:15:46 UTC.
AZURE_CONVERSATION_PER_MIN: Final = (
    191, 265, 329, 353, 307, 273, 268, 261, 322, 298, 301, 302, 345, 326, 283, 279, 280, 308, 343,
    351, 351, 343, 408, 396, 386, 398, 432, 480, 476, 453, 448, 507, 438, 413, 423, 418, 465, 311,
    329, 316, 333, 355, 319, 360, 334, 375, 330, 249, 221, 249, 265, 280, 256, 254, 242, 260, 246,
    225,
)  # fmt: skip
_BIN_S = 60.0
_MAX_TRACE_BYTES = 200_000_000


def read_trace(path: Path) -> NDArray[np.float64]:
    """Return requests a minute from a CSV with a TIMESTAMP column (Azure LLM traces).

    Raises ValueError naming file and line for anything that is not such a file.
    """
    if path.stat().st_size > _MAX_TRACE_BYTES:
        raise ValueError(f"{path}: larger than {_MAX_TRACE_BYTES} bytes: cut it into hours")
    times: list[float] = []
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if "TIMESTAMP" not in (reader.fieldnames or ()):
            raise ValueError(f"{path}:1: no TIMESTAMP column: give an Azure LLM inference trace")
        for row in reader:
            try:
                times.append(datetime.fromisoformat(row["TIMESTAMP"][:26]).timestamp())
            except (TypeError, ValueError):
                raise ValueError(f"{path}:{reader.line_num}: TIMESTAMP is not a time") from None
    if not times or max(times) - min(times) < 2 * _BIN_S:
        raise ValueError(f"{path}: fewer than two minutes of requests")
    counts = np.bincount(((np.asarray(times) - min(times)) // _BIN_S).astype(np.int64))
    return counts[:-1].astype(np.float64)


class Arrivals:
    """Prompts that arrive in the hall, by time and seed."""

    def __init__(self, k: Constants, rng: np.random.Generator, shape: str) -> None:
        """`shape`: "diurnal", "azure" (built in) or the path of a trace."""
        self._k = k
        self._rng = rng
        self._noise = 0.0
        self._trace: NDArray[np.float64] | None = None
        if shape != "diurnal":
            counts = (
                np.asarray(AZURE_CONVERSATION_PER_MIN, float)
                if shape == "azure"
                else read_trace(Path(shape))
            )
            self._trace = counts / counts.mean()

    def mean_ps(self, year_s: float) -> float:
        """Return the expected prompts a second, noise apart."""
        if self._trace is not None:
            place = (year_s % (_BIN_S * len(self._trace))) / _BIN_S - 0.5
            low = math.floor(place)
            here, there = (
                self._trace[low % len(self._trace)],
                self._trace[(low + 1) % len(self._trace)],
            )
            return float(self._k.prompts_mean_ps * (here + (there - here) * (place - low)))
        k = self._k
        hour = (year_s % DAY_S) / 3600.0 + k.utc_offset_h - k.diurnal_peak_h
        turn = 2 * math.pi * hour / 24.0
        shape = 1.0 + k.diurnal_swing * math.cos(turn) + k.diurnal_second * math.sin(2 * turn)
        return k.prompts_mean_ps * shape

    def draw(self, year_s: float, dt_s: float, extra: float = 0.0) -> float:
        """Return the prompts that arrive in the next dt_s (a whole number), `extra` share more."""
        k = self._k
        keep = math.exp(-dt_s / k.arrival_noise_tau_s)
        shock = k.arrival_noise * math.sqrt(1.0 - keep * keep)
        self._noise = self._noise * keep + shock * float(self._rng.standard_normal())
        mean = self.mean_ps(year_s) * max(0.0, 1.0 + self._noise) * dt_s * (1.0 + extra)
        return float(self._rng.poisson(mean))
