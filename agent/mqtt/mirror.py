"""The site's state on MQTT: what a device said, what is decided, what was done, who is alive.

Decides what is retained, and what is given up when the broker is slow or away: state is only
ever the latest, events and actions wait in a bounded queue. The connection lives in paho's own
thread; nothing here may block the event loop, raise into it, or touch control. Numbers that are
not finite never leave: their value is null and the quality says why.

    {base}/{site}/{area}/  _agent/status   birth, will, clean stop           retained, QoS 1
                           _agent/info     version, boot, topics, schema     retained
                           device/{id}/state   one message a device a cycle  retained
                           device/{id}/health  capability and polling        retained
                           row/{id}/state  hall/state  kpi  mode             retained
                           alarm/{id}      while active, then removed        retained, QoS 1
                           event/{kind}  action  decision                    QoS 1
"""

import asyncio
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import structlog

from agent.clock import Clock, utc
from agent.mqtt.backlog import Backlog
from agent.mqtt.link import Link
from agent.mqtt.payload import (
    SCHEMA,
    TOPICS,
    Template,
    device_payload,
    point_payload,
    topic_word,
)
from agent.mqtt.schema import SCHEMAS
from agent.plain import strict_json
from config.secrets import SecretError
from config.site import Device, Site
from control.types import Reading, Sweep

log = structlog.get_logger(__name__)

STOP_S = 3.0


