"""Each operation over each door: one result, one audit entry. And what a command must be."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.clock import utc
from agent.commands import MOST_BYTES, NOTES, REMEMBERED, Inbox
from agent.mqtt.command_link import CommandLink
from config.schema import MqttSection
from tests.agent.mosquitto import Listener, Mosquitto
from tests.api.make import NONCE, House, hall_site, house
from tests.peers import peer, until

PRINCIPALS = {"ann-viewer": "viewer", "ann-operator": "operator", "ann-engineer": "engineer"}
ROOT = "skadi/rehearsal/hall"
POINT = "crac-a1/fan_rpm_setpoint_pct"


def envelope(
    hall: House, id_: str, operation: str, arguments: Any = None, **more: Any
) -> dict[str, Any]:
    """A valid command, unless `more` says otherwise."""
    expires = utc(hall.clock.now_s() + 20)
    return {"id": id_, "nonce": NONCE, "operation": operation, "arguments": arguments or {},
            "expires": expires, **more}  # fmt: skip


async def say(port: int, topic: str, text: str, *options: str) -> None:
    """Publish with mosquitto_pub."""
    said = await asyncio.create_subprocess_exec(
        peer("mosquitto_pub"), "-h", "127.0.0.1", "-p", str(port), "-t", topic, "-q", "1",
        "-m", text, *options,
    )  # fmt: skip
    assert await said.wait() == 0


async def exchange(
    broker: Mosquitto, listener: Listener, principal: str, message: dict[str, Any]
) -> Any:
    """Send a command; the answer as mosquitto_sub hears it."""
    topic = f"{ROOT}/command/{principal}"

    def answers() -> list[Any]:
        found = [m.payload for m in listener.messages if m.topic == f"{topic}/result"]
        return [p for p in found if p["id"] == message["id"]]

    await say(broker.port, topic, json.dumps(message))
    await until(answers)
    return answers()[0]


@asynccontextmanager
async def listening(broker: Mosquitto) -> AsyncIterator[Listener]:
    """A listener whose subscription stands."""
    await say(broker.port, "skadi/ready", "1", "-r")
    async with Listener(broker.port) as listener:
        await until(lambda: listener.messages)
        yield listener


@pytest.fixture
async def hall(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, hall_site(tmp_path)) as made:
        yield made


def _raw(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode()


async def test_a_valid_command_is_carried_out_once(hall: House) -> None:
    inbox = Inbox(hall.agent, NONCE, PRINCIPALS)
    raw = _raw(envelope(hall, "command-1", "mode.lower"))
    reply = await inbox.take(raw, "ann-operator", retained=False)
    assert reply is not None
    assert reply.ok
    again = await inbox.take(raw, "ann-operator", retained=False)
    assert again is not None
    assert (again.ok, again.detail["reason"]) == (False, "seen before")
    assert [e["operation"] for e in hall.audit()] == ["mode.lower"]


async def test_what_is_not_a_valid_command_does_nothing_and_is_audited(hall: House) -> None:
    now_s, before = hall.clock.now_s(), hall.agent.control
    fine = envelope(hall, "command-1", "kill")
    cases: list[tuple[str, bytes, str, bool]] = [
        ("retained", _raw(fine), "ann-operator", True),
        ("another run", _raw(fine | {"nonce": "x"}), "ann-operator", False),
        ("expired", _raw(fine | {"expires": utc(now_s - 1)}), "ann-operator", False),
        ("at most 30", _raw(fine | {"expires": utc(now_s + 31)}), "ann-operator", False),
        ("2026-01-31", _raw(fine | {"expires": "soon"}), "ann-operator", False),
        ("2026-01-31", _raw(fine | {"expires": "2030-01-01T00:00:00"}), "ann-operator", False),
        ("unknown principal", _raw(fine), "mallory", False),
        ("id", _raw(fine | {"id": "short"}), "ann-operator", False),
        ("more", _raw(fine | {"more": 1}), "ann-operator", False),
        ("arguments", _raw(fine | {"arguments": [1]}), "ann-operator", False),
        ("not JSON", b"kill", "ann-operator", False),
        ("twice", b'{"id": "a", "id": "b"}', "ann-operator", False),
        ("NaN is not", b'{"id": NaN}', "ann-operator", False),
        ("nested", b"[" * 10_000, "ann-operator", False),
        ("at most", b" " * (MOST_BYTES + 1), "ann-operator", False),
        ("UTF-8", b"\xff", "ann-operator", False),
    ]
    inbox = Inbox(hall.agent, NONCE, PRINCIPALS)
    told: list[dict[str, Any]] = []
    hall.agent.listeners.append(lambda kind, detail: told.append(detail))
    for why, raw, principal, retained in cases:
        told.clear()
        reply = await inbox.take(raw, principal, retained)
        assert reply is None or not reply.ok
        assert hall.agent.control == before
        [note] = [t for t in told if t.get("kind") == "command_ignored"]
        assert why in note["reason"], note
    assert inbox.ignored == len(cases)
    assert hall.audit() == []


async def test_a_role_that_does_not_reach_is_refused_and_audited(hall: House) -> None:
    inbox = Inbox(hall.agent, NONCE, PRINCIPALS)
    reply = await inbox.take(_raw(envelope(hall, "command-1", "kill")), "ann-viewer", False)
    assert reply is not None
    assert reply.refused
    assert not hall.agent.control.modes.killed
    assert hall.audit()[-1]["role"] == "viewer"


async def test_a_flood_neither_fills_the_journal_nor_the_memory(hall: House) -> None:
    inbox = Inbox(hall.agent, NONCE, PRINCIPALS)
    told: list[str] = []
    hall.agent.listeners.append(lambda kind, detail: told.append(str(detail.get("kind"))))
    for _ in range(2_000):
        await inbox.take(b"noise", "ann-operator", False)
    assert told.count("command_ignored") == NOTES
    hall.clock.advance(11)
    notes: list[dict[str, Any]] = []
    hall.agent.listeners.append(lambda kind, detail: notes.append(detail))
    await inbox.take(b"noise", "ann-operator", False)
    assert [n["more"] for n in notes] == [2_000 - NOTES]


async def test_ids_are_remembered_while_they_could_be_replayed(hall: House) -> None:
    inbox = Inbox(hall.agent, NONCE, PRINCIPALS)
    for n in range(REMEMBERED):
        message = envelope(hall, f"command-{n}", "status")
        reply = await inbox.take(_raw(message), "ann-viewer", False)
        assert reply is not None
        assert reply.ok
    full = await inbox.take(_raw(envelope(hall, "one-more-1", "status")), "ann-viewer", False)
    assert full is not None
    assert full.detail["reason"] == "too many commands at once"
    hall.clock.advance(30)
    later = await inbox.take(_raw(envelope(hall, "one-more-2", "status")), "ann-viewer", False)
    assert later is not None
    assert later.ok


async def test_what_was_retained_or_sent_while_away_never_acts(tmp_path: Path) -> None:
    broker = await Mosquitto(tmp_path).start()
    async with house(tmp_path, hall_site(tmp_path)) as hall, listening(broker) as listener:
        kept = json.dumps(envelope(hall, "command-1", "kill"))
        await say(broker.port, f"{ROOT}/command/ann-operator", kept, "-r")
        section = MqttSection(url=broker.url, commands=True, principals=PRINCIPALS)
        link = CommandLink(
            Inbox(hall.agent, NONCE, PRINCIPALS), ROOT, "skadi-commands", section, {}
        )
        link.start()
        await until(lambda: link.listening)
        alive = envelope(hall, "command-2", "mode.lower")
        reply = await exchange(broker, listener, "ann-operator", alive)
        assert reply["ok"]  # so whatever the broker had to say before has been said
        assert not hall.agent.control.modes.killed
        await link.stop()
    await broker.stop()


def test_commands_without_principals_are_no_configuration() -> None:
    with pytest.raises(ValueError, match="principals"):
        MqttSection(url="mqtt://127.0.0.1:1883", commands=True)
