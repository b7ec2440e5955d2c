"""Two agents of one hall as processes on one PostgreSQL; the active is killed again and again.

    python -m tests.safety.pair_kills --kills 50 [--lease-s 3] [--freeze]

The device at the wire knows who wrote: a connection belongs to a process. Each child is the lease,
the journal, the gate and the driver of the agent, with a loop that writes all the time in place of
the hall's. --freeze: every fifth victim is stopped first, let go after the other has written, and
must stay silent; only then killed. Ends with 1 when there were two writers or a late takeover.
"""

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from weakref import WeakKeyDictionary

import psutil

from agent.clock import WallClock
from agent.executor import Executor
from agent.journal import Journal
from agent.notify import Notifier
from agent.pair import Pair, run_in_pair
from agent.release import release
from config.addresses import ModbusAddress
from config.schema import PairSection
from config.secrets import SecretRef
from config.site import Device, Point, Site, Writable
from control.types import Change, Kind, Permit, Proposal
from drivers.gate import Gate
from drivers.registry import make_driver
from tests.agent import make
from tests.agent.postgres import Lent, Postgres, database
from tests.drivers.modbus_peer import ModbusPeer
from tests.safety.checkers.writers import Write, one_writer, takeover_s

ROOT = Path(__file__).parents[2]
REGISTERS = range(3)
BASELINE = 200
MOST_S = 60.0


def crac(port: int) -> Device:
    """A cooling unit with three setpoints."""
    limits = Writable(160.0, 270.0, 100.0, 0.0, 0.0, 0.0, 10_000, 180.0, False)
    points = tuple(
        Point(f"crac/{i}", "crac", str(i), "supply_air_setpoint_c", "degC",
              ModbusAddress("holding", i, "uint16"), "crac", writable=limits) for i in REGISTERS
    )  # fmt: skip
    return Device(id="crac", protocol="modbus-tcp", host="127.0.0.1", port=port, points=points)


async def child(folder: str, url: str, port: int, lease_s: float) -> None:
    """One agent: standby until it has the lease, then it writes until it is killed."""
    site = make.site(folder, url=url, password=SecretRef(env="SKADI_TEST_PG"),
                     pair=PairSection(lease_s=lease_s))  # fmt: skip
    clock = WallClock()

    async def run(pair: Pair, lapsed: asyncio.Event) -> None:
        await write_all_the_time(pair, lapsed, crac(port), site, clock)

    await run_in_pair(Pair(site, clock, os.environ), Notifier({}), run)


async def write_all_the_time(
    pair: Pair, lapsed: asyncio.Event, device: Device, site: Site, clock: WallClock
) -> None:
    """What the agent does between start and stop, with many more changes."""
    path = Path(site.agent.data_dir) / "journal.db"
    await release(path, {}, clock, pair.fenced)
    journal, driver = Journal(path), make_driver(device, {})
    await driver.connect()
    points = {p.key: p for p in device.points}
    gate = Gate(points, {"crac": driver}, journal, lambda _p: pair.valid, pair.fenced)
    executor, number, dice = Executor(gate, points, clock), 0, random.Random(os.getpid())
    while not lapsed.is_set():
        number += 1
        key, now_s = f"crac/{dice.choice(REGISTERS)}", clock.now_s()
        change = Change(key, None, float(dice.randint(200, 240)))
        made = Proposal(f"p{number}", "slow", "test", (change,), "a test", Kind.NORMAL,
                        expires_s=now_s + 900)  # fmt: skip
        await executor.apply(Permit(made, "c", now_s, now_s + 20))
        pair.nudge("action", {})
        await asyncio.sleep(0.02)
    await driver.close()
    journal.close()


class Wire(ModbusPeer):
    """The device: every write with the process its connection belongs to."""

    def __init__(self) -> None:
        super().__init__()
        self.holding = dict.fromkeys(REGISTERS, BASELINE)
        self.log: list[Write] = []
        self._owners = WeakKeyDictionary[asyncio.StreamWriter, int]()

    async def _answer(self, head: bytes, pdu: bytes, writer: asyncio.StreamWriter) -> None:
        if pdu[0] in (5, 6, 15, 16, 22):
            at = time.monotonic()
            self.log.append(Write(at, self._owner(writer)))
        await super()._answer(head, pdu, writer)

    def _owner(self, writer: asyncio.StreamWriter) -> int:
        """The child at the other end, -1 if none is. Asked once a connection: a local port of one
        that is dead is soon another's."""
        if writer not in self._owners:
            ends = writer.get_extra_info("peername")[1], self.port
            for process in psutil.Process().children():
                with suppress(psutil.Error):
                    found = process.net_connections("tcp")
                    if any(c.raddr and (c.laddr.port, c.raddr.port) == ends for c in found):
                        self._owners[writer] = process.pid
        return self._owners.get(writer, -1)


