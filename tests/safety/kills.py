"""Kill -9 at every line of the write path, in a process that is nothing but executor, gate, journal and driver.

The devices live here, in the parent; the child speaks to them over a socket and is killed by
SIGKILL when it is about to execute the k-th line of gate, journal, seals, executor or driver.
Then `skadi release` runs on what the child has left on disk. Judged at the devices: no write
whose intent was not durable at that instant (P3), and nothing left behind (P4).
"""

import asyncio
import json
import os
import shutil
import signal
import socket
import sqlite3
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

from agent import executor, journal, release, sealed
from agent.clock import VirtualClock
from agent.executor import Executor
from agent.journal import Journal
from config.site import Device, Point
from control.types import Change, Ending, Permit, Present, Proposal, Target
from drivers import gate
from drivers.contract import Transient
from drivers.gate import Gate
from tests.safety.checkers import wire
from tests.safety.checkers.field import Wrote
from tests.safety.tally import Tally
from tests.safety.world import START_S, BridgeDriver, World, make_site

SITE = make_site()
# One point of each device, and where a permit would take it.
WANTED = {"crac-a1/supply": 19.8, "crac-a2/supply": 18.2, "pump/speed": 88.0, "bms/water": 8.4,
          "router/batch": 60.0}  # fmt: skip
TRACED = {gate.__file__, journal.__file__, sealed.__file__, executor.__file__, __file__}


@dataclass(slots=True)
class Points:
    """The failpoints of one run: each line of code, when it was first and last about to run."""

    first: dict[str, int] = field(default_factory=dict)
    last: dict[str, int] = field(default_factory=dict)

    def reached(self, place: str, number: int) -> None:
        """This line of code is the number-th that runs."""
        self.first.setdefault(place, number)
        self.last[place] = number


class WireDriver:
    """The driver contract over the socket to the parent: one line of JSON each way."""

    def __init__(self, device: Device, wire_: socket.socket) -> None:
        self.device, self._wire = device, wire_

    def _ask(self, **request: Any) -> Any:
        self._wire.sendall(json.dumps({"device": self.device.id, **request}).encode() + b"\n")
        answer = b""
        while not answer.endswith(b"\n"):
            got = self._wire.recv(65_536)
            if not got:
                raise Transient("the devices are gone")
            answer += got
        return json.loads(answer)

    async def present(self, points: Sequence[Point]) -> dict[str, Present]:
        found = self._ask(act="present", keys=[p.key for p in points])
        return {k: Present(*said) for k, said in found.items()}

    async def write_raw(self, values: Mapping[str, float | None]) -> None:
        self._ask(act="write", values=dict(values))


async def work(executor_: Executor, keys: Sequence[str], clock: VirtualClock) -> None:
    """What is interrupted: a change over all devices, a renewal, a second change, giving back."""
    for turn, factor in enumerate((1.0, 0.5)):
        holds = {k: _baseline(k) for k in keys}
        changes = tuple(Change(k, None, holds[k] + factor * (WANTED[k] - holds[k])) for k in keys)
        now_s = clock.now_s()
        proposal = Proposal(f"p{turn}", "slow", "test", changes, "a test", expires_s=now_s + 900.0)
        await executor_.apply(Permit(proposal, f"c{turn}", now_s, now_s + 20.0))
        executor_.prolong(list(executor_.held.values()))
        clock.advance(150.0)
    await executor_.end([Ending(k, Target.BASELINE, "done") for k in keys])


def _baseline(key: str) -> float:
    return LIMITS[key].baseline


LIMITS = World(Path("/nonexistent"), SITE).limits


def child(folder: Path, keys: Sequence[str], wire_: socket.socket, at_line: int) -> Points:
    """Run the work; die at the at_line-th line. Returns all lines of code that were reached."""
    lines, points = 0, Points()

    def trace(frame: FrameType, event: str, _arg: Any) -> Any:
        nonlocal lines
        if frame.f_code.co_filename not in TRACED:
            return None
        if event == "line":
            lines += 1
            points.reached(f"{frame.f_code.co_filename}:{frame.f_lineno}", lines)
            if lines == at_line:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    clock = VirtualClock(START_S)
    devices = {SITE.points[k].device for k in keys}
    drivers = {d: WireDriver(SITE.device[d], wire_) for d in devices}
    sys.settrace(trace)
    book = Journal(folder / "journal.db", lambda: ("boot", clock.boot_s()))
    doors = Gate(SITE.points, drivers, book, lambda _point: True)  # type: ignore[arg-type]
    asyncio.run(work(Executor(doors, SITE.points, clock), keys, clock))
    sys.settrace(None)
    return points


