"""Halls and parks for the tests of the simulators."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from simulators.hall import Hall
from simulators.hall.layout import CRACS, ROWS
from simulators.park import Park
from simulators.secrets import Secrets
from simulators.world import World

SECRETS = Secrets(
    "test-community",
    "auth-password-1",
    "priv-password-1",
    "push-token-0123456",
    "api-token-0123456",
)


def everywhere(
    *,
    supply_c: float | None = None,
    fan_pct: float | None = None,
    pump_pct: float | None = None,
    water_c: float | None = None,
    window_ms: float | None = None,
) -> dict[str, float]:
    """The same setpoints for all units."""
    wanted: dict[str, float | None] = {
        **{f"{c}/supply_air_setpoint_c": supply_c for c in CRACS},
        **{f"{c}/fan_rpm_setpoint_pct": fan_pct for c in CRACS},
        **{f"pump-{r.lower()}/pump_rpm_setpoint_pct": pump_pct for r in ROWS},
        "bms/chilled_water_setpoint_c": water_c,
        "router/batch_window_ms": window_ms,
    }
    return {name: value for name, value in wanted.items() if value is not None}


def run(setpoints: Mapping[str, float] | None = None, **arguments: Any) -> dict[str, Any]:
    """Run a hall to its end with constant setpoints; return its account."""
    hall = Hall(**{"hours": 2, "step_s": 30, **arguments})
    changes = dict(setpoints or {})
    while not hall.over:
        hall.step(hall.step_s, changes)
        changes = {}
    return dict(hall.truth())


@asynccontextmanager
async def running_park(**arguments: Any) -> AsyncIterator[Park]:
    """A park on free ports; the caller steps its world."""
    park = Park(World(Hall(**arguments)), SECRETS, port_base=0)
    await park.start()
    try:
        yield park
    finally:
        await park.stop()