class Campaign:
    """Two children and their device."""

    def __init__(self, folder: Path, server: Postgres | Lent, lease_s: float) -> None:
        self.folder, self.server, self.lease_s = folder, server, lease_s
        self.wire = Wire()
        self.children: dict[str, asyncio.subprocess.Process] = {}
        self.seconds: list[float] = []
        self.killed: dict[int, float] = {}  # process -> when
        self.broken: list[str] = []

    async def start(self, name: str) -> None:
        """Start an agent on its own host's folder."""
        arguments = (
            str(self.folder / name),
            self.server.url,
            str(self.wire.port),
            str(self.lease_s),
        )
        env = {"SKADI_TEST_PG": self.server.password, "PATH": "/usr/bin:/bin"}
        with (self.folder / f"{name}.log").open("ab") as log:
            self.children[name] = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.safety.pair_kills", "--child", *arguments,
                cwd=ROOT, env=env, stdout=log, stderr=log,
            )  # fmt: skip

    async def writes_of(self, pids: set[int], since: int) -> int:
        """Wait for a write of one of these; whose it is."""
        async with asyncio.timeout(MOST_S * 2):
            while True:
                found = [w.who for w in self.wire.log[since:] if w.who in pids]
                if found:
                    return found[-1]
                await asyncio.sleep(0.02)

    async def kill(self, freeze: bool) -> None:
        """Kill whoever writes; wait for the other; bring the dead one back as the standby."""
        pids = {p.pid: name for name, p in self.children.items()}
        active = await self.writes_of(set(pids), len(self.wire.log))
        await asyncio.sleep(random.uniform(0.0, 1.5))
        victim, since = self.children[pids[active]], len(self.wire.log)
        if freeze:
            psutil.Process(active).suspend()
        else:
            victim.kill()
        killed_s = self.killed[active] = time.monotonic()
        await self.writes_of(set(pids) - {active}, since)
        if freeze:
            del self.killed[active]
            psutil.Process(active).resume()
            await asyncio.sleep(self.lease_s)
            victim.kill()
            self.killed[active] = time.monotonic()
        took_s = takeover_s(self.wire.log, active, killed_s)
        assert took_s is not None
        self.seconds.append(took_s)
        await victim.wait()
        await self.start(pids[active])

    async def run(self, kills: int, freeze: bool) -> None:
        """So many kills; what was wrong is in `broken`."""
        async with self.wire:
            for name in ("one", "two"):
                await self.start(name)
            try:
                for i in range(kills):
                    await self.kill(freeze and i % 5 == 4)
            finally:
                for process in self.children.values():
                    process.kill()
                    await process.wait()
        self.broken += one_writer(self.wire.log, self.killed)
        self.broken += [f"takeover after {s:.1f} s" for s in self.seconds if s > MOST_S]
        self.broken += [f"{w.t_s:.3f} s: a write of nobody" for w in self.wire.log if w.who < 0]

    def __str__(self) -> str:
        worst = max(self.seconds, default=0.0)
        mean = sum(self.seconds) / max(len(self.seconds), 1)
        return (f"{len(self.seconds)} kills of the active, lease {self.lease_s:g} s: {len(self.wire.log)} writes,"
                f" takeover {mean:.1f} s on average, {worst:.1f} s at worst, {len(self.broken)} faults")  # fmt: skip


def main() -> int:
    """Run from the command line."""
    p = argparse.ArgumentParser(prog="pair_kills", description=__doc__)
    p.add_argument("--kills", type=int, default=50)
    p.add_argument("--lease-s", type=float, default=3.0)
    p.add_argument("--freeze", action="store_true")
    p.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.child:
        folder, url, port, lease_s = a.child
        asyncio.run(child(folder, url, int(port), float(lease_s)))
        return 0
    server = database()
    try:
        with tempfile.TemporaryDirectory() as folder:
            made = Campaign(Path(folder), server, a.lease_s)
            asyncio.run(made.run(a.kills, a.freeze))
    finally:
        server.remove()
    print(made, *made.broken[:20], sep="\n")
    return 1 if made.broken else 0


if __name__ == "__main__":
    sys.exit(main())
