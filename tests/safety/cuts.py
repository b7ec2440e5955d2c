"""P3 and P5: what a disk may hold when the power goes, when a sync fails, when it is full.

A process does the work of the agent's hands under fault.c (LD_PRELOAD), which writes down all it
does to its folder. From that, the folder as it may be after a power cut at any instant is built:
what was synced is there; of what was not, any part. Then `skadi release` runs on it, and the
devices, which kept what had reached them, must be left with nothing of ours.
"""

import asyncio
import os
import resource
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from agent import release
from agent.executor import Executor
from agent.journal import Journal
from config.site import Device
from control.types import Change, Ending, Permit, Proposal, Target
from drivers.gate import Gate, JournalError
from tests.safety.campaign import quiet
from tests.safety.checkers import wire
from tests.safety.checkers.field import Wrote
from tests.safety.kills import WANTED
from tests.safety.tally import Tally
from tests.safety.world import BridgeDriver, World, make_site

SITE = make_site()
ROOT = Path(__file__).parents[2]
SECTOR = 512
ROUNDS = 12
MARKS = "marks"


# -- the work that is traced


def work(folder: Path, full_bytes: int) -> None:
    """Rounds of changes, renewals and giving back; each write and each intent leaves a mark."""
    world = World(folder, SITE)
    marks = os.open(folder / MARKS, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    class Marked(BridgeDriver):
        async def write_raw(self, values: Mapping[str, float | None]) -> None:
            await super().write_raw(values)
            for key, value in values.items():
                os.write(marks, f"wire {key} {value}\n".encode())

    class Told(Journal):
        def intend(self, *args: object) -> int:
            number = super().intend(*args)  # type: ignore[arg-type]
            os.write(marks, f"intent {number}\n".encode())
            return number

    drivers = {n: Marked(SITE.device[n], f) for n, f in world.fields.items()}
    journal = Told(folder / "journal.db", lambda: ("boot", world.clock.boot_s()))
    if full_bytes:  # no file may grow beyond this from now on: EFBIG, as a full disk would refuse
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (full_bytes, full_bytes))
    hands = Executor(Gate(SITE.points, drivers, journal, lambda _p: True), SITE.points, world.clock)
    asyncio.run(_rounds(hands, world))


async def _rounds(hands: Executor, world: World) -> None:
    random = Random(5)
    for turn in range(ROUNDS):
        keys = random.sample(tuple(WANTED), random.randint(1, len(WANTED)))
        now_s = world.clock.now_s()
        changes = tuple(Change(k, None, _near(world, k, random)) for k in keys)
        proposal = Proposal(f"p{turn}", "slow", "m", changes, "r", expires_s=now_s + 900.0)
        _, undo = await hands.apply(Permit(proposal, f"c{turn}", now_s, now_s + 20.0))
        await hands.end(undo)
        with suppress(JournalError):
            hands.prolong(list(hands.held.values()))
        world.clock.advance(150.0)
        if random.random() < 0.5:
            mine = sorted(hands.held)[: random.randint(0, 5)]
            await hands.end([Ending(k, Target.BASELINE, "done") for k in mine])


def _near(world: World, key: str, random: Random) -> float:
    limits, now = world.limits[key], world.fields[key.partition("/")[0]].cells[key].present()
    value = now + random.choice((-0.7, 0.4, 0.8)) * limits.step
    return min(max(round(value, 3), limits.low), limits.high)


# -- what a disk may hold


@dataclass(slots=True)
class File:
    """One file: what is surely on the disk, and what was done since the last sync."""

    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)  # None: cut to this size

    def content(self, random: Random | None) -> bytes:
        """What may be there: of what is pending any sectors, or (without `random`) none."""
        found = bytearray(self.durable)
        for at, data in self.pending if random is not None else ():
            assert random is not None
            if data is None:
                if random.random() < 0.5:
                    del found[at:]
                continue
            for start in range(0, len(data), SECTOR):
                if random.random() < 0.5:
                    _put(found, at + start, data[start : start + SECTOR])
        return bytes(found)

    def sync(self) -> None:
        """All of it is on the disk."""
        for at, data in self.pending:
            if data is None:
                del self.durable[at:]
            else:
                _put(self.durable, at, data)
        self.pending.clear()


