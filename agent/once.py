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
    # What drivers import takes seconds on a small host: before any deadline runs, not within one.
    made = [_made(d, environ) for d in polled]
    results = await asyncio.gather(*(_read(d, clock) for d in made))
    # Whoever was silent is asked once more, when the others are done.
    silent = [
        i for i, r in enumerate(results) if isinstance(r, str) and not isinstance(made[i], str)
    ]
    again = await asyncio.gather(*(_read(_made(polled[i], environ), clock) for i in silent))
    for i, result in zip(silent, again, strict=True):
        results[i] = result
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


def _made(device: Device, environ: dict[str, str]) -> Driver | str:
    """The driver of a device, or why there is none."""
    try:
        return make_driver(device, environ)
    except DriverError as error:
        return str(error)


async def _read(driver: Driver | str, clock: WallClock) -> Sequence[Reading] | str:
    if isinstance(driver, str):
        return driver
    try:
        await driver.connect()
        readings = await driver.read(clock.now_s())
        rates = driver.device.protocol == "prometheus"
        if rates and any(r.quality is Quality.UNKNOWN for r in readings):
            await clock.sleep_s(SECOND_LOOK_S)
            readings = await driver.read(clock.now_s())
        return readings
    except DriverError as error:
        return str(error)
    finally:
        await driver.close()
