"""One seeded scenario: a hall in which everything lies, fails, dies and interferes, for hours.

A rogue agent is the real one with its proposals replaced by nonsense and malice; what it then
does to the devices is judged at the wire (tests.safety.checkers) and by a shadow of its modes
(tests.safety.rogue). `python -m tests.safety.campaign` runs thousands.
"""

import asyncio
import math
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from agent.core import Agent
from agent.operations.table import Caller, call
from control.modes import Event
from control.types import Change, Effect, Kind, Proposal, Snapshot
from tests.safety.checkers import wire
from tests.safety.checkers.field import Field, Wrote
from tests.safety.rogue import KNOBS, MADE, SITE, Rogue, Shadow
from tests.safety.world import INTERVAL_S, World

TICK_S = 10.0
RELEASE_S = 60.0
HOST = Caller("ann", "cli", "engineer")
LEAK = "bms-in/leak"
GUARDED = frozenset(k for k in KNOBS if SITE.points[k].row == "B")  # by the hall's one interlock
INLETS = tuple(k for k, p in SITE.points.items() if p.quantity == "inlet_c")
NUMBERS = (math.nan, math.inf, -math.inf, 0.0, -1.0, 65_535.0, -32_768.0, 1e300, 5e-324)


class Crash(BaseException):
    """The process dies here."""


@dataclass(slots=True)
class Found:
    """What a scenario came to. lies: writes of which a register made something else; overrides:
    setpoints of ours that an operator took; shut, wet: ticks in which something might not be written, for
    want of arming or because of a leak."""

    seed: int
    broken: list[str] = field(default_factory=list)
    ticks: int = 0
    writes: int = 0
    changes: int = 0
    exempt: int = 0
    crashes: int = 0
    lies: int = 0
    overrides: int = 0
    shut: int = 0
    wet: int = 0
    trace: str = ""


