"""The agent's alarms: steps them each monitor cycle, tells changes, keeps shelves over a restart.

Decides nothing of what is wrong (control.causes) nor of when it calls (control.alarms).
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from agent.clock import utc
from agent.core import Agent
from control import alarms as machine
from control.alarms import Alarm, State
from control.causes import Facts, causes
from control.interlocks import under_maintenance

KEPT = "alarms"


class AlarmDesk:
    """All alarms of one site. `listen` is a listener of the agent."""

    def __init__(self, agent: Agent, facts: Callable[[], Facts]) -> None:
        self.alarms: dict[str, Alarm] = {}
        self._agent = agent
        self._facts = facts
        self._shelves: dict[str, float] = dict(agent.journal.kept(KEPT) or {})

    def listen(self, kind: str, _detail: dict[str, Any]) -> None:
        """A listener of the agent."""
        if kind == "kpi":
            self.step()

    def step(self) -> None:
        """Look at what is wrong, and tell what has changed."""
        agent = self._agent
        snapshot, before = agent.snapshot(), self.alarms
        active = frozenset(n for n, a in before.items() if a.state is not State.NORMAL)
        found = causes(agent.layout, snapshot, agent.control, self._facts(), active)
        tags = under_maintenance(agent.site, snapshot, agent.control.trips)
        self._take(machine.step(before, found, snapshot.now_s, tags))

    def acknowledge(self, name: str) -> str | None:
        """Somebody has seen it; why not, or None."""
        return self._person(machine.acknowledge(self.alarms, name, self._agent.clock.now_s()))

    def shelve(self, name: str, for_s: float) -> str | None:
        """Do not call for a while; why not, or None."""
        return self._person(machine.shelve(self.alarms, name, self._agent.clock.now_s(), for_s))

    def unshelve(self, name: str) -> str | None:
        """Call again; why not, or None."""
        return self._person(machine.unshelve(self.alarms, name))

    def shown(self) -> list[dict[str, Any]]:
        """All alarms that stand, the worst first."""
        listed = sorted(
            (a for a in self.alarms.values() if a.shown),
            key=lambda a: (not a.calls, -a.cause.severity, a.since_s, a.id),
        )
        return [alarm_json(a) for a in listed]

    def _person(self, result: dict[str, Alarm] | str) -> str | None:
        if isinstance(result, str):
            return result
        self._take(result)
        shelves = {n: a.shelved_until_s for n, a in result.items() if a.shelved_until_s is not None}
        self._agent.memory.keep(KEPT, shelves)
        return None

    def _take(self, after: dict[str, Alarm]) -> None:
        """Adopt the next alarms and tell those that look different."""
        for name, until_s in list(self._shelves.items()):  # of a former run
            if name in after and after[name].state is not State.NORMAL:
                after[name] = replace(after[name], shelved_until_s=until_s)
                del self._shelves[name]
        before, self.alarms = self.alarms, after
        for name in sorted({*before, *after}):
            old, new = _look(before.get(name)), _look(after.get(name))
            if old != new and (alarm := after.get(name) or before.get(name)) is not None:
                gone = after.get(name) is None
                self._agent.tell("alarm", alarm_json(alarm) | ({"state": "normal"} if gone else {}))


def _look(alarm: Alarm | None) -> tuple[Any, ...]:
    """What makes two moments of an alarm different to a person."""
    if alarm is None or not alarm.shown:
        return ()
    return (alarm.state, alarm.cause.severity, alarm.shelved_until_s, alarm.suppressed)


def alarm_json(alarm: Alarm) -> dict[str, Any]:
    """An alarm for people and topics. `state` as a person sees it."""
    state = alarm.state.value
    if alarm.suppressed:
        state = "suppressed"
    if alarm.shelved_until_s is not None:
        state = "shelved"
    return {
        "id": alarm.id, "state": state, "severity": alarm.cause.severity.name.lower(),
        "since": utc(alarm.since_s), "text": alarm.cause.text, "advice": alarm.cause.advice,
        "calls": alarm.calls,
        "shelved_until": utc(alarm.shelved_until_s) if alarm.shelved_until_s is not None else None,
    }  # fmt: skip
