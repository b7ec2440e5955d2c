"""The MQTT contract: every message fits its schema, what was missed comes later, ACLs as written."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from agent.clock import VirtualClock
from agent.commands import Inbox
from agent.health import Health
from agent.mqtt import backlog as mirror_backlog
from agent.mqtt import link as mirror_link
from agent.mqtt.command_link import CommandLink
from agent.mqtt.mirror import Mirror
from agent.mqtt.payload import TOPICS
from agent.mqtt.schema import SCHEMAS
from agent.publish import publish_to
from config.secrets import SecretRef
from config.surfaces import MqttSection
from control.types import Finding, Quality, Reading
from tests.agent import make
from tests.agent.mosquitto import Listener, Mosquitto
from tests.api.make import NONCE, hall_site, house
from tests.api.test_commands import envelope
from tests.certs import certificate
from tests.peers import peer, until

T0 = 1_700_000_000.0
DOCS = Path(__file__).parents[2] / "docs" / "how-to" / "mqtt"
pytestmark = pytest.mark.peer


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror_link, "RECONNECT_S", (1, 1))
    monkeypatch.setattr(mirror_backlog, "FLUSH_S", 0.2)


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Mosquitto]:
    async with Mosquitto(tmp_path) as made:
        yield made


def schema_of(topic: str) -> str:
    """The name in SCHEMAS of a topic below the root."""
    for name in SCHEMAS:
        pattern = re.sub(r"\\\{[a-z]+\\\}", "[^/]+", re.escape(name))
        if re.fullmatch(pattern, topic):
            return name
    raise AssertionError(f"no schema for {topic}")


def test_every_topic_has_a_schema() -> None:
    assert set(SCHEMAS) == set(TOPICS)
    for schema in SCHEMAS.values():
        jsonschema_rs.validator_for(schema)


async def test_every_message_of_a_running_hall_fits_its_schema(
    tmp_path: Path, broker: Mosquitto
) -> None:
    site = hall_site(tmp_path, push=False, mqtt=MqttSection(url=broker.url, per_point=True))
    root = f"skadi/{site.id}/{site.area}/"
    seen: dict[str, int] = {}
    async with Listener(broker.port) as heard, house(tmp_path, site) as hall:
        mirror = Mirror(site, hall.clock, {}, "1", NONCE)
        mirror.start()
        await until(lambda: mirror.connected)
        hall.agent.listeners.append(publish_to(mirror, hall.agent))
        await hall.minutes(12)
        hall.agent.services.seen = hall.api.context
        await Health(hall.agent, mirror.publish_health).run()
        hall.agent.note("test", {"about": "an event"})
        found = [Finding(u, 1.0, 0.9, "nominal", T0, ("inlet_c",), 0.1) for u in ("row:A", "hall")]
        hall.agent.tell("findings", {"findings": {f.unit: f for f in found}, "now_s": T0})
        await hall.agent.change_mode(*_killing())
        await hall.minutes(2)
        await mirror.stop()
        await until(lambda: any(m.payload.get("state") == "offline" for m in _of(heard, root)))
        validators = {k: jsonschema_rs.validator_for(s) for k, s in SCHEMAS.items()}
        for message in _of(heard, root):
            name = schema_of(message.topic.removeprefix(root))
            seen[name] = seen.get(name, 0) + 1
            validators[name].validate(message.payload)
    assert set(SCHEMAS) - set(seen) <= {"command/{principal}", "command/{principal}/result"}
    info = next(m for m in heard.messages if m.topic == f"{root}_agent/info")
    assert info.payload["schemas"][f"{root}kpi"] == SCHEMAS["kpi"]


def _killing() -> tuple[Any, str, str, str]:
    from control.modes import Event

    return Event.KILL, "", "cli", "engineer"


def _of(heard: Listener, root: str) -> list[Any]:
    return [m for m in heard.messages if m.topic.startswith(root) and m.payload is not None]


def mirror_of(url: str, folder: Path, **mqtt: Any) -> Mirror:
    site = make.site(mqtt={"url": url, **mqtt})
    return Mirror(site, VirtualClock(T0), {}, version="1", folder=folder)


def reading(value: float, at_s: float = T0, quality: Quality = Quality.GOOD) -> Reading:
    return Reading("rack-a01/inlet_c", value, at_s, quality)


async def test_a_point_is_told_when_it_changes(tmp_path: Path, broker: Mosquitto) -> None:
    mirror = mirror_of(broker.url, tmp_path / "mqtt", per_point=True)
    rack = mirror._site.device["rack-a01"]
    async with Listener(broker.port) as heard:
        mirror.start()
        await until(lambda: mirror.connected)
        for value in (20.0, 20.0, 20.5, 20.5):
            mirror.publish_device(rack, [reading(value)])
        mirror.publish_device(rack, [reading(20.5, quality=Quality.STALE)])
        await heard.hears("device/rack-a01/state", 5)
        await heard.hears("device/rack-a01/point/inlet_c", 3)
        await mirror.stop()
    told = [m.payload for m in heard.of("device/rack-a01/point/inlet_c")]
    assert [(p["value"], p["quality"], p["seq"]) for p in told] == [
        (20.0, "good", 1), (20.5, "good", 2), (20.5, "stale", 3),
    ]  # fmt: skip
    assert told[0]["unit"] == "degC"


async def test_what_a_reload_takes_away_is_forgotten_by_the_broker(
    tmp_path: Path, broker: Mosquitto
) -> None:
    mirror = mirror_of(broker.url, tmp_path / "mqtt", per_point=True)
    site = mirror._site
    gone, stays = site.device["rack-a01"], next(d for d in site.devices if d.id != "rack-a01")
    mirror.start()
    await until(lambda: mirror.connected)
    mirror.publish_device(gone, [reading(20.0)])
    mirror.publish_health("rack-a01", {"device": "rack-a01"})
    mirror.publish_health(stays.id, {"device": stays.id})
    mirror.publish_unit("row:nowhere", {"state": "nominal"})
    mirror.publish_alarm("device:rack-a01", {"state": "unacknowledged"})
    mirror.adopt(replace(site, devices=tuple(d for d in site.devices if d is not gone)))
    await mirror.stop()
    async with Listener(broker.port) as heard:
        await heard.hears("_agent/info", 1)
        await heard.hears("alarm/device:rack-a01", 1)  # ends by itself, when its cause does
    left = {m.topic.partition("/hall-a/")[2] for m in heard.messages if m.retained and m.payload}
    assert left == {
        "_agent/status",
        "_agent/info",
        "alarm/device:rack-a01",
        f"device/{stays.id}/health",
    }


def speak(mirror: Mirror, clock: VirtualClock, start: int, count: int) -> None:
    """A minute each: a state and an event."""
    rack = mirror._site.device["rack-a01"]
    for n in range(start, start + count):
        clock.advance(60.0)
        mirror.publish_device(rack, [reading(float(n), clock.now_s())])
        mirror.publish_event("test", {"n": n})


async def test_what_was_missed_comes_later_marked_and_in_order(
    tmp_path: Path, broker: Mosquitto
) -> None:
    folder, clock = tmp_path / "mqtt", VirtualClock(T0)
    site = make.site(mqtt={"url": broker.url})
    mirror = Mirror(site, clock, {}, version="1", folder=folder)
    mirror.start()
    await until(lambda: mirror.connected)
    speak(mirror, clock, 0, 3)
    await broker.stop()
    await until(lambda: not mirror.connected)
    speak(mirror, clock, 3, 20)
    await until(lambda: list(folder.glob("*.z")))
    await mirror.stop()  # the agent itself is restarted meanwhile
    again = Mirror(site, clock, {}, version="1", folder=folder)
    again.start()
    speak(again, clock, 23, 20)
    await broker.start()
    async with Listener(broker.port) as heard:
        await until(lambda: again.connected)
        await until(lambda: len(_numbers(heard)) >= 40)
        speak(again, clock, 43, 1)
        await until(lambda: 43 in _numbers(heard))
        await until(lambda: not again.waiting)
        await again.stop()
    assert sorted(set(_numbers(heard))) == list(range(3, 44))
    late = [m for m in heard.of("event/test") if m.payload.get("backfill")]
    assert {m.payload["n"] for m in late} == set(range(3, 43))
    assert not any(m.retained for m in late)
    states = [m for m in heard.of("device/rack-a01/state") if m.payload.get("backfill")]
    values = {m.payload["points"]["inlet_c"]["value"] for m in states}
    assert values == {float(n) for n in range(3, 43)}
    assert not any(m.payload.get("backfill") for m in heard.messages if m.retained)
    assert not list(folder.glob("*.z"))


def _numbers(heard: Listener) -> list[int]:
    return [m.payload["n"] for m in heard.of("event/test")]


async def test_the_bound_on_disk_holds_and_the_newest_stay(tmp_path: Path) -> None:
    clock = VirtualClock(T0)
    site = make.site(mqtt={"url": "mqtt://127.0.0.1:9", "spool_mb": 1})
    mirror = Mirror(site, clock, {}, version="1", folder=tmp_path / "mqtt")
    mirror.start()
    noise = "".join(chr(0x4E00 + (n * 7919) % 20_000) for n in range(3_000))
    for n in range(1_500):
        clock.advance(60.0)
        mirror.publish_event("test", {"n": n, "noise": noise[n % 1_000 :] + noise[: n % 1_000]})
        if n % 100 == 99:
            await until(lambda: not mirror._backlog._rows)  # type: ignore[union-attr]
    await mirror.stop()
    files = list((tmp_path / "mqtt").glob("*.z"))
    assert sum(f.stat().st_size for f in files) <= 1 << 20
    assert mirror.dropped > 0
    assert mirror.waiting + mirror.dropped == 1_500


def documented(folder: Path, *names: str) -> tuple[Callable[[str], str], list[str]]:
    """The example files with their paths moved to `folder`, and the lines of the configuration."""
    cert, key = certificate(folder, "localhost")
    places = {"/etc/mosquitto/certs/ca.crt": cert, "/etc/mosquitto/certs/broker.crt": cert,
              "/etc/mosquitto/certs/broker.key": key, "/etc/mosquitto/skadi.passwd": folder / "passwd",
              "/etc/mosquitto/skadi.acl": folder / "acl", "/var/lib/mosquitto/": f"{folder}/"}  # fmt: skip

    def moved(text: str) -> str:
        for place, here in places.items():
            text = text.replace(place, str(here))
        return text

    (folder / "acl").write_text((DOCS / "skadi.acl").read_text())
    lines = moved((DOCS / "mosquitto.conf").read_text()).splitlines()
    return moved, [x for x in lines if x and not x.startswith(("#", "listener", "per_listener"))]


async def run(*command: str) -> int:
    process = await asyncio.create_subprocess_exec(*command)
    return await process.wait()


async def test_the_documented_broker_lets_each_do_what_the_acl_says(tmp_path: Path) -> None:
    _, lines = documented(tmp_path)
    for i, name in enumerate(("skadi", "dashboard", "ann")):
        new = ["-c"] if i == 0 else []
        assert (
            await run(
                peer("mosquitto_passwd"), "-b", *new, f"{tmp_path}/passwd", name, f"pw-{name}"
            )
            == 0
        )
    site = hall_site(tmp_path, push=False, id="ber1", area="hall-a")
    async with Mosquitto(tmp_path, *lines) as broker, house(tmp_path, site) as hall:
        ca = f"{tmp_path}/localhost.crt"
        section = MqttSection(
            url=f"mqtts://localhost:{broker.port}", username="skadi", password=SecretRef(env="PW"),
            ca_file=ca, commands=True, principals={"ann": "operator", "bob": "operator"},
        )  # fmt: skip
        environ = {"PW": "pw-skadi"}
        root = "skadi/ber1/hall-a"
        inbox = Inbox(hall.agent, NONCE, section.principals)
        link = CommandLink(inbox, root, "skadi-commands", section, environ)
        link.start()
        await until(lambda: link.listening)

        def client(program: str, user: str) -> list[str]:
            return [peer(program), "-h", "localhost", "-p", str(broker.port), "--cafile", ca,
                    "-u", user, "-P", f"pw-{user}", "-V", "5", "-q", "1"]  # fmt: skip

        async def command(user: str, name: str, number: int) -> int:
            body = json.dumps(envelope(hall, f"command-{number}", "mode.lower"))
            return await run(
                *client("mosquitto_pub", user), "-t", f"{root}/command/{name}", "-m", body
            )

        options = ("--cafile", ca, "-u", "ann", "-P", "pw-ann", "-h", "localhost")
        async with Listener(broker.port, *options) as heard:
            await until(lambda: _subscribed(tmp_path))
            await command("dashboard", "ann", 1)
            await command("ann", "bob", 2)
            assert await command("ann", "ann", 3) == 0
            results = f"{root}/command/ann/result"
            await until(lambda: [m for m in heard.messages if m.topic == results])
        told = [m.payload for m in heard.messages if m.topic == results]
        assert [(t["id"], t["ok"]) for t in told] == [("command-3", True)]
        assert [e["principal"] for e in hall.audit()] == ["ann"]
        await link.stop()
        wrong = [*client("mosquitto_pub", "ann")]
        wrong[wrong.index("pw-ann")] = "guess"
        assert await run(*wrong, "-t", f"{root}/command/ann", "-m", "x") != 0


def _subscribed(folder: Path) -> bool:
    """True when the broker has told of a subscription of the listener."""
    logs = "".join(p.read_text() for p in folder.glob("mosquitto-*.log"))
    return len(re.findall(r"as auto-", logs)) >= 1