class Scenario:
    """A run of `ticks` ticks of ten seconds from one seed."""

    def __init__(self, seed: int, ticks: int, folder: Path) -> None:
        self.random = Random(seed)
        self.found = Found(seed)
        self.ticks = ticks
        self.world = World(folder, SITE, made=MADE)
        self.shadow = Shadow()
        self.theirs: dict[str, int] = {}  # key -> length of the log when an operator took it
        self.silent_s: dict[str, float] = {}
        self.wet = False  # the leak was read, and nobody has reset its interlock since
        self.harm = self.random.choice((0.02, 0.1, 0.3))
        for driver in self.world.drivers.values():
            driver.turns = self.random.choice((0, 0, 1, 3))
            driver.pause = self._pause
        self.fatal = self.random.choice((0.0, 0.0, 0.003, 0.02))
        self.slow = self.random.choice((0.0, 0.0, 0.05))
        self.agent = self._start()

    def _start(self) -> Rogue:
        self.dead = False
        agent = self.world.start(Rogue)
        assert isinstance(agent, Rogue)
        agent.wanted = self._wanted
        return agent

    def _pause(self, device: str, act: str) -> None:
        """While a device is talked to, time passes, processes die, and operators act."""
        if self.dead:
            raise Crash("what else was running in the process")
        if self.random.random() < self.slow:
            self.world.clock.advance(self.random.choice((0.5, 3.0, 25.0)))
        # What a lying device made of a write can't be told from an operator's value by an agent
        # that died before it looked, whichever device it was busy with: P4 wants it given back,
        # P9 says that "a value set at the device is yielded to", and P9 wins.
        fields = self.world.fields
        doomed = self.random.random() < self.fatal and not fields[device].lies
        if doomed and not any(f.unproven for f in fields.values()):
            self.dead = True
            raise Crash(f"{device} {act}")
        # A register that an operator changes just now can't be told from a device that lies.
        slots = act == "written" and all(c.slots is not None for c in fields[device].cells.values())
        if slots and self.random.random() < self.harm * 0.2:
            self._operate(device)

    # -- what the rogue wants

    def _wanted(self, agent: Agent, cycle: str) -> list[Proposal]:
        snapshot = agent.snapshot()
        return [
            self._proposal(snapshot, f"{cycle}-{i}")
            for i in range(self.random.choice((0, 1, 1, 2, 4)))
        ]

    def _proposal(self, snapshot: Snapshot, name: str) -> Proposal:
        r = self.random
        keys = r.sample(KNOBS, r.choice((1, 1, 1, 2, 3)))
        if r.random() < 0.02:
            keys.append(r.choice((*INLETS, "no/such", keys[0])))
        changes = tuple(self._change(snapshot, k) for k in keys)
        kind = Kind.PROTECTIVE if r.random() < 0.25 else Kind.NORMAL
        effect = (
            Effect(inlet_c=r.choice((0.0, 0.2, -1.0, math.nan)), inlet_sigma_k=0.1)
            if r.random() < 0.1
            else Effect()
        )
        lease_s = r.choice((30.0, 300.0, 900.0, 1e9))
        now_s = self.world.clock.now_s()
        return Proposal(name, r.choice(("fast", "slow")), "rogue", changes, "mischief", kind,
                        "hall", effect, now_s + lease_s)  # fmt: skip

    def _change(self, snapshot: Snapshot, key: str) -> Change:
        r, point = self.random, SITE.points.get(key)
        old = snapshot.value(key)
        bounds = point.writable if point is not None else None
        if bounds is None or r.random() < 0.05:
            return Change(key, r.choice((old, None, 0.0, 20.0)), r.choice(NUMBERS))
        base = old if old is not None else bounds.min
        step = bounds.max_step * r.choice(
            (1.0, 1.0, 0.73, 0.31, 1.02, 4.0, -1.0, -0.57, -0.97, -8.0)
        )
        if r.random() < 0.05:
            old = base = base + r.choice((1.0, -3.0, 7.0))  # telemetry that lies about the present
        return Change(key, old, base + step)

    # -- what happens to the hall

    def _events(self) -> None:
        r = self.random
        if r.random() < self.harm:
            self._fault(r.choice(list(self.world.fields.values())))
        for field_ in self.world.fields.values():
            if r.random() < 0.15:
                field_.up = True
                field_.refuses = field_.ignores = field_.loses_answer = False
                field_.loses_request = field_.reads_nothing = False
                field_.lies = 0.0
        if r.random() < self.harm * 0.3:
            self._operate(r.choice(tuple(self.world.fields)))
        if r.random() < self.harm * 0.2:
            self.world.clock.step_wall(0.0)
        self._sense()

    def _fault(self, field_: object) -> None:
        name = self.random.choice(("up", "refuses", "ignores", "loses_answer", "loses_request",
                                   "reads_nothing", "lies", "reboot"))  # fmt: skip
        if name == "reboot":
            for key, cell in field_.cells.items():  # type: ignore[attr-defined]
                if cell.slots:
                    self._theirs(field_.name, key)  # type: ignore[attr-defined]
            field_.reboot()  # type: ignore[attr-defined]
        elif name == "lies":
            field_.lies = self.random.choice((0.7, -2.0))  # type: ignore[attr-defined]
        else:
            setattr(field_, name, name != "up")

    def _operate(self, device: str) -> None:
        field_ = self.world.fields[device]
        key = self.random.choice(tuple(field_.cells))
        bounds = SITE.points[key].writable
        assert bounds is not None
        value: float | None = round(self.random.uniform(bounds.min, bounds.max), 2)
        if field_.cells[key].slots and 8 in (field_.cells[key].slots or {}):
            value = None
            self._unnoticed(field_, key)
        elif field_.cells[key].slots is not None or abs(value - field_.cells[key].value) > 0.05:
            self._theirs(device, key)  # the very value that a register holds tells nobody anything
        field_.operator(key, value)

    def _theirs(self, device: str, only: str | None = None) -> None:
        """What we hold there belongs to an operator from now on."""
        gate_held = self.agent.executor.held
        for key in self.world.fields[device].cells:
            if key in gate_held and only in (None, key) and gate_held[key].certain:
                if key not in self.theirs:
                    self.found.overrides += 1
                    self.world.fields[device].seen.discard(key)
                self.theirs.setdefault(key, len(self.world.log))

    def _unnoticed(self, field_: Field, key: str) -> None:
        """P9 is about a value that stands. One that came and went while nothing could be read, and
        left our slot as it was, has left nothing to yield to."""
        slots = field_.cells[key].slots or {}
        if key not in field_.seen and SITE.device[field_.name].write_priority in slots:
            self.theirs.pop(key, None)

    def _sense(self) -> None:
        r, now_s = self.random, self.world.clock.boot_s()
        for key in INLETS:
            if r.random() < self.harm * 0.1:
                value = r.choice((None, None, math.nan, 65_535.0, -1.0, 35.0, 22.0))
                self.world.sensors[key] = value if value is None or -20 <= value <= 80 else math.nan
            elif r.random() < 0.05:
                self.world.sensors[key] = 22.0 + r.uniform(-2.0, 2.0)
            value = self.world.sensors[key]
            if value is not None and math.isfinite(value):
                self.silent_s.pop(key, None)
            else:
                self.silent_s.setdefault(key, now_s)
        if r.random() < self.harm * 0.05:
            self.world.sensors[LEAK] = r.choice((0.0, None, 1.0))

    async def _modes(self) -> None:
        r, s = self.random, self.shadow
        if s.shut() and r.random() < 0.1:  # somebody wants it to work again
            event = Event.CLEAR if s.killed else Event.ARM if s.closed else Event.RAISE
            channel, role = "cli", "engineer"
        elif r.random() < self.harm * 0.5:
            event = r.choice((*Event, Event.RAISE, Event.ARM, Event.CLEAR))
            channel, role = r.choice(
                (("cli", "engineer"), ("mqtt", "engineer"), ("cli", "operator"), ("http", "viewer"))
            )
        else:
            return
        scope = r.choice(("hall", "row:A", "row:B")) if event in (Event.ARM, Event.DISARM) else ""
        person = (channel, role) == ("cli", "engineer")
        s.hear(event, scope, person)
        before = len(self.world.log)
        await self.agent.change_mode(event, scope, channel, role)
        if event is Event.KILL:
            self._all_back(before)

    # -- judging as it goes

    def _all_back(self, before: int) -> None:
        """P10: killed, so all that answers is given back at once."""
        for key in list(self.agent.executor.held):
            field_ = self.world.fields[SITE.points[key].device]
            if _sound(field_) and field_.writes == 0:
                self._broken(f"killed, and {key} was not given back")
        _ = before

    async def _resume(self) -> None:
        """Somebody on the host takes latched points and interlocks up again."""
        state = self.agent.control
        latched = [*state.yielded, *state.quarantined]
        if latched and self.random.random() < 0.15:
            key = self.random.choice(latched)
            self.theirs.pop(key, None)
            await call(self.agent, "resume", {"point": key}, HOST)
        if any(t.latched for t in state.trips.values()) and self.random.random() < 0.05:
            await call(self.agent, "interlock.reset", {"id": "leak"}, HOST)
            self.wet = False

    def _watch(self, before: int, killed: bool) -> None:
        """P9 and P23: nothing over an operator, and nothing where a leak holds all as it is."""
        for i, wrote in enumerate(self.world.log[before:], before):
            if wrote.by == "us" and self.wet and wrote.key in GUARDED and not killed:
                self._broken(f"{wrote}: while a leak holds it")
            if wrote.by != "us" or wrote.value is None:
                continue
            taken = self.theirs.get(wrote.key)
            if taken is not None and i > taken:
                self._broken(f"{wrote}: over an operator's value")

    def _broken(self, what: str) -> None:
        self.found.broken.append(f"seed {self.found.seed}, tick {self.found.ticks}: {what}")

    async def _tick(self) -> None:
        before, unarmed = len(self.world.log), self.shadow.shut()
        killed = self.shadow.killed
        self.found.shut += bool(unarmed)
        self.world.clock.advance(TICK_S)
        self._events()
        await self._resume()
        self.world.poll(self.agent)
        await self.agent.observe()
        self.wet = self.wet or self.world.sensors[LEAK] == 1.0
        self.found.wet += self.wet
        if self.random.random() < 0.5:
            await asyncio.gather(self.agent.fast(), self._modes())
        else:
            await self._modes()
            await self.agent.fast()
        if self.found.ticks % 12 == 0:
            await self.agent.slow()
        still_unarmed = unarmed & self.shadow.shut()
        self._watch(before, killed or self.shadow.killed)
        for wrote in self.world.log[before:]:
            if wrote.by == "us" and wrote.key in still_unarmed and not self._is_back(wrote):
                self._broken(f"{wrote}: written while not armed")

    def _is_back(self, wrote: Wrote) -> bool:
        point = self.world.limits[wrote.key]
        earlier = [w.before for w in self.world.log if w.key == wrote.key]
        fine = [
            point.baseline,
            point.safe,
            *(w.after for w in self.world.log if w.by != "us"),
            *earlier,
        ]
        return wrote.value is None or any(
            v is not None and abs(v - wrote.value) < 1e-2 for v in fine
        )

    async def run(self) -> Found:
        """All of it, and the judgement."""
        for tick in range(self.ticks):
            self.found.ticks = tick
            try:
                await self._tick()
            except Crash:
                self.found.crashes += 1
                await _drop_tasks()
                self.world.stop()
                before = len(self.world.log)
                self.agent = self._start()
                await self._survive(self.agent.recover())
                self._watch(before, self.shadow.killed)
        await self._heal()
        self._judge()
        return self.found

    async def _survive(self, work: object) -> None:
        try:
            await work  # type: ignore[misc]
        except Crash:
            self.found.crashes += 1
            await _drop_tasks()
            self.world.stop()
            self.agent = self._start()

    async def _heal(self) -> None:
        """All devices are well again; the agent is killed and has a quarter of an hour."""
        self.fatal = self.slow = self.harm = 0.0
        for field_ in self.world.fields.values():
            field_.up, field_.lies = True, 0.0
            field_.refuses = field_.ignores = field_.loses_answer = False
            field_.loses_request = field_.reads_nothing = False
        self.agent.wanted = lambda _agent, _cycle: []
        await self.agent.change_mode(Event.KILL, "", "cli", "engineer")
        for _ in range(90):
            self.world.clock.advance(TICK_S)
            self.world.poll(self.agent)
            await self.agent.observe()
            await self.agent.fast()
            if not self.agent.executor.held:
                break
        else:
            self._broken(f"still held: {dict(self.agent.executor.held)}")

    def _judge(self) -> None:
        verdicts = wire.judge(self.world.limits, self.world.log, INTERVAL_S)
        left = wire.left_behind(self.world.limits, self.world.log, self.world.holds())
        self.found.broken += [f"seed {self.found.seed}: {b}" for b in (*verdicts.broken, *left)]
        self.found.writes, self.found.changes = verdicts.writes, verdicts.changes
        self.found.exempt = verdicts.exempt
        self.found.lies = sum(
            w.by == "us" and w.value is not None and w.value != w.after
            and not self.world.limits[w.key].slots for w in self.world.log
        )  # fmt: skip
        self.found.trace = repr([(w.t_s, w.key, w.value) for w in self.world.log])
        self.world.stop()


def _sound(field_: object) -> bool:
    return all(getattr(field_, name) == well for name, well in (
        ("up", True), ("refuses", False), ("ignores", False), ("loses_answer", False),
        ("loses_request", False), ("reads_nothing", False), ("lies", 0.0)))  # fmt: skip


async def _drop_tasks() -> None:
    """What else was running in the process that died."""
    mine = asyncio.current_task()
    for task in asyncio.all_tasks():
        if task is not mine:
            task.cancel()
    await asyncio.sleep(0)


def run_one(seed: int, ticks: int, where: str | None = None) -> Found:
    """Run one scenario in a folder of its own."""
    with tempfile.TemporaryDirectory(dir=where, prefix="skadi-chaos-") as folder:
        return asyncio.run(Scenario(seed, ticks, Path(folder)).run())
