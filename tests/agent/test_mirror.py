"""What an independent client hears of the agent, and that no broker can disturb it."""

import asyncio
import gc
import math
import signal
import socket
import ssl
import struct
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from agent.clock import VirtualClock
from agent.mqtt import link as mirror_link
from agent.mqtt.broker import DemoBroker
from agent.mqtt.mirror import Mirror
from agent.mqtt.payload import topic_word
from control.types import Quality, Reading
from tests.agent import make
from tests.agent.mosquitto import Listener, Mosquitto
from tests.certs import certificate
from tests.peers import free_port, peer, until

T0 = 1_700_000_000.0
SITE = make.site()
RACK = SITE.device["rack-a01"]


def mirror_of(url: str, clock: VirtualClock | None = None, **mqtt: Any) -> Mirror:
    environ = {"MQTT": mqtt.pop("secret", "")}
    site = make.site(mqtt={"url": url, **mqtt})
    return Mirror(site, clock or VirtualClock(T0), environ, version="1.2.3")


def inlet(value: float | None, quality: Quality = Quality.GOOD, **more: Any) -> Reading:
    return Reading("rack-a01/inlet_c", value, T0, quality, **more)


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror_link, "RECONNECT_S", (1, 1))
    monkeypatch.setattr(mirror_link, "CONNACK_S", 0.3)


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Mosquitto]:
    async with Mosquitto(tmp_path) as made:
        yield made


@pytest.fixture
async def mirror(broker: Mosquitto) -> AsyncIterator[Mirror]:
    made = mirror_of(broker.url)
    made.start()
    await until(lambda: made.connected)
    yield made
    await made.stop()


@pytest.mark.peer
async def test_birth_info_and_state_are_retained(broker: Mosquitto, mirror: Mirror) -> None:
    mirror.publish_device(RACK, [inlet(22.5), make.reading("rack-a01/pdu_kw", 7.25, T0 + 1)])
    async with Listener(broker.port) as heard:
        birth = await heard.hears("_agent/status")
        info = await heard.hears("_agent/info")
        state = await heard.hears("device/rack-a01/state")
    assert (birth.retained, birth.qos) == (True, 1)
    assert birth.payload == {"state": "online", "ts": "2023-11-14T22:13:20.000Z",
                             "nonce": mirror.nonce, "version": "1.2.3"}  # fmt: skip
    assert info.payload["nonce"] == mirror.nonce
    assert (info.payload["version"], info.payload["schema"]) == ("1.2.3", 1)
    assert "skadi/ber1/hall-a/device/{device}/state" in info.payload["topics"]
    assert state.retained
    assert state.payload == {
        "ts": "2023-11-14T22:13:21.000Z", "seq": 1, "device": "rack-a01",
        "points": {
            "inlet_c": {"value": 22.5, "unit": "degC", "quality": "good", "quantity": "inlet_c",
                        "ts": "2023-11-14T22:13:20.000Z", "rack": "A01", "row": "A"},
            "pdu_kw": {"value": 7.25, "unit": "kW", "quality": "good", "quantity": "pdu_kw",
                       "ts": "2023-11-14T22:13:21.000Z", "rack": "A01", "row": "A"},
        },
    }  # fmt: skip


