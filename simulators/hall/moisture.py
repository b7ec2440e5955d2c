"""Moisture of the hall's air: fresh air, coils that condense, a steam humidifier.

Decides room humidity and what it costs: chilled water below the room's dew point dries air
that the humidifier must wet again in winter.
"""

import numpy as np

from simulators.hall.constants import Constants
from simulators.hall.layout import Array
from simulators.hall.weather import dew_point_c, humidity_pct, moisture_kg_kg

LATENT_KJ_KG = 2500.0


class Moisture:
    """One well-mixed store of water vapour; what changes has shape (..., 1)."""

    def __init__(self, k: Constants, outdoor_kg_kg: float) -> None:
        self._k = k
        low = moisture_kg_kg(k.humidifier_dew_c, 100.0)
        room = max(low, min(outdoor_kg_kg, moisture_kg_kg(12.0, 100.0)))
        self._low = low
        self.room_kg_kg = np.asarray([room])
        self.latent_kw = np.zeros(1)
        self.humidifier_kw = np.zeros(1)

    def step(
        self, dt_s: float, outdoor_kg_kg: float, air_kg_s: Array, leaving_c: Array, water_c: Array
    ) -> None:
        """Advance. air_kg_s crosses coils that it leaves at `leaving_c`, with water at `water_c`."""
        k = self._k
        surface_c = leaving_c - k.coil_dew_fraction * (leaving_c - water_c)
        excess = np.maximum(0.0, self.room_kg_kg - moisture_kg_kg(surface_c, 100.0))
        # Implicit in the coil term: air crosses the coils many times within a step.
        rate = air_kg_s * 0.5
        condensed = np.minimum(rate, k.room_air_kg / dt_s * 0.2) * excess
        fresh = k.fresh_air_kg_s * (outdoor_kg_kg - self.room_kg_kg)
        short = np.maximum(0.0, (self._low - self.room_kg_kg) * k.room_air_kg / 300.0 * 1000.0)
        steam_gps = np.minimum(k.humidifier_max_gps, short)
        gained = dt_s * (fresh - condensed + steam_gps / 1000.0) / k.room_air_kg
        self.room_kg_kg = self.room_kg_kg + gained
        self.latent_kw = condensed * LATENT_KJ_KG
        self.humidifier_kw = steam_gps * k.humidifier_kw_per_gps

    @property
    def dew_point_c(self) -> float:
        """Dew point of the room's air."""
        return dew_point_c(float(self.room_kg_kg[0]))

    def humidity_pct(self, temperature_c: float) -> float:
        """Relative humidity of the room's air once at `temperature_c`."""
        return humidity_pct(temperature_c, float(self.room_kg_kg[0]))
