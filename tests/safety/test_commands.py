"""P11: what a command must be, told without a broker; what is not does nothing and is audited."""

import json
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from agent import commands
from agent.clock import VirtualClock, utc
from agent.commands import LONGEST_LIFE_S, MOST_BYTES, NOTE_EVERY_S, NOTES, Inbox, Reply
from agent.operations.table import Caller, Result
from tests.safety.world import START_S

NONCE = "0123456789abcdef"
PRINCIPALS = {"ann": "operator", "eve": "viewer"}


@dataclass
class Desk:
    """An inbox, what was called through it, and what was audited."""

    clock: VirtualClock = field(default_factory=lambda: VirtualClock(START_S))
    called: list[tuple[str, Any, Caller]] = field(default_factory=list)
    notes: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        agent = SimpleNamespace(clock=self.clock, note=self._note)
        self.inbox = Inbox(agent, NONCE, PRINCIPALS)  # type: ignore[arg-type]

    def _note(self, kind: str, body: dict[str, Any]) -> None:
        assert kind == "command_ignored"
        self.notes.append(body)

    async def send(
        self, message: Any = None, principal: str = "ann", retained: bool = False, **more: Any
    ) -> Reply | None:
        """Send a valid message, or something else."""
        if message is None:
            message = {"id": "command-1", "nonce": NONCE, "operation": "kill", "arguments": {"a": 1},
                       "expires": utc(self.clock.now_s() + 20.0), **more}  # fmt: skip
        raw = message if isinstance(message, bytes) else json.dumps(message).encode()
        return await self.inbox.take(raw, principal, retained)


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    made = Desk()

    async def call(_agent: object, name: str, arguments: Any, caller: Caller) -> Result:
        made.called.append((name, arguments, caller))
        return Result(name == "kill", {"told": name}, refused=name == "mode.raise")

    monkeypatch.setattr(commands, "call", call)
    return made


async def test_a_valid_command_is_carried_out_in_its_principals_role(desk: Desk) -> None:
    assert await desk.send() == Reply("command-1", True, False, {"told": "kill"})
    assert desk.called == [("kill", {"a": 1}, Caller("ann", "mqtt", "operator"))]
    await desk.send(principal="eve", id="command-2", operation="mode.raise")
    assert desk.called[1] == ("mode.raise", {"a": 1}, Caller("eve", "mqtt", "viewer"))
    assert (desk.inbox.ignored, desk.notes) == (0, [])


async def test_a_clock_that_is_set_back_makes_no_expired_command_new(desk: Desk) -> None:
    expires = at(20.0)
    await desk.send(expires=expires)
    desk.clock.advance(30.0)
    await desk.send(id="command-2")
    desk.clock.step_wall(-30.0)
    reply = await desk.send(expires=expires)
    assert reply is not None
    assert reply.detail["reason"] == "seen before"


async def test_a_name_may_be_as_short_or_long_as_the_schema_says(desk: Desk) -> None:
    """Whether there is such an operation is for the table of operations to say."""
    for i, name in enumerate(("k", "k" * 64)):
        assert await desk.send(id=f"command-{i}", operation=name) == Reply(
            f"command-{i}", False, False, {"told": name}
        )


async def test_the_answer_is_the_operations(desk: Desk) -> None:
    answer = Reply("command-1", False, True, {"told": "mode.raise"})
    assert await desk.send(operation="mode.raise") == answer


def at(ahead_s: float) -> str:
    return utc(START_S + ahead_s)


# What can't even be answered: (message, why)
UNREADABLE: dict[str, tuple[Any, str]] = {
    "not JSON": (b"{", "not JSON"),
    "not UTF-8": (b"\xff", "not UTF-8"),
    "too big": (b" " * (MOST_BYTES + 1), f"at most {MOST_BYTES} are taken"),
    "a list": ([], "Input should be"),
    "no id": ({"nonce": NONCE, "operation": "kill", "expires": "x"}, "id: Field required"),
    "a key too many": ({"id": "command-1", "nonce": NONCE, "operation": "kill", "expires": "x", "role": "engineer"},
                       "role: Extra inputs"),
    "a number for a name": ({"id": "command-1", "nonce": NONCE, "operation": 7, "expires": "x"}, "operation: "),
    "an id too short": ({"id": "c", "nonce": NONCE, "operation": "kill", "expires": "x"}, "id: "),
    "an id with a newline": ({"id": "command-1\n", "nonce": NONCE, "operation": "kill", "expires": "x"}, "id: "),
    "a name too long": ({"id": "command-1", "nonce": NONCE, "operation": "k" * 65, "expires": "x"}, "operation: "),
    "no name": ({"id": "command-1", "nonce": NONCE, "operation": "", "expires": "x"}, "operation: "),
    "no nonce": ({"id": "command-1", "nonce": "", "operation": "kill", "expires": "x"}, "nonce: "),
    "a nonce too long": ({"id": "command-1", "nonce": "n" * 65, "operation": "kill", "expires": "x"}, "nonce: "),
    "an expiry too long": ({"id": "command-1", "nonce": NONCE, "operation": "kill", "expires": "x" * 41}, "expires: "),
    "a key twice": (b'{"id": "command-1", "id": "command-2"}', "stands twice"),
    "NaN": (b'{"id": NaN}', "NaN is not JSON"),
    "arguments that are none": ({"id": "command-1", "nonce": NONCE, "operation": "kill", "expires": "x",
                                 "arguments": None}, "arguments: "),
}  # fmt: skip