@pytest.mark.peer
async def test_every_kind_of_message_has_its_topic_and_quality_of_service(
    broker: Mosquitto, mirror: Mirror
) -> None:
    async with Listener(broker.port) as heard:
        await heard.hears("_agent/status")
        mirror.publish_unit("row:C", {"deviation": 1.5, "state": "transient"})
        mirror.publish_unit("hall", {"deviation": 0.5, "state": "nominal"})
        mirror.publish_kpi({"wh_per_prompt": 0.58, "ts": "2023-11-14T22:13:00.000Z"})
        mirror.publish_mode({"mode": "advisory", "armed": []})
        mirror.publish_event("mms", {"unit": "row:C"})
        mirror.publish_action({"move": "fan", "receipts": {"a/b": "applied"}})
        mirror.publish_decision({"verdict": "denied", "rule": "mode"})
        mirror.publish_alarm("inlet/C01 high", {"severity": "high"})
        row = await heard.hears("row/C/state")
        hall = await heard.hears("hall/state")
        kpi = await heard.hears("kpi")
        alarm = await heard.hears("alarm/inlet_C01_high")
        once = [await heard.hears(t) for t in ("event/mms", "action", "decision")]
        mode = await heard.hears("mode")
        mirror.publish_alarm("inlet/C01 high", None)
        gone = await heard.hears("alarm/inlet_C01_high", 2)
    assert (row.payload["row"], row.payload["deviation"], row.retained) == ("C", 1.5, True)
    assert (hall.payload["deviation"], "row" in hall.payload, hall.retained) == (0.5, False, True)
    assert (kpi.payload["ts"], kpi.retained) == ("2023-11-14T22:13:00.000Z", True)
    assert (mode.payload["mode"], mode.retained) == ("advisory", True)
    assert (alarm.payload["severity"], alarm.retained, alarm.qos) == ("high", True, 1)
    assert gone.payload is None
    assert [(m.retained, m.qos, m.payload["seq"]) for m in once] == [(False, 1, 1)] * 3
    async with Listener(broker.port) as later:
        await later.hears("mode")
        await later.hears("kpi")
        assert not later.of("alarm/inlet_C01_high")
        assert not later.of("action")


@pytest.mark.peer
async def test_sequences_count_and_what_is_no_number_is_null(
    broker: Mosquitto, mirror: Mirror
) -> None:
    async with Listener(broker.port) as heard:
        await heard.hears("_agent/status")
        for r in (inlet(21.0), inlet(math.nan), inlet(None, Quality.MISSING, reason="noSuchInstance"),
                  inlet(99.0, Quality.BAD), inlet(20.0, Quality.STALE)):  # fmt: skip
            mirror.publish_device(RACK, [r, Reading("no/such", 1.0, T0, Quality.GOOD)])
        mirror.publish_kpi({"pue": math.inf, "deep": {"x": [math.nan, {1, 2}]}, "o": object()})
        await heard.hears("device/rack-a01/state", 5)
        kpi = await heard.hears("kpi")
    states = [m.payload for m in heard.of("device/rack-a01/state")]
    assert [s["seq"] for s in states] == [1, 2, 3, 4, 5]
    points = [s["points"]["inlet_c"] for s in states]
    assert [(p["value"], p["quality"]) for p in points] == [
        (21.0, "good"), (None, "bad"), (None, "missing"), (None, "bad"), (20.0, "stale"),
    ]  # fmt: skip
    assert points[2]["reason"] == "noSuchInstance"
    assert all(list(s["points"]) == ["inlet_c"] for s in states)
    assert (kpi.payload["pue"], kpi.payload["deep"]) == (None, {"x": [None, [1, 2]]})


@pytest.mark.peer
async def test_a_clean_stop_says_so(broker: Mosquitto) -> None:
    mirror = mirror_of(broker.url)
    async with Listener(broker.port) as heard:
        mirror.start()
        await heard.hears("_agent/status")
        await mirror.stop()
        last = await heard.hears("_agent/status", 2)
        await mirror.stop()  # a second stop changes nothing
    assert (last.payload["state"], last.payload["reason"], last.retained) == (
        "offline", "stopped", True,
    )  # fmt: skip
    mirror.publish_kpi({"x": 1})  # after the end: nothing happens, nothing raises