def _put(found: bytearray, at: int, data: bytes) -> None:
    if len(found) < at:
        found.extend(bytes(at - len(found)))
    found[at : at + len(data)] = data


@dataclass(slots=True)
class Disk:
    """A folder as the trace leaves it. names: as the process sees them; durable: as on the disk."""

    folder: str
    names: dict[str, File] = field(default_factory=dict)
    durable: dict[str, File] = field(default_factory=dict)
    history: list[dict[str, File]] = field(default_factory=list)  # of names, since the last sync

    def take(self, what: str, name: str, offset: int, data: bytes) -> None:
        """One record of the trace."""
        match what:
            case "O":
                file = self.names.setdefault(name, File())
                if offset:
                    file.pending.append((0, None))
                self._renamed()
            case "W":
                self.names[name].pending.append((offset, data))
            case "T":
                self.names[name].pending.append((offset, None))
            case "R":
                self.names[data.decode()] = self.names.pop(name)
                self._renamed()
            case "U":
                self.names.pop(name, None)
                self._renamed()
            case "S" if name == self.folder:
                self.durable, self.history = dict(self.names), []
            case "S":
                self.names[name].sync()

    def _renamed(self) -> None:
        self.history.append(dict(self.names))

    def lay(self, target: Path, random: Random | None) -> None:
        """Write the folder as it may be after the power went."""
        entries = self.durable
        if random is not None and self.history and random.random() < 0.5:
            entries = random.choice(self.history)
        for name, file in entries.items():
            relative = Path(name).relative_to(self.folder)
            if relative.name != MARKS and not relative.name.endswith("-shm"):
                (target / relative).write_bytes(file.content(random))


def records(trace: bytes) -> Iterator[tuple[str, str, int, bytes]]:
    """The records of a trace."""
    at = 0
    while at < len(trace):
        what = chr(trace[at])
        (n,) = struct.unpack_from("<I", trace, at + 1)
        name = trace[at + 5 : at + 5 + n].decode()
        offset, m = struct.unpack_from("<QI", trace, at + 5 + n)
        begin = at + 5 + n + 12
        yield what, name, offset, trace[begin : begin + m]
        at = begin + m


# -- the judge


@dataclass(slots=True)
class Instant:
    """What was told by then: the values on the wire, and the last intent that was acknowledged."""

    wrote: list[tuple[str, float | None]] = field(default_factory=list)
    intent: int = 0

    def hear(self, text: str) -> bool:
        """A mark; True when something reached a device."""
        word, _, rest = text.partition(" ")
        if word == "intent":
            self.intent = int(rest)
            return False
        key, _, value = rest.partition(" ")
        self.wrote.append((key, None if value == "None" else float(value)))
        return True


def judge(folder: Path, instant: Instant) -> list[str]:
    """Release on what the disk holds; what is wrong then."""
    world = World(folder, SITE)
    for key, value in instant.wrote:
        world.fields[key.partition("/")[0]].write({key: value}, 12)
    broken = _lost(folder, instant)

    def driver(device: Device, _environ: object) -> BridgeDriver:
        return BridgeDriver(device, world.fields[device.id])

    release.make_driver = driver  # type: ignore[assignment]
    world.clock.advance(3600.0)
    try:
        done = asyncio.run(release.release(folder / "journal.db", {}, world.clock))
    except JournalError as error:
        return [*broken, f"release: {error}"]
    broken += [f"release left {k}: {why}" for k, why in done.left.items()]
    log: list[Wrote] = world.log
    return broken + wire.left_behind(world.limits, log, world.holds())


def _lost(folder: Path, instant: Instant) -> list[str]:
    """P5: an intent that was acknowledged and is not in the log any more."""
    journal = Journal(folder / "journal.db")
    try:
        found = journal._query("SELECT max(seq) FROM entry")[0][0] or 0
    except sqlite3.Error as error:
        return [f"the log can't be read: {error}"]
    finally:
        journal.close()
    if journal.salvaged:
        return [f"corrupt after a power cut: {journal.salvaged}"]
    return [f"intent {instant.intent} was acknowledged, the log ends at {found}"] if found < instant.intent else []  # fmt: skip


