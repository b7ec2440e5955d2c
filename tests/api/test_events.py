"""WS /ws/events with aiohttp's client, which shares no code with the server's websockets."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import pytest

from agent import events as events_module
from agent.api.events import MOST_CLIENTS
from agent.clock import VirtualClock
from agent.events import Hub
from agent.operations.table import Caller, call
from tests.api.make import NONCE, House, house
from tests.peers import until


@pytest.fixture
async def hall(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as made:
        yield made


async def frames(socket: aiohttp.ClientWebSocketResponse, count: int) -> list[dict[str, Any]]:
    """So many frames, within a while."""
    async with asyncio.timeout(10):
        return [json.loads(await socket.receive_str()) for _ in range(count)]


async def test_a_client_stays_in_sequence_over_many_reconnects(hall: House) -> None:
    chance, seen, at = Random(7), [], 0
    start = hall.hub.seq
    feeding = asyncio.create_task(_feed(hall.hub, 600))
    async with aiohttp.ClientSession() as session:
        at = start
        for _ in range(25):
            url = f"{hall.url}/ws/events?since={at}&boot={NONCE}"
            async with session.ws_connect(url) as socket:
                [hello] = await frames(socket, 1)
                assert (hello["type"], hello["boot"]) == ("hello", NONCE)
                for event in await frames(socket, chance.randint(1, 24)):
                    assert event["seq"] == at + 1  # nothing missed, nothing twice
                    at = event["seq"]
                    seen.append(event["body"]["n"])
    await feeding
    assert seen == list(range(len(seen)))
    assert len(seen) >= 100


async def _feed(hub: Hub, count: int) -> None:
    for n in range(count):
        hub.put("event", {"n": n})
        await asyncio.sleep(0.001)


async def test_what_can_no_longer_be_given_is_announced(
    hall: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_module, "ROOM_EVENTS", 10)
    first = hall.hub.seq
    for n in range(50):
        hall.hub.put("event", {"n": n})
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{hall.url}/ws/events?since={first}&boot={NONCE}") as socket,
    ):
        _, gap, event = await frames(socket, 3)
    assert gap == {"type": "gap", "from": first + 1, "to": first + 40}
    assert event["seq"] == first + 41


async def test_another_runs_numbers_mean_nothing(hall: House) -> None:
    hall.hub.put("event", {"n": 0})
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{hall.url}/ws/events?since=999999&boot=another") as socket,
    ):
        hello, event = await frames(socket, 2)
    assert hello["boot"] == NONCE
    assert event["seq"] == hello["oldest"]


async def test_only_the_types_that_are_asked_for(hall: House) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{hall.url}/ws/events?types=action,kpi") as socket,
    ):
        await frames(socket, 1)
        hall.hub.put("event", {"n": 1})
        hall.hub.put("action", {"n": 2})
        [event] = await frames(socket, 1)
    assert (event["type"], event["body"]) == ("action", {"n": 2})


@pytest.mark.parametrize("query", ["since=x", "since=-1", "types=nothing", f"since={'9' * 30}"])
async def test_a_wrong_question_is_refused(hall: House, query: str) -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError, check=lambda e: e.status == 422):
            await session.ws_connect(f"{hall.url}/ws/events?{query}")
        upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
                   "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}  # fmt: skip
        async with session.get(f"{hall.url}/ws/events?{query}", headers=upgrade) as answer:
            told = await answer.json()
    assert told["error"]["message"].startswith(("since must", "no event type")), "it says why"


async def test_another_sites_page_can_not_listen(hall: House) -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError, check=lambda e: e.status == 403):
            await session.ws_connect(f"{hall.url}/ws/events", origin="https://evil.example")


async def test_a_client_that_never_reads_is_let_go_and_nobody_waits_for_it(
    hall: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_module, "ROOM_EVENTS", 100)
    monkeypatch.setattr("agent.api.events.SEND_S", 0.3)
    monkeypatch.setattr("agent.api.events.CLOSE_S", 0.1)
    host, port = hall.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
    writer.write(
        f"GET /ws/events HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    await until(lambda: hall.api.clients.sockets)
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{hall.url}/ws/events") as good,
    ):
        await frames(good, 1)
        for n in range(1_000):
            hall.hub.put("event", {"n": n, "fill": "x" * 20_000})
            event = (await frames(good, 1))[0]
            assert event["body"]["n"] == n  # the one that reads misses nothing
            if hall.api.clients.dropped:
                break
    await until(lambda: hall.api.clients.dropped == 1)
    writer.close()
    assert not reader.at_eof()


async def test_listeners_are_bounded(hall: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.api.events.MOST_CLIENTS", 2)
    assert MOST_CLIENTS > 2
    async with aiohttp.ClientSession() as session:
        kept = [await session.ws_connect(f"{hall.url}/ws/events") for _ in range(2)]
        await until(lambda: len(hall.api.clients.sockets) == 2)
        with pytest.raises(aiohttp.WSServerHandshakeError, check=lambda e: e.status == 503):
            await session.ws_connect(f"{hall.url}/ws/events")
        assert not any(socket.closed for socket in kept)


async def test_listeners_are_told_that_the_agent_stops(tmp_path: Path) -> None:
    async with aiohttp.ClientSession() as session:
        async with house(tmp_path) as made:
            socket = await session.ws_connect(f"{made.url}/ws/events")
            await frames(socket, 1)
        message = await socket.receive(timeout=5)
    assert message.type is aiohttp.WSMsgType.CLOSE
    assert message.data == 1001


def test_the_ring_is_bounded_by_count_and_bytes() -> None:
    hub = Hub(VirtualClock(), "n")
    for n in range(20_000):
        hub.put("event", {"n": n, "fill": "x" * 10_000})
    kept = hub.after(0, 10**6)
    assert sum(len(e.text) for e in kept) <= events_module.ROOM_BYTES
    assert kept[-1].seq == hub.seq == 20_000
    hub.put("event", {"fill": "y" * 10**6})
    assert json.loads(hub.after(hub.seq - 1)[0].text)["body"] == {"cut": ["fill"]}


async def test_the_latest_of_some_types_are_found_behind_many_others(hall: House) -> None:
    hall.agent.services.seen = hall.api.context
    hall.agent.note("planted", {"number": 1})
    await hall.minutes(2)  # many figures later
    who = Caller("ann", "cli", "viewer")
    told = await call(hall.agent, "events", {"types": ["event"], "limit": 1}, who)
    assert [e["type"] for e in told.detail["events"]] == ["event"]
    all_of_them = await call(hall.agent, "events", {"limit": 500}, who)
    kinds = {e["type"] for e in all_of_them.detail["events"]}
    assert {"kpi", "event"} <= kinds
    wrong = await call(hall.agent, "events", {"types": ["nothing"]}, who)
    assert (wrong.ok, wrong.invalid) == (False, True)
