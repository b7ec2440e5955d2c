"""Outdoor air over a year: a season, a day, and fronts that pass, by seed.

Decides dry bulb, humidity and wet bulb at an instant; nothing about the hall. Wet bulb
after Stull (2011), J. Appl. Meteorol. Climatol. 50, 2267; saturation after Magnus
(coefficients of WMO guide no. 8).
"""

import math
from dataclasses import dataclass

import numpy as np

from simulators.hall.constants import Constants
from simulators.hall.layout import Number

DAY_S = 86_400.0
YEAR_DAYS = 365.25
_FRONTS = ((2.7, 0.6), (4.6, 0.8), (9.1, 0.7))  # period in days, share of front_swing_c


@dataclass(frozen=True, slots=True)
class Outdoor:
    """Outdoor air: dry bulb, relative humidity, wet bulb and moisture."""

    dry_c: float
    humidity_pct: float
    wet_c: float
    moisture_kg_kg: float


def saturation_pa(temperature_c: Number) -> Number:
    """Return the saturation pressure of water vapour, in Pa (Magnus)."""
    pressure: Number = 611.2 * np.exp(17.62 * temperature_c / (243.12 + temperature_c))
    return pressure


def moisture_kg_kg(temperature_c: Number, humidity_pct: float) -> Number:
    """Return kg of water a kg of dry air at sea level."""
    vapour = saturation_pa(temperature_c) * humidity_pct / 100.0
    return 0.622 * vapour / (101_325.0 - vapour)


def humidity_pct(temperature_c: float, moisture: float) -> float:
    """Return the relative humidity (%) of air that holds `moisture` kg/kg, at most 100."""
    vapour = 101_325.0 * moisture / (0.622 + moisture)
    return min(100.0, 100.0 * vapour / saturation_pa(temperature_c))


def dew_point_c(moisture: float) -> float:
    """Return the dew point of air that holds `moisture` kg/kg."""
    x = math.log(max(101_325.0 * moisture / (0.622 + moisture), 1.0) / 611.2)
    return 243.12 * x / (17.62 - x)


def wet_bulb_c(dry_c: float, humidity: float) -> float:
    """Return the wet bulb temperature (Stull 2011), never above dry bulb."""
    rh = max(humidity, 5.0)
    wet = (
        dry_c * math.atan(0.151977 * math.sqrt(rh + 8.313659))
        + math.atan(dry_c + rh)
        - math.atan(rh - 1.676331)
        + 0.00391838 * rh * math.sqrt(rh) * math.atan(0.023101 * rh)
        - 4.686035
    )
    return min(wet, dry_c)


class Weather:
    """Outdoor air as a function of time; the same seed gives the same year."""

    def __init__(self, constants: Constants, seed: int) -> None:
        self._k = constants
        self._phases = np.random.default_rng([seed, 1]).uniform(0.0, 2 * math.pi, len(_FRONTS))

    def at(self, year_s: float, offset_c: float = 0.0) -> Outdoor:
        """Return the outdoor air `year_s` seconds (UTC) into the year, `offset_c` warmer."""
        k = self._k
        day = year_s / DAY_S
        hour = (year_s / 3600.0 + k.utc_offset_h) % 24.0
        season = math.cos(2 * math.pi * (day - k.year_peak_day) / YEAR_DAYS)
        daily = math.cos(2 * math.pi * (hour - k.day_peak_h) / 24.0)
        fronts = sum(
            share * math.sin(2 * math.pi * day / period + phase)
            for (period, share), phase in zip(_FRONTS, self._phases, strict=True)
        )
        mean_c = k.year_mean_c + k.year_swing_c * season + k.front_swing_c * fronts
        dew_c = mean_c - k.dew_depression_k - k.dew_depression_season_k * season
        dry_c = mean_c + (k.day_swing_c + k.day_swing_season_c * season) * daily + offset_c
        dew_c = min(dew_c, dry_c)
        rh = min(100.0, 100.0 * saturation_pa(dew_c) / saturation_pa(dry_c))
        return Outdoor(dry_c, rh, wet_bulb_c(dry_c, rh), moisture_kg_kg(dew_c, 100.0))
