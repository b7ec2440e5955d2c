"""Reads every point of a site once, without an agent: for commissioning and scripts.

Never writes to a device and never touches data_dir.
"""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import replace

from agent.clock import WallClock
from config.loader import site_environment
from config.site import Device, Point, Site
from control.types import Quality, Reading
from drivers.contract import Driver, DriverError
from drivers.registry import make_driver

SECOND_LOOK_S = 1.0  # rates and quantiles need two looks at a counter


async def read_all(
    site: Site, points: Sequence[Point] | None = None
) -> tuple[list[Reading], dict[str, str]]:
    """Read devices side by side: these points, or all. Returns readings in the order of the
    points, and what failed by device."""
    clock = WallClock()
    environ = site_environment(site.source, os.environ) if site.source else dict(os.environ)
    wanted = list(site.points.values()) if points is None else points
    polled = [
        replace(d, points=mine)
        for d in site.devices
        if d.protocol != "push" and (mine := tuple(p for p in wanted if p.device == d.id))
    ]
    results = await asyncio.gather(*(_read(d, environ, clock) for d in polled))
    failures = {d.id: r for d, r in zip(polled, results, strict=True) if isinstance(r, str)}
    by_point: dict[str, Reading] = {}
    for device, result in zip(polled, results, strict=True):
        if isinstance(result, str):
            lost = [_lost(p.key, clock, result) for p in device.points]
            by_point |= {r.point: r for r in lost}
        else:
            by_point |= {r.point: r for r in result}
    nothing = "pushed: nothing has arrived"
    return [by_point.get(p.key) or _lost(p.key, clock, nothing) for p in wanted], failures


def _lost(key: str, clock: WallClock, reason: str) -> Reading:
    return Reading(key, None, clock.now_s(), Quality.UNKNOWN, reason)


async def _read(
    device: Device, environ: dict[str, str], clock: WallClock
) -> Sequence[Reading] | str:
    driver: Driver | None = None
    try:
        driver = make_driver(device, environ)
        await driver.connect()
        readings = await driver.read(clock.now_s())
        if device.protocol == "prometheus" and any(r.quality is Quality.UNKNOWN for r in readings):
            await clock.sleep_s(SECOND_LOOK_S)
            readings = await driver.read(clock.now_s())
        return readings
    except DriverError as error:
        return str(error)
    finally:
        if driver is not None:
            await driver.close()
