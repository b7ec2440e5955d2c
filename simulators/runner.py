"""Runs a hall and its devices, paced by wall clock times speed, until its hours are over.

A host that lags slows simulated time down; no step is ever skipped.
"""

import asyncio
import json
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from simulators.devices.base import free_port
from simulators.hall import Hall
from simulators.park import Park
from simulators.secrets import Secrets, from_environment
from simulators.site import BACNET_CLIENT_OFFSET
from simulators.site_file import Places, write_site
from simulators.world import World

_CATCH_UP_S = 0.25  # how much lag is made up for; the rest slows the hall down


@dataclass(frozen=True, slots=True)
class Options:
    """What `python -m simulators` was asked for."""

    scenario: str
    seed: int
    speed: float
    hours: float | None
    warmup_s: float
    step_s: float
    day: float | None
    start_hour: float | None
    trace: str | None
    port_base: int
    write_config: Path | None
    summary: Path | None
    as_json: bool
    stay: bool = False
    post: str | None = None


def make_hall(o: Options) -> Hall:
    """Return the hall the options describe. ValueError for what it doesn't know."""
    return Hall(
        seed=o.seed, scenario=o.scenario, hours=o.hours, step_s=o.step_s, day=o.day,
        start_hour=o.start_hour, trace=o.trace, warmup_s=o.warmup_s,
    )  # fmt: skip


async def pace(world: World, speed: float, stop: asyncio.Event) -> None:
    """Step the world until its end or `stop`."""
    period = world.hall.step_s / speed
    due = stepped = time.monotonic()
    world.phase = lambda: (time.monotonic() - stepped) / period
    while not stop.is_set():
        due = max(due + period, time.monotonic() - _CATCH_UP_S)
        wait = due - time.monotonic()
        if wait > 0:
            try:
                await asyncio.wait_for(stop.wait(), wait)
                return
            except TimeoutError:
                pass
        else:
            await asyncio.sleep(0)
        try:
            world.step()
            stepped = time.monotonic()
        except StopIteration:
            return


class Report:
    """Lines for people, or JSON lines on stdout with the people's lines on stderr."""

    def __init__(self, as_json: bool) -> None:
        self._json = as_json

    def say(self, text: str) -> None:
        """Tell people."""
        print(text, file=sys.stderr if self._json else sys.stdout, flush=True)

    def warn(self, text: str) -> None:
        """Tell people, never on stdout."""
        print(text, file=sys.stderr, flush=True)

    def event(self, name: str, **about: object) -> None:
        """Tell programs."""
        if self._json:
            print(json.dumps({"event": name, **about}), flush=True)


def _announce(report: Report, park: Park, o: Options) -> None:
    hall = park.world.hall
    places = park.describe()
    control = park.control.device.url
    report.say(
        f"hall of 72 racks: scenario {hall.scenario}, seed {hall.seed}, {o.speed:g}x real time,"
        f" simulated time {hall.utc:%Y-%m-%d %H:%M} UTC"
    )
    for name, about in places.items():
        report.say(f"  {name:<9} {about['protocol']:<14} {about['address']}")
    report.say(f"  control   http           {control}  (/state /truth /wire /scenario /devices)")
    report.event("ready", control=control, devices=places, utc=hall.utc.isoformat())


def _write_config(report: Report, park: Park, path: Path, secrets: Secrets) -> None:
    base = park.port_base
    port = base + BACNET_CLIENT_OFFSET if base else free_port("127.0.0.2")
    api = next((f"{d.host}:{d.port}" for d in park.devices if d.protocol == "push"), "")
    places = Places(f"127.0.0.2:{port}", park.control.device.url, api)
    for line in write_site(path, park.devices, secrets, places):
        report.warn(line)


async def run(o: Options) -> int:
    """Run until the hours are over or a signal comes. Returns the exit code."""
    report = Report(o.as_json)
    try:
        world = World(make_hall(o))
        secrets = from_environment()
        park = Park(world, secrets, o.port_base, o.post)
    except (ValueError, OSError) as error:
        report.warn(f"skadi sim: {error}")
        return 2
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await park.start()
    except OSError as error:
        report.warn(f"skadi sim: {error}")
        return 1
    try:
        if o.write_config is not None:
            _write_config(report, park, o.write_config, secrets)
        _announce(report, park, o)
        await pace(world, o.speed, stop)
        truth = world.hall.truth()
        if o.stay and not stop.is_set():
            report.event("over", truth=truth)
            await stop.wait()  # devices answer on; the account is closed
    finally:
        await park.stop()
    if o.summary is not None:
        o.summary.write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8")
    report.event("end", truth=truth)
    report.say(_closing(truth))
    return 0


def _closing(truth: dict[str, object]) -> str:
    wh, pue = truth["wh_per_prompt"], truth["pue"]
    if not isinstance(wh, float) or not isinstance(pue, float):
        return "nothing metered"
    return (
        f"metered {truth['hours']:.2f} h: {wh:.3f} Wh/prompt, PUE {pue:.3f},"
        f" worst inlet {truth['worst_inlet_c']:.1f} degC,"
        f" {truth['minutes_over_limit']:.1f} min over a limit"
    )