class Mirror:
    """One site's mirror. `start()`, publish from the event loop's thread, `await stop()`."""

    def __init__(
        self,
        site: Site,
        clock: Clock,
        environ: Mapping[str, str] | None = None,
        version: str | None = None,
        nonce: str = "",
        folder: Path | None = None,
    ) -> None:
        """folder: where messages wait while the broker is away; None: some of them, in memory."""
        if site.mqtt is None:
            raise ValueError("the site has no [mqtt] section: there is no mirror to make")
        self._site = site
        self._clock = clock
        self._environ = environ
        self._version = metadata.version("skadi") if version is None else version
        self._root = f"{site.mqtt.base_topic}/{site.id}/{site.area}"
        self._seq: dict[str, int] = {}
        self._templates: dict[str, Template] = {}
        self._link = Link(self._root, f"skadi-{site.id}-{site.area}", nonce, site.mqtt)

        self._told: dict[str, tuple[object, ...]] = {}
        self._backlog: Backlog | None = None
        if folder is not None and site.mqtt.spool_mb:
            self._backlog = Backlog(folder, site.mqtt.spool_mb << 20, self._link.backfill)
            self._link.on_up = self._backlog.wake

    @property
    def connected(self) -> bool:
        """True while the broker has accepted us."""
        return self._link.connected

    @property
    def nonce(self) -> str:
        """What tells this run of the agent from every other one."""
        return self._link.nonce

    @property
    def dropped(self) -> int:
        """Messages given up since the start."""
        return self._link.dropped + (self._backlog.dropped if self._backlog else 0)

    @property
    def waiting(self) -> int:
        """Messages on disk, to be sent when the broker is back."""
        return self._backlog.rows if self._backlog else 0

    def start(self) -> None:
        """Connect in the background, and keep trying. Never raises: what can't work is logged."""
        self._link.set_birth(self._status("online"))
        self._link.set_retained("_agent/info", self._info())
        if self._backlog is not None:
            self._backlog.start()
        try:
            self._link.start(self._environ)
        except (SecretError, OSError, ValueError) as error:
            log.error("no MQTT mirror until restart", reason=str(error), url=self._link.url)

    def adopt(self, site: Site) -> None:
        """Go on with another version of the site; what it no longer has is forgotten."""
        for topic in self._link.retained - _topics(site):
            if topic.startswith(("device/", "row/")):
                self._link.clear_retained(topic)
        self._told = {key: look for key, look in self._told.items() if key in site.points}
        self._site = site
        self._templates.clear()
        self._link.set_retained("_agent/info", self._info())

    async def stop(self, timeout_s: float = STOP_S) -> None:
        """Say that this is a clean stop, wait for what is under way, and disconnect."""
        goodbye = strict_json(self._status("offline") | {"reason": "stopped"})
        await asyncio.to_thread(self._link.stop, goodbye, timeout_s)
        if self._backlog is not None:
            await asyncio.to_thread(self._backlog.stop, timeout_s)

    def publish_device(self, device: Device, readings: Sequence[Reading]) -> None:
        """What a device said in one poll."""
        topic = f"device/{device.id}/state"
        if self._site.mqtt is not None and self._site.mqtt.per_point:
            self._publish_points(device, readings)
        if isinstance(readings, Sweep):
            self._seq[topic] = seq = self._seq.get(topic, 0) + 1
            template = self._templates.get(device.id)
            if template is None or not template.fits(readings):
                template = self._templates[device.id] = Template(self._site, device, readings)
            self._retain(topic, template.fill(readings, seq))
            return
        self._state(topic, device_payload(self._site, device, readings))

    def _publish_points(self, device: Device, readings: Sequence[Reading]) -> None:
        """A message for each point whose value or quality is another than last said."""
        for reading in readings:
            point = self._site.points.get(reading.point)
            look = reading.value, reading.quality
            if point is not None and self._told.get(reading.point) != look:
                self._told[reading.point] = look
                topic = f"device/{device.id}/point/{topic_word(point.id)}"
                self._state(topic, point_payload(point, reading))

    def publish_health(self, device: str, health: Mapping[str, object]) -> None:
        """How polling a device goes, and what it offers."""
        self._state(f"device/{device}/health", health)

    def publish_unit(self, unit: str, state: Mapping[str, object]) -> None:
        """What the monitor says of "row:A" or of "hall": deviation, thresholds, state, since when."""
        if row := unit.partition(":")[2]:
            self._state(f"row/{topic_word(row)}/state", {"row": row, **state})
        else:
            self._state("hall/state", state)

    def publish_kpi(self, kpi: Mapping[str, object]) -> None:
        """The hall's figures."""
        self._state("kpi", kpi)

    def publish_mode(self, mode: Mapping[str, object]) -> None:
        """Running mode, armed scopes, kill switch."""
        self._state("mode", mode)

    def publish_event(self, kind: str, detail: Mapping[str, object]) -> None:
        """Something that happened."""
        self._say(f"event/{topic_word(kind)}", self._stamped("event", detail))

    def publish_action(self, action: Mapping[str, object]) -> None:
        """A write and its receipt, a giving back, or what came of it."""
        self._say("action", self._stamped("action", action))

    def publish_decision(self, decision: Mapping[str, object]) -> None:
        """A proposal and its verdict."""
        self._say("decision", self._stamped("decision", decision))

    def publish_alarm(self, alarm: str, detail: Mapping[str, object] | None) -> None:
        """An alarm while it is active; None: it has ended."""
        topic = f"alarm/{topic_word(alarm)}"
        if detail is None:
            self._link.clear_retained(topic)
        else:
            self._link.set_retained(topic, self._stamped(topic, {"id": alarm, **detail}), qos=1)

    def _state(self, topic: str, body: Mapping[str, object]) -> None:
        self._retain(topic, self._stamped(topic, body))

    def _retain(self, topic: str, payload: str) -> None:
        """A state: the latest for all, and one a minute kept for later while nobody hears it."""
        self._link.set_retained(topic, payload)
        if self._backlog is not None and not self._link.connected:
            self._backlog.sample(self._clock.now_s(), topic, payload)

    def _say(self, topic: str, payload: str) -> None:
        """Something that is said once: now, or later from disk."""
        if self._backlog is not None and not self._link.connected:
            self._backlog.keep(self._clock.now_s(), topic, payload)
        else:
            self._link.send(topic, payload, qos=1)

    def _stamped(self, topic: str, body: Mapping[str, object]) -> str:
        """The body with the agent's UTC time (unless it brings one) and the topic's own count."""
        self._seq[topic] = self._seq.get(topic, 0) + 1
        head: dict[str, Any] = {"ts": utc(self._clock.now_s()), "seq": self._seq[topic]}
        return strict_json({**head, **body, "seq": self._seq[topic]})

    def _status(self, state: str) -> dict[str, object]:
        now = utc(self._clock.now_s())
        return {"state": state, "ts": now, "nonce": self.nonce, "version": self._version}

    def _info(self) -> str:
        return strict_json(
            {
                "ts": utc(self._clock.now_s()),
                "site": self._site.id,
                "area": self._site.area,
                "version": self._version,
                "schema": SCHEMA,
                "boot_id": self._clock.boot_id,
                "nonce": self.nonce,
                "topics": {f"{self._root}/{topic}": about for topic, about in TOPICS.items()},
                "schemas": {f"{self._root}/{topic}": shape for topic, shape in SCHEMAS.items()},
                "devices": {d.id: len(d.points) for d in self._site.devices},
            }
        )


def _topics(site: Site) -> set[str]:
    """The topics of state that a site's devices, points and rows can have."""
    found = {f"row/{topic_word(row)}/state" for row in site.rows}
    for device in site.devices:
        found |= {f"device/{device.id}/{what}" for what in ("state", "health")}
        found |= {f"device/{device.id}/point/{topic_word(p.id)}" for p in device.points}
    return found