KILLED = """
import asyncio, sys
from agent.clock import VirtualClock
from agent.mqtt.mirror import Mirror
from tests.agent import make

async def main():
    mirror = Mirror(make.site(mqtt={"url": sys.argv[1]}), VirtualClock(0), nonce="of-the-killed")
    mirror.start()
    await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.mark.peer
async def test_the_last_will_speaks_after_kill_9(broker: Mosquitto) -> None:
    async with Listener(broker.port) as heard:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", KILLED, broker.url, cwd=Path(__file__).parents[2]
        )
        assert (await heard.hears("_agent/status")).payload["state"] == "online"
        child.send_signal(signal.SIGKILL)
        await child.wait()
        last = await heard.hears("_agent/status", 2)
    assert last.payload == {"state": "offline", "reason": "lost", "nonce": "of-the-killed"}
    assert last.retained


@pytest.mark.peer
async def test_a_broker_that_goes_and_comes_gets_birth_latest_state_and_all_events(
    broker: Mosquitto, mirror: Mirror
) -> None:
    mirror.publish_device(RACK, [inlet(20.0)])
    with capture_logs() as logs:
        await broker.stop()
        await until(lambda: not mirror.connected)
        for i in range(50):
            mirror.publish_device(RACK, [inlet(float(i))])
            mirror.publish_event("mms", {"n": i})
        await broker.start()
        async with Listener(broker.port) as heard:
            await until(lambda: mirror.connected)
            birth = await heard.hears("_agent/status")
            await heard.hears("event/mms", 50)
            await heard.hears("device/rack-a01/state")
    assert birth.payload["state"] == "online"
    assert [m.payload["n"] for m in heard.of("event/mms")] == list(range(50))
    states = [m.payload for m in heard.of("device/rack-a01/state")]
    assert {s["points"]["inlet_c"]["value"] for s in states} == {49.0}
    assert {s["seq"] for s in states} == {51}, "the gap is visible"
    said = [line["event"] for line in logs]
    assert said.count("MQTT broker lost") == said.count("MQTT broker back") == 1


@pytest.mark.peer
async def test_a_broker_that_is_not_there_at_start_is_found_later(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path)
    mirror = mirror_of(broker.url)
    mirror.start()
    mirror.publish_kpi({"pue": 1.4})
    async with broker, Listener(broker.port) as heard:
        assert (await heard.hears("kpi")).payload["pue"] == 1.4
    await mirror.stop()


async def test_events_wait_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror_link, "QUEUED", 10)
    mirror = mirror_of(f"mqtt://127.0.0.1:{free_port()}")
    mirror.start()
    for i in range(1_000):
        mirror.publish_event("mms", {"n": i})
        mirror.publish_kpi({"n": i})
    assert mirror.dropped == 990
    assert len(mirror._link._retained) == 2  # info and kpi, whatever was published
    await mirror.stop()


@pytest.mark.peer
async def test_a_frozen_broker_neither_blocks_nor_fills_memory(
    broker: Mosquitto, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror_link, "UNSENT", 50)
    broker.freeze()
    big = {f"k{i}": "x" * 1_000 for i in range(50)}
    for i in range(3_000):  # 150 MB, if they were kept; a blocking socket would hang here
        mirror.publish_kpi(big | {"n": i})
        mirror.publish_event("mms", {"n": i})
        if i % 100 == 0:
            await asyncio.sleep(0)
    assert mirror._link._unsent <= 50 + mirror_link.QUEUED
    assert mirror.dropped >= 3_000 - mirror_link.QUEUED - 1
    broker.thaw()
    async with Listener(broker.port) as heard:
        await until(lambda: mirror._link._unsent < 50)
        mirror.publish_mode({"mode": "advisory"})
        await until(lambda: any(m.payload["n"] == 2_999 for m in heard.of("kpi")))


async def test_a_host_that_takes_connections_and_never_answers_is_no_harm() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=50) as deaf:
        mirror = mirror_of(f"mqtt://127.0.0.1:{deaf.getsockname()[1]}")
        with capture_logs() as logs:
            mirror.start()
            await until(lambda: any(line["event"] == "MQTT broker lost" for line in logs))
            for _ in range(100):
                mirror.publish_kpi({})
            await mirror.stop(0.5)
    assert not mirror.connected
    assert [line["reason"] for line in logs if line["event"] == "MQTT broker lost"] == [
        "does not answer"
    ]


CONNACK_5 = b"\x20\x03\x00\x00\x00"


@pytest.mark.parametrize(
    "sent",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\xff" * 4_096,
        b"\x20\x7f",
        b"\x20\x03\x00\xee\x00",  # a reason code that does not exist
        CONNACK_5 + b"\xe0\x01\xee",  # disconnected for no known reason
        CONNACK_5 + b"\x30\x03\x00\x09x",  # a topic longer than its packet
        CONNACK_5 + b"\x30\x05\x00\x01\xff\x00\x00",  # a topic that is no UTF-8
        CONNACK_5 + b"\x40\x00",  # an acknowledgement of nothing
        CONNACK_5 + b"\x40\x04\xff\xff\x00\x7f",  # properties that are cut off
        CONNACK_5 + b"\xf0\xff\xff\xff\xff\xff",  # a length of five bytes
    ],
)
async def test_whatever_a_broker_sends_the_mirror_comes_again(
    sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror_link, "RECONNECT_S", (0.01, 0.01))
    visits = gone = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal visits, gone
        visits += 1
        with suppress(OSError):  # the mirror may hang up first
            await reader.read(10)
            writer.write(sent)
            writer.write_eof()
            await reader.read()
        writer.close()
        gone += 1

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    mirror = mirror_of(f"mqtt://127.0.0.1:{port}")
    mirror.start()
    await until(lambda: visits >= 4)
    mirror.publish_kpi({})
    await mirror.stop(2.0)
    # Who comes last has been answered: so has every visit of the mirror's that still waited.
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"the last one")
    await reader.read()
    writer.close()
    server.close()
    await until(lambda: gone == visits)
    assert not mirror.connected


async def test_a_stop_while_a_connection_comes_up_is_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    greeted, stopped, up = threading.Event(), threading.Event(), threading.Event()
    publish = mirror_link.Link._publish

    def publish_slowly(link: mirror_link.Link, topic: str, *rest: Any, **more: Any) -> Any:
        greeted.set()
        stopped.wait(30.0)
        return publish(link, topic, *rest, **more)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(CONNACK_5)
        await reader.read()
        writer.close()
        gone.set()

    gone = asyncio.Event()
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    mirror = mirror_of(f"mqtt://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    monkeypatch.setattr(mirror_link.Link, "_publish", publish_slowly)
    mirror._link.on_up = up.set  # the thread has done all that it does for a connection
    mirror.start()
    await until(greeted.is_set)
    await mirror.stop(0.1)
    stopped.set()
    await until(up.is_set)
    assert not mirror.connected
    server.close()
    await gone.wait()


@pytest.mark.peer
async def test_a_network_thread_that_fails_is_followed_by_another(
    broker: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror_link, "RECONNECT_S", (0.01, 0.01))
    loop, failures = paho.Client.loop_forever, iter(range(3))

    def fails_at_first(client: paho.Client, *args: Any) -> Any:
        if next(failures, None) is not None:
            raise struct.error("unpack requires a buffer of 2 bytes")
        return loop(client, *args)

    monkeypatch.setattr(paho.Client, "loop_forever", fails_at_first)
    mirror = mirror_of(broker.url)
    with capture_logs() as logs:
        mirror.start()
        await until(lambda: mirror.connected)
        await mirror.stop()
    assert [line["reason"] for line in logs if line["event"] == "MQTT broker lost"] == [
        "client failed: error: unpack requires a buffer of 2 bytes"
    ]


@pytest.mark.peer
async def test_passwords(tmp_path: Path) -> None:
    words = ["-c", "-b", str(tmp_path / "pw"), "skadi", "g00d"]
    setter = await asyncio.create_subprocess_exec(peer("mosquitto_passwd"), *words)
    assert await setter.wait() == 0
    async with Mosquitto(tmp_path, f"password_file {tmp_path / 'pw'}") as broker:
        ref = {"username": "skadi", "password": {"env": "MQTT"}}
        good = mirror_of(broker.url, secret="g00d", **ref)
        good.start()
        await until(lambda: good.connected)
        with capture_logs() as logs:
            bad = mirror_of(broker.url, secret="wr0ng", **ref)
            bad.start()
            await until(lambda: any(line["event"] == "MQTT broker lost" for line in logs))
            none = mirror_of(broker.url, **ref)
            none.start()  # the secret is not there
            none.publish_kpi({})
            for mirror in (good, bad, none):
                await mirror.stop(0.5)
        assert "Not authorized" in str(logs)
        assert "MQTT is not set" in str(logs)
        assert "wr0ng" not in str(logs)


async def connects(url: str, ca: Path | None) -> bool:
    with capture_logs() as logs:
        mirror = mirror_of(url, ca_file=str(ca) if ca else None)
        mirror.start()
        await until(lambda: mirror.connected or logs)
        connected = mirror.connected
        await mirror.stop()
    return connected


# paho leaves a socket whose handshake failed to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")
@pytest.mark.peer
async def test_tls_trusts_only_the_named_authority_and_name(tmp_path: Path) -> None:
    trusted, key = certificate(tmp_path, "localhost")
    other, _ = certificate(tmp_path, "elsewhere")
    async with Mosquitto(tmp_path, f"certfile {trusted}", f"keyfile {key}") as broker:
        assert ssl.HAS_TLSv1_3
        outcomes = {
            (host, ca.name if ca else None): await connects(f"mqtts://{host}:{broker.port}", ca)
            for host, ca in (("localhost", trusted), ("localhost", other), ("127.0.0.1", trusted),
                             ("localhost", None), ("localhost", tmp_path / "none.crt"))
        }  # fmt: skip
        gc.collect()
        assert outcomes == {
            ("localhost", "localhost.crt"): True, ("localhost", "elsewhere.crt"): False,
            ("127.0.0.1", "localhost.crt"): False, ("localhost", None): False,
            ("localhost", "none.crt"): False,
        }  # fmt: skip


@pytest.fixture
async def demo_broker() -> AsyncIterator[DemoBroker]:
    made = DemoBroker()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def demo_mirror(demo_broker: DemoBroker) -> AsyncIterator[Mirror]:
    made = mirror_of(demo_broker.url)
    made.start()
    yield made
    await made.stop()


@pytest.mark.peer
async def test_the_demo_broker_is_reached_by_mqtt_3_and_passes_messages_on(
    demo_broker: DemoBroker, demo_mirror: Mirror
) -> None:
    async with Listener(int(demo_broker.url.rpartition(":")[2]), "-V", "mqttv311") as heard:
        await until(lambda: demo_mirror.connected)
        demo_mirror.publish_device(RACK, [inlet(22.5)])
        demo_mirror.publish_action({"move": "fan"})
        assert (await heard.hears("_agent/status")).payload["state"] == "online"
        state = await heard.hears("device/rack-a01/state")
        assert state.payload["points"]["inlet_c"]["value"] == 22.5
        assert (await heard.hears("action")).payload["move"] == "fan"
        await demo_mirror.stop()
        assert (await heard.hears("_agent/status", 2)).payload["reason"] == "stopped"
    await demo_broker.stop()
    await demo_broker.stop()


def test_the_demo_broker_stays_on_loopback() -> None:
    with pytest.raises(ValueError, match="loopback"):
        DemoBroker("0.0.0.0")


def test_a_site_without_mqtt_has_no_mirror() -> None:
    with pytest.raises(ValueError, match="mqtt"):
        Mirror(SITE, VirtualClock(T0))


@given(st.text())
def test_any_text_becomes_one_level_of_a_topic(text: str) -> None:
    word = topic_word(text)
    assert 1 <= len(word) <= 64
    assert not set(word) & set("/#+ \0")
    assert word.isascii()