def library(folder: Path) -> Path:
    """fault.c, compiled. Raises CalledProcessError with the compiler's words."""
    built = folder / "fault.so"
    if not built.exists():
        subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", str(built),
                        str(Path(__file__).with_name("fault.c")), "-ldl"], check=True)  # fmt: skip
    return built


def traced(folder: Path, name: str, full_bytes: int = 0, **environ: str) -> tuple[str, bytes]:
    """Do the work in a process of its own; (its folder, what it did to it)."""
    place = folder / name
    place.mkdir()
    env = {**os.environ, "LD_PRELOAD": str(library(folder)), "SKADI_FAULT_DIR": str(place),
           "SKADI_FAULT_TRACE": "/dev/stdout", **environ}  # fmt: skip
    done = subprocess.run([sys.executable, "-m", "tests.safety.cuts", str(place), str(full_bytes)],
                          env=env, cwd=ROOT, capture_output=True, check=False)  # fmt: skip
    if done.returncode != 0 and b"JournalError" not in done.stderr:
        raise RuntimeError(f"{name} ended with {done.returncode}: {done.stderr.decode()}")
    shutil.rmtree(place)
    return str(place), done.stdout


def cut(trace: Sequence[tuple[str, str, int, bytes]], at: int, folder: str) -> tuple[Disk, Instant]:
    """Disk and instant after the first `at` records."""
    disk, instant = Disk(folder), Instant()
    for what, name, offset, data in trace[:at]:
        disk.take(what, name, offset, data)
        if what == "W" and name.endswith(MARKS):
            instant.hear(data.decode().strip())
    return disk, instant


def cut_power(first: int, count: int, folder: Path, _jobs: int) -> Tally:
    """`count` cuts at random instants of one run, with random parts of what was not synced."""
    folder.mkdir(parents=True, exist_ok=True)
    tally, random = Tally(), Random(first)
    place, raw = traced(folder, "run")
    trace = list(records(raw))
    tally.figures["records"] = len(trace)
    for number in range(count):
        disk, instant = cut(trace, random.randint(1, len(trace)), place)
        target = folder / f"cut-{number}"
        target.mkdir()
        disk.lay(target, random)
        tally.broken += [f"seed {first}, cut {number}: {b}" for b in judge(target, instant)]
        tally.cases += 1
        tally.count("with something on the wire", bool(instant.wrote))
        shutil.rmtree(target)
    return tally


def fail_disk(first: int, count: int, folder: Path, _jobs: int) -> Tally:
    """The n-th sync fails, once or for good, and disks of every size: at each write that reached
    a device, the power goes and takes all that was not synced."""
    folder.mkdir(parents=True, exist_ok=True)
    tally, random = Tally(), Random(first)
    faults = [("fsync", n, stays) for n in range(1, 200) for stays in ("0", "1")]
    faults += [("full", size, "") for size in range(8192, 400_000, 4096)]
    chosen = random.sample(faults, min(count or 40, len(faults)))
    for number, (kind, size, stays) in enumerate(chosen):
        more = (
            {"SKADI_FAULT_FSYNC": str(size), "SKADI_FAULT_STAYS": stays} if kind == "fsync" else {}
        )
        place, raw = traced(folder, f"{kind}-{number}", 0 if more else size, **more)
        tally.count("disks that fill" if kind == "full" else "syncs that fail")
        disk, instant = Disk(place), Instant()
        for record in records(raw):
            disk.take(*record)
            if record[0] != "W" or not record[1].endswith(MARKS):
                continue
            if not instant.hear(record[3].decode().strip()):
                continue
            target = folder / "cut"
            target.mkdir()
            disk.lay(target, None)
            tally.broken += [f"{kind} {size} {stays}: {b}" for b in judge(target, instant)]
            tally.cases += 1
            shutil.rmtree(target)
    return tally


if __name__ == "__main__":
    quiet()  # stdout is the trace's
    work(Path(sys.argv[1]), int(sys.argv[2]))
