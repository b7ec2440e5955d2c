"""Brings commands from the broker to the inbox, and what came of them back.

A connection of its own beside the mirror's: its own permissions at the broker, and nothing that
is published can delay a command. Decides nothing of commands. Subscribes to

    {root}/command/{principal}          the broker's ACL says who may publish there
    {root}/command/{principal}/result   what came of it: id, ok, refused, detail

Never asks for what was retained, never resumes a session: what was sent while we were away is lost
on purpose. paho's thread only hands messages over; what can't be kept up with is dropped and counted.
"""

import asyncio
import ssl
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import paho.mqtt.client as paho
import structlog
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from agent.commands import Inbox
from agent.logs import Outage
from agent.mqtt.link import PORTS
from agent.plain import strict_json
from config.schema import MqttSection
from config.secrets import resolve

log = structlog.get_logger(__name__)

CONNECT_S = 5.0
BACKOFF_S = (1.0, 2.0, 5.0, 10.0, 30.0)
WAITING = 64  # commands that wait to be carried out
MOST_PACKET = 65_536
VERSIONS = (MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311)


class CommandLink:
    """One subscription. `start()`, then `await stop()`; from one event loop."""

    def __init__(
        self, inbox: Inbox, root: str, client_id: str, mqtt: MqttSection,
        environ: Mapping[str, str] | None,
    ) -> None:  # fmt: skip
        self.dropped = 0
        self._inbox = inbox
        self._topic = f"{root}/command"
        self._client_id = client_id
        self._mqtt = mqtt
        self._environ = environ
        self._queue: asyncio.Queue[tuple[str, bytes, bool]] = asyncio.Queue(WAITING)
        self._subscribed = asyncio.Event()
        self._outage = Outage("MQTT broker for commands", url=mqtt.url)
        self._client: paho.Client | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def listening(self) -> bool:
        """True while the broker has confirmed the subscription."""
        return self._subscribed.is_set()

    def start(self) -> None:
        """Connect in the background and keep trying."""
        self._loop = asyncio.get_running_loop()
        self._tasks = [
            asyncio.create_task(self._connect(), name="commands: connect"),
            asyncio.create_task(self._work(), name="commands: work"),
        ]

    async def stop(self) -> None:
        """Take no more commands."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._let_go()

    async def _connect(self) -> None:
        """Find a version of MQTT that the broker speaks; from then on paho reconnects by itself."""
        attempt = 0
        while True:
            version = VERSIONS[attempt % len(VERSIONS)]
            try:
                self._client = self._make(version)
                async with asyncio.timeout(CONNECT_S):
                    await self._subscribed.wait()
                self._outage.worked()
                return
            except TimeoutError:
                self._outage.failed("does not answer, or refuses us")
            except (OSError, ValueError) as error:
                self._outage.failed(str(error))
            await self._let_go()
            attempt += 1
            await asyncio.sleep(BACKOFF_S[min(attempt, len(BACKOFF_S)) - 1])

    def _make(self, version: MQTTProtocolVersion) -> paho.Client:
        v5 = version is MQTTProtocolVersion.MQTTv5
        options: dict[str, Any] = {} if v5 else {"clean_session": True}
        client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=self._client_id, protocol=version, **options
        )
        parts = urlsplit(self._mqtt.url)
        if self._mqtt.username is not None:
            secret = self._mqtt.password
            password = resolve(secret, self._environ).get_secret_value() if secret else None
            client.username_pw_set(self._mqtt.username, password)
        if parts.scheme == "mqtts":
            client.tls_set_context(ssl.create_default_context(cafile=self._mqtt.ca_file))
        client.reconnect_delay_set(1, 30)
        client.connect_timeout = CONNECT_S
        client.on_connect = self._connected
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._disconnected
        client.on_message = self._message
        more: dict[str, Any] = {}
        if v5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.MaximumPacketSize = MOST_PACKET
            more = {"clean_start": True, "properties": properties}
        port = parts.port or PORTS[parts.scheme]
        client.connect_async(parts.hostname or "", port, keepalive=15, **more)
        client.loop_start()
        return client

    async def _let_go(self) -> None:
        client, self._client = self._client, None
        self._subscribed.clear()
        if client is not None:
            client.disconnect()
            await asyncio.to_thread(client.loop_stop)

    # In paho's thread.

    def _connected(
        self, client: paho.Client, _data: Any, _flags: Any, reason: ReasonCode, _props: Any
    ) -> None:
        if reason.is_failure:
            self._outage.failed(f"refused: {reason}")
            return
        if client.protocol is MQTTProtocolVersion.MQTTv5:
            wish = SubscribeOptions(qos=1, retainAsPublished=True, retainHandling=2)
            client.subscribe(f"{self._topic}/+", options=wish)
        else:
            client.subscribe(f"{self._topic}/+", qos=1)

    def _on_subscribe(
        self, _c: paho.Client, _data: Any, _mid: int, reasons: list[ReasonCode], _props: Any
    ) -> None:
        if any(r.is_failure for r in reasons):
            self._outage.failed(f"subscription refused: {reasons[0]}: look at the broker's ACL")
        else:
            self._tell(self._subscribed.set)

    def _disconnected(self, _c: paho.Client, _data: Any, _f: Any, _r: Any, _props: Any) -> None:
        self._tell(self._subscribed.clear)

    def _message(self, _c: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        principal = message.topic.rpartition("/")[2]
        self._tell(self._arrived, principal, message.payload, message.retain)

    def _tell(self, function: Any, *values: Any) -> None:
        with suppress(RuntimeError):  # the loop has ended: the agent stops
            self._loop.call_soon_threadsafe(function, *values)

    # In the event loop.

    def _arrived(self, principal: str, raw: bytes, retained: bool) -> None:
        try:
            self._queue.put_nowait((principal, raw, retained))
        except asyncio.QueueFull:
            self.dropped += 1
            if self.dropped == 1 or self.dropped % 1000 == 0:
                log.warning("commands come faster than they are taken", dropped=self.dropped)

    async def _work(self) -> None:
        while True:
            principal, raw, retained = await self._queue.get()
            try:
                reply = await self._inbox.take(raw, principal, retained)
            except Exception:  # a bug behind one command must not deafen us to the next: kill, say
                log.exception("command failed", principal=principal)
                continue
            client = self._client
            if reply is not None and client is not None:
                client.publish(f"{self._topic}/{principal}/result", strict_json(reply), qos=1)
