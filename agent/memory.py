"""What the control state keeps across restarts: modes, budgets, latches, in the journal.

Budgets are read off the journal's own intents, so that nothing can be written and forgotten.
They are counted on the boot clock with the boot id: a stepped wall clock neither opens a
budget early nor locks it. What another boot did has an unknown age, and an unknown age means
waiting; so does a journal that had to be salvaged, and then the agent starts as advisory.
"""

import hashlib
from collections.abc import Container, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog

from agent.clock import Clock
from agent.journal import Journal
from config.site import Site
from control import modes
from control.interlocks import tripped_by_reading
from control.modes import Modes, in_scope
from control.state import DAY_S, PROTECTIVE, ControlState, Owed, Spent, Trip
from control.types import Ending, Mode, Outcome, Overridden, Target
from drivers.gate import JournalError

log = structlog.get_logger("skadi")

KILL_FILE = "KILL"  # in data_dir: while it is there, the kill switch is on
COMMISSIONED = "commissioned"  # point -> its trial, in the journal
INTENTS = 10_000  # as far back as a day's budget can reach


def reason_of(receipt: Mapping[str, Any]) -> str:
    """Why a point is left alone, of the receipt that was journaled, for people."""
    if receipt["receipt"] == "mismatch":
        return f"read back {receipt['found']} after writing {receipt['wanted']}"
    at = f" at priority {receipt['priority']}" if receipt["priority"] is not None else ""
    value = f" ({receipt['value']})" if receipt["value"] is not None else ""
    return f"{receipt['reason']}{at}{value}; skadi arm --resume {receipt['point']}"


def wiring(site: Site, key: str) -> str:
    """What a trial of an actuator was good for: another register, scale or device is another one."""
    point = site.points[key]
    device = site.device[point.device]
    place = (device.protocol, device.address, device.unit_id, device.device_instance)
    text = f"{place}|{point.address!r}|{point.scale!r}|{point.offset!r}|{point.quantity}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def still_commissioned(site: Site, kept: Mapping[str, Mapping[str, Any]]) -> frozenset[str]:
    """The points whose trial still stands for how they are wired now."""
    return frozenset(
        k for k, v in kept.items() if k in site.points and v.get("wiring") == wiring(site, k)
    )


def not_commissioned(site: Site, tried: Container[str]) -> list[str]:
    """The armed points that closed loop leaves alone until a person has tried them."""
    if site.simulated or site.agent.mode != "closed_loop":
        return []
    armed = site.agent.armed
    beats = {f"{d.id}/{d.heartbeat}" for d in site.devices if d.heartbeat}
    return [k for k, p in site.writable_points.items()
            if k not in tried and k not in beats and any(in_scope(p, scope) for scope in armed)]  # fmt: skip