@pytest.mark.parametrize("name", UNREADABLE)
async def test_what_cannot_be_read_does_nothing_and_is_audited(desk: Desk, name: str) -> None:
    message, why = UNREADABLE[name]
    assert await desk.send(message) is None
    assert desk.called == []
    (note,) = desk.notes
    assert why in note["reason"]
    assert len(note["reason"]) <= 300
    assert (note["principal"], note["channel"], note["id"], note["operation"], note["more"]) == (
        "ann", "mqtt", None, None, 0)  # fmt: skip


# What is well-formed and not valid: (what is different, whether retained, who, why)
INVALID: dict[str, tuple[dict[str, Any], str, str]] = {
    "another run's": ({"nonce": "another-run-1234"}, "ann", "meant for another run"),
    "a short nonce": ({"nonce": "n"}, "ann", "meant for another run"),
    "a long nonce": ({"nonce": "n" * 64}, "ann", "meant for another run"),
    "no time, at length": ({"expires": "x" * 40}, "ann", "write it like 2026-01-31T12:00:00Z"),
    "no time": ({"expires": "soon"}, "ann", "write it like 2026-01-31T12:00:00Z"),
    "expired": ({"expires": at(-3.0)}, "ann", "expired 3 s ago"),
    "expires now": ({"expires": at(0.0)}, "ann", "expired 0 s ago"),
    "valid too long": ({"expires": at(LONGEST_LIFE_S + 1.0)}, "ann", "valid for 31 s; at most 30 s"),
    "a stranger's": ({}, "bob", "unknown principal"),
}  # fmt: skip


@pytest.mark.parametrize("name", INVALID)
async def test_what_is_not_valid_does_nothing_and_is_told_why(desk: Desk, name: str) -> None:
    more, who, why = INVALID[name]
    reply = await desk.send(principal=who, **more)
    assert reply is not None
    assert (reply.id, reply.ok, reply.refused) == ("command-1", False, True)
    assert why in reply.detail["reason"]
    assert desk.called == []
    (note,) = desk.notes
    assert (note["reason"], note["id"], note["operation"]) == (reply.detail["reason"], "command-1", "kill")  # fmt: skip


async def test_thirty_seconds_are_fine(desk: Desk) -> None:
    reply = await desk.send(expires=at(LONGEST_LIFE_S))
    assert reply is not None
    assert reply.ok


async def test_a_retained_command_does_nothing(desk: Desk) -> None:
    assert await desk.send(retained=True) is None
    assert desk.called == []
    assert "retained" in desk.notes[0]["reason"]


async def test_a_command_is_carried_out_once(desk: Desk) -> None:
    assert (await desk.send()).ok  # type: ignore[union-attr]
    again = await desk.send()
    assert again is not None
    assert again.detail == {"reason": "seen before"}
    desk.clock.advance(15.0)
    assert (await desk.send(expires=at(20.0))).detail == {"reason": "seen before"}  # type: ignore[union-attr]
    assert len(desk.called) == 1


async def test_what_was_refused_is_not_remembered_as_seen(desk: Desk) -> None:
    await desk.send(expires=at(-1.0))
    assert (await desk.send()).ok  # type: ignore[union-attr]


async def test_the_memory_of_ids_is_bounded(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "REMEMBERED", 3)
    for i in range(3):
        assert (await desk.send(id=f"command-{i}")).ok  # type: ignore[union-attr]
    full = await desk.send(id="command-3")
    assert full is not None
    assert full.detail == {"reason": "too many commands at once"}
    desk.clock.advance(20.0)  # those have expired by now
    assert (await desk.send(id="command-4")).ok  # type: ignore[union-attr]
    assert len(desk.inbox._seen) == 1


async def test_a_flood_is_counted_and_not_written_down_one_by_one(desk: Desk) -> None:
    for _ in range(NOTES + 5):
        await desk.send(b"{")
    assert len(desk.notes) == NOTES
    assert desk.inbox.ignored == NOTES + 5
    desk.clock.advance(NOTE_EVERY_S)
    await desk.send(b"{")
    assert [n["more"] for n in desk.notes[-2:]] == [0, 5]
    await desk.send(b"{")
    desk.clock.advance(NOTE_EVERY_S)
    await desk.send(b"{")
    assert [n["more"] for n in desk.notes[-1:]] == [1]
    desk.clock.advance(1e6)
    for _ in range(NOTES + 5):
        await desk.send(b"{")
    assert len(desk.notes) == 2 * NOTES + 2


async def test_names_in_the_audit_are_cut(desk: Desk) -> None:
    await desk.send(b"{", principal="x" * 500)
    assert desk.notes[0]["principal"] == "x" * 64