class House:
    """The devices, and what they saw."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.world = folder, World(folder, SITE)
        self.early: list[str] = []

    def serve(self, wire_: socket.socket) -> Points | None:
        """Answer the child until it is gone; the lines it has reached, None when it was killed."""
        with suppress(ConnectionError), wire_.makefile("rb") as file:
            for line in file:
                request = json.loads(line)
                if "first" in request:
                    return Points(**request)
                wire_.sendall(json.dumps(self._answer(request)).encode() + b"\n")
        return None

    def _answer(self, request: dict[str, Any]) -> Any:
        device = self.world.fields[request["device"]]
        if request["act"] == "present":
            return {k: device.read(k, 12) for k in request["keys"]}
        self._look(request["values"])
        device.write(request["values"], 12)
        return {}

    def _look(self, values: Mapping[str, float | None]) -> None:
        """P3: at this instant another process must find the intent on disk."""
        with sqlite3.connect(f"file:{self.folder / 'journal.db'}?mode=ro", uri=True) as db:
            rows = db.execute("SELECT body FROM entry WHERE kind = 'intent'").fetchall()
        told = {(x["point"], x["value"]) for (b,) in rows for x in json.loads(b)["leases"]}
        points = {p for p, _ in told}
        for key, value in values.items():
            if key not in points or (value is not None and (key, value) not in told):
                self.early.append(f"{key} = {value}: on the wire before its intent")

    def left(self) -> list[str]:
        """What the devices still hold of ours, and what else was broken."""
        log: list[Wrote] = self.world.log
        judged = wire.judge(self.world.limits, log, 120.0)
        return [*self.early, *judged.broken,
                *wire.left_behind(self.world.limits, log, self.world.holds())]  # fmt: skip


def one(folder: Path, count: int, at_line: int) -> tuple[House, Points | None]:
    """Kill at a line (0: not at all); then release. Returns the house and, not killed, the lines."""
    folder.mkdir()
    house, keys = House(folder), list(WANTED)[:count]
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        points = child(folder, keys, theirs, at_line)
        theirs.sendall(json.dumps(asdict(points)).encode() + b"\n")
        os._exit(0)
    theirs.close()
    with ours:
        reached = house.serve(ours)
    _, status = os.waitpid(pid, 0)
    if reached is None and (not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL):
        house.early.append(f"the child was not killed but ended with {status}")

    def driver(device: Device, _environ: object) -> BridgeDriver:
        return BridgeDriver(device, house.world.fields[device.id])

    release.make_driver = driver  # type: ignore[assignment]
    if reached is None:
        done = asyncio.run(release.release(folder / "journal.db", {}, house.world.clock))
        house.early += [f"release left {k}: {why}" for k, why in done.left.items()]
    return house, reached


def run(first: int, count: int, folder: Path, _jobs: int) -> Tally:
    """Every failpoint for 1..5 devices (count 0), or `count` random instants from seed `first`."""
    folder.mkdir(parents=True, exist_ok=True)
    tally, random = Tally(), Random(first)
    every: list[tuple[int, int]] = []
    lengths: dict[int, int] = {}
    for devices in range(1, len(WANTED) + 1):
        house, points = one(folder / f"whole-{devices}", devices, 0)
        assert points is not None
        tally.broken += [f"{devices} devices, no kill: {b}" for b in house.left()]
        every += [(devices, k) for k in points.first.values()]
        lengths[devices] = max(points.last.values())
        tally.figures["failpoints"] = len(points.first)
    every += [(devices, k) for k in points.last.values()]
    if count:
        sizes = [random.randint(1, len(WANTED)) for _ in range(count)]
        every = [(devices, random.randint(1, lengths[devices])) for devices in sizes]
    for number, (devices, at_line) in enumerate(every):
        place = folder / f"{first}-{number}"
        house, _ = one(place, devices, at_line)
        tally.broken += [f"{devices} devices, line {at_line}: {b}" for b in house.left()]
        tally.cases += 1
        tally.count("writes", len(house.world.log))
        shutil.rmtree(place)
    return tally