class Memory:
    """Reads and writes the parts of the control state that must survive."""

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock
        self._latches: dict[str, Any] = {}

    @property
    def kill_file(self) -> Path:
        """The kill switch as a file, for when nothing else works."""
        return self._journal.path.parent / KILL_FILE

    def recall(self, site: Site) -> ControlState:
        """The control state to start with. What a former run holds is owed to its devices."""
        now_s, salvaged = self._clock.now_s(), self._journal.salvaged
        running = modes.initial(site, self._stored_modes())
        if self.kill_file.exists():
            running = replace(running, killed=True)
        if salvaged:
            log.critical("journal salvaged: advisory until a person raises it", reason=salvaged)
            running = replace(running, mode=Mode.ADVISORY)
        held = {k: x for k, x in self._journal.held().items() if k in site.points}
        owed = {k: Owed(Ending(k, Target.BASELINE, "left by a former run"), now_s) for k in held}
        latches, lost = self._journal.kept("latches") or {}, self._journal.latched()
        offset_s = self._same_boot_offset_s(latches)
        return ControlState(
            modes=running, leases=held, owed=owed, spent=self._spent(site),
            yielded={k: reason_of(x) for k, x in lost.items() if x["receipt"] == "overridden"},
            quarantined={k: reason_of(x) for k, x in lost.items() if x["receipt"] == "mismatch"},
            trips={i: Trip(now_s, True, True) for i in latches.get("tripped", ())},
            held_back={k: (t + offset_s if offset_s is not None else now_s + site.optimizer.hold_back_s)
                       for k, t in latches.get("held_back", {}).items()},
            commissioned=still_commissioned(site, self._journal.kept(COMMISSIONED) or {}),
        )  # fmt: skip

    def keep_modes(self, now: Modes) -> None:
        """Store the running modes; the kill switch as a file too, which needs no journal."""
        body = {
            "ceiling": now.ceiling.value, "allowed": sorted(now.allowed), "mode": now.mode.value,
            "armed": sorted(now.armed), "barred": sorted(now.barred), "killed": now.killed,
        }  # fmt: skip
        try:
            if now.killed:
                self.kill_file.touch()
            else:
                self.kill_file.unlink(missing_ok=True)
        except OSError as error:
            log.critical("the kill file can't be changed", error=str(error))
        self._keep("modes", body)

    def keep_latches(self, state: ControlState, site: Site) -> None:
        """Store what stays until a person or time ends it: tripped interlocks, hold-backs.

        holds: (id, scope, quantities) of interlocks that keep things as they are, for `skadi release`.
        """
        body = {
            "tripped": sorted(i for i, trip in state.trips.items() if trip.latched),
            "holds": [(x.id, x.scope, x.only) for x in site.interlocks
                      if x.action == "hold" and tripped_by_reading(state.trips.get(x.id))],
            "held_back": dict(state.held_back),
        }  # fmt: skip
        if body == self._latches:
            return
        offset_s = self._clock.boot_s() - self._clock.now_s()
        if self._keep("latches", {"boot_id": self._clock.boot_id, "offset_s": offset_s, **body}):
            self._latches = body

    def keep_yielded(self, before: ControlState, now: ControlState) -> None:
        """Store whom the endings have noticed on what still waits to be given back: they may be gone
        when it is, and this run with them."""
        new = now.yielded.keys() - before.yielded.keys()
        seen = [Outcome(Overridden(k, None, None, now.yielded[k]), now.leases[k])
                for k in sorted(new) if k in now.leases]  # fmt: skip
        try:
            if seen:
                self._journal.outcome(self._clock.now_s(), 0, seen)
        except JournalError as error:
            log.critical("another hand can't be kept", points=sorted(new), error=str(error))

    def keep_commissioned(self, site: Site, key: str, result: Mapping[str, Any]) -> None:
        """Store that a person has commissioned an actuator, as it is wired now."""
        try:
            before = self._journal.kept(COMMISSIONED) or {}
        except JournalError as error:
            log.critical("journal can't be read", error=str(error))
            return
        self._keep(COMMISSIONED, {**before, key: {"wiring": wiring(site, key), **result}})

    def _same_boot_offset_s(self, latches: Mapping[str, Any]) -> float | None:
        """What to add to stored times to have them on this run's clock; None: not known."""
        if latches.get("boot_id") != self._clock.boot_id:
            return None
        return float(latches["offset_s"]) - (self._clock.boot_s() - self._clock.now_s())

    def _spent(self, site: Site) -> dict[str, Spent]:
        """Every equipment's and point's budget, from what is on disk.

        A write was carried out some time between its intent and its outcome: the outcome's time
        counts. Without an outcome it may have been just now.
        """
        now_s = self._clock.now_s()
        spent: dict[str, Spent] = {}
        if self._journal.salvaged:
            everything = site.writable_points.values()
            return {name: Spent(now_s, now_s) for p in everything for name in (p.key, p.equipment)}
        done = {o["intent"]: o.get("boot") for o in self._journal.latest("outcome", 2 * INTENTS)}
        for intent in self._journal.latest("intent", INTENTS):  # newest first
            age_s, done_s = self._age_s(intent.get("boot")), self._age_s(done.get(intent["seq"]))
            if age_s > DAY_S or now_s - intent["at_s"] > 2 * DAY_S:
                continue
            points = [p for x in intent["leases"] if (p := site.points.get(x["point"]))]
            names = {p.equipment for p in points} | {p.key for p in points}
            if intent["move"].startswith(PROTECTIVE):
                names |= {PROTECTIVE + p.equipment for p in points}
            counts = not intent["move"].startswith("give_back")
            for name in names:
                last = spent.get(name, Spent(now_s - done_s)).last_s
                count = spent[name].count if name in spent else 0
                spent[name] = Spent(last, now_s - age_s, count + counts)
        return spent

    def _age_s(self, boot: Any) -> float:
        """How long ago a stamp was made; 0.0 where that is not known."""
        known = boot and boot[0] == self._clock.boot_id
        return max(self._clock.boot_s() - boot[1], 0.0) if known else 0.0

    def keep(self, key: str, body: dict[str, Any]) -> None:
        """Store something small of another part of the agent."""
        self._keep(key, body)

    def _stored_modes(self) -> Modes | None:
        kept: dict[str, Any] | None = self._journal.kept("modes")
        if not kept:
            return None
        return Modes(Mode(kept["ceiling"]), frozenset(kept["allowed"]), Mode(kept["mode"]),
                     frozenset(kept["armed"]), bool(kept["killed"]),
                     frozenset(kept.get("barred", ())))  # fmt: skip

    def _keep(self, key: str, body: Any) -> bool:
        try:
            self._journal.keep(key, body)
        except JournalError as error:
            log.critical("journal can't be written", error=str(error))
            return False
        return True
