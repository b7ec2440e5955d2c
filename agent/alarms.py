"""The agent's alarms: steps them each monitor cycle, tells changes, keeps them over a restart.

What stood when a former run ended stands again, acknowledged or shelved as it was, and is told once
more: so what is over by now also ends where others still have it (retained on MQTT). Decides nothing of what is wrong (control.causes) nor of when it calls (control.alarms).
"""

from collections.abc import Callable, Collection
from dataclasses import asdict
from typing import Any

import structlog

from agent.clock import utc
from agent.core import Agent
from control import alarms as machine
from control.alarms import Alarm, Cause, Severity, State
from control.causes import Facts, causes
from control.interlocks import under_maintenance

log = structlog.get_logger("skadi")

KEPT = "alarms"


class AlarmDesk:
    """All alarms of one site. `listen` is a listener of the agent."""

    def __init__(self, agent: Agent, facts: Callable[[], Facts]) -> None:
        self._agent = agent
        self._facts = facts
        self.alarms = _former(agent.journal.kept(KEPT) or {}, agent.clock.now_s())
        self._untold: Collection[str] = frozenset(self.alarms)

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
        untold, self._untold = self._untold, ()
        self._take(machine.step(before, found, snapshot.now_s, tags), untold)

    def acknowledge(self, name: str) -> str | None:
        """Somebody has seen it; why not, or None."""
        return self._person(machine.acknowledge(self.alarms, name))

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
        return None

    def _take(self, after: dict[str, Alarm], untold: Collection[str] = ()) -> None:
        """Adopt the next alarms, tell those that look different, and keep what stands."""
        before, self.alarms = self.alarms, after
        told = [n for n in sorted({*before, *after})
                if n in untold or _look(before.get(n)) != _look(after.get(n))]  # fmt: skip
        for name in told:
            alarm = alarm_json(after.get(name) or before[name])
            self._agent.tell("alarm", alarm | ({} if name in after else {"state": "normal"}))
        if told:
            self._agent.memory.keep(KEPT, {n: _kept(a) for n, a in after.items() if a.shown})


def _kept(alarm: Alarm) -> dict[str, Any]:
    """What is needed to go on with it after a restart."""
    return {"cause": asdict(alarm.cause), "state": alarm.state.value, "since_s": alarm.since_s,
            "shelved_until_s": alarm.shelved_until_s}  # fmt: skip


def _former(kept: dict[str, Any], now_s: float) -> dict[str, Alarm]:
    """The alarms of a former run, as if their causes were still there: the next step looks."""
    found = {}
    for name, k in kept.items():
        try:
            cause = Cause(**k["cause"] | {"severity": Severity(k["cause"]["severity"])})
            found[name] = Alarm(
                cause,
                State(k["state"]),
                True,
                now_s,
                k["since_s"],
                k["shelved_until_s"],
                worst=cause.severity,
                worst_s=now_s,
            )
        except (KeyError, TypeError, ValueError) as error:
            log.warning("an alarm of a former run is lost", alarm=name, error=repr(error))
    return found


def _look(alarm: Alarm | None) -> tuple[Any, ...]:
    """What makes two moments of an alarm different to a person."""
    if alarm is None or not alarm.shown:
        return ()
    return (_state(alarm), alarm.cause.severity, alarm.shelved_until_s)


def _state(alarm: Alarm) -> str:
    """Where it stands, as a person sees it."""
    if alarm.shelved_until_s is not None:
        return "shelved"
    return "suppressed" if alarm.suppressed else alarm.state.value


def alarm_json(alarm: Alarm) -> dict[str, Any]:
    """An alarm for people and topics."""
    return {
        "id": alarm.id, "state": _state(alarm), "severity": alarm.cause.severity.name.lower(),
        "since": utc(alarm.since_s), "text": alarm.cause.text, "advice": alarm.cause.advice,
        "calls": alarm.calls,
        "shelved_until": utc(alarm.shelved_until_s) if alarm.shelved_until_s is not None else None,
    }  # fmt: skip
