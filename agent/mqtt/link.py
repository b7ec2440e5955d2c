"""The connection to the broker: paho in its own thread, and what happens while it is not there.

Decides what is kept for later: the latest retained message of each topic (sent again after every
connect, after the birth) and a bounded number of QoS 1 messages. A broker that takes messages
slower than they come gets only the latest of each retained topic. `set_retained` and `send` are
called from the event loop's thread and must never block on the network.
"""

import secrets
import ssl
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import paho.mqtt.client as paho
import structlog
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.reasoncodes import ReasonCode

from agent.logs import Outage
from agent.mqtt.client import Client
from agent.plain import strict_json
from config.schema import MqttSection
from config.secrets import resolve

log = structlog.get_logger(__name__)

PORTS = {"mqtt": 1883, "mqtts": 8883}
KEEPALIVE_S = 15  # a broker that is gone without a word is noticed within twice that
CONNECT_S = 5.0
CONNACK_S = 2.0  # amqtt 0.12 never answers a CONNECT of MQTT 5 with a will: try 3.1.1 then
RECONNECT_S = (1, 30)
QUEUED = 2_000  # QoS 1 messages that wait while the broker is away
UNSENT = 2_000  # messages handed to paho and not yet on the wire; above it state waits its turn
ROOM, ROOM_WAIT_S, ROOM_TRIES = 200, 0.05, 200  # backfill leaves the rest to what is live
_REFUSES_V5 = 132  # CONNACK "unsupported protocol version", MQTT 5.0 section 3.2.2.2
STATUS = "_agent/status"


Message = tuple[str, str, int, bool]  # topic below the root, payload, QoS, retain


class Link:
    """One client of one broker. Speaks MQTT 5, or 3.1.1 to a broker that knows no other.

    While the broker is away only paho's thread publishes (in `_connected`, until it has caught
    up), while it is there only the event loop's: so no older state can overtake a newer one.
    `_lock` guards the fields and is never held during a call of paho, which has locks of its own.
    """

    def __init__(self, root: str, client_id: str, nonce: str, mqtt: MqttSection) -> None:
        self.url = mqtt.url
        self.nonce = nonce or secrets.token_hex(8)
        self.dropped = 0
        self.on_up: Callable[[], None] = lambda: None  # called in paho's thread
        self._root = root
        self._client_id = client_id
        self._mqtt = mqtt
        self._lock = threading.Lock()
        self._birth = ""
        self._retained: dict[str, tuple[str, int]] = {}  # topic -> payload, QoS
        self._waiting: dict[str, None] = {}  # retained topics whose latest is not yet sent
        self._queue: deque[tuple[str, str, int]] = deque()
        self._unsent = 0
        self._client: Client | None = None
        self._life = threading.Lock()  # of one client giving way to the next, or to none
        self._ended = threading.Event()
        self._environ: Mapping[str, str] | None = None
        self._up = False
        self._answered = False  # the broker has answered the CONNECT on this connection
        self._outage = Outage("MQTT broker", url=mqtt.url)

    @property
    def connected(self) -> bool:
        """True while the broker has accepted us and has the state of before."""
        return self._up

    @property
    def retained(self) -> frozenset[str]:
        """The topics that have a state."""
        with self._lock:
            return frozenset(self._retained)

    def set_birth(self, status: Mapping[str, object]) -> None:
        """What is said first after every connect."""
        self._birth = strict_json(status)

    def start(self, environ: Mapping[str, str] | None) -> None:
        """Connect in the background. Raises SecretError, OSError (a CA file), ValueError."""
        self._environ = environ
        self._begin(MQTTProtocolVersion.MQTTv5)

    def set_retained(self, topic: str, payload: str, qos: int = 0) -> None:
        """This is the topic's state from now on, here and at the broker."""
        with self._lock:
            self._retained[topic] = (payload, qos)
            self._waiting[topic] = None
        self._catch_up()

    def clear_retained(self, topic: str) -> None:
        """The topic has no state any more: the broker forgets it too."""
        self.set_retained(topic, "", qos=1)

    def send(self, topic: str, payload: str, qos: int) -> None:
        """Something that is said once. Waits, up to a bound, while the broker is away."""
        with self._lock:
            if not self._up:
                if len(self._queue) >= QUEUED:
                    self._queue.popleft()
                    self.dropped += 1
                self._queue.append((topic, payload, qos))
                return
        self._publish(topic, payload, qos, retain=False)
        self._catch_up()

    def backfill(self, topic: str, payload: str) -> paho.MQTTMessageInfo | None:
        """Send what was kept on disk, from any thread, while live messages leave room.

        None when the broker is away. Waits for room within bounds.
        """
        for _ in range(ROOM_TRIES):
            if not self._up or self._ended.is_set():
                return None
            if self._unsent < ROOM:
                return self._publish(topic, payload, qos=1, retain=False)
            self._ended.wait(ROOM_WAIT_S)
        return None

    def stop(self, goodbye: str, timeout_s: float) -> None:
        """Say goodbye, wait for it up to timeout_s, disconnect. Blocks: call it in a thread."""
        client = self._client
        if client is None:
            return
        if self._up:
            said = client.publish(f"{self._root}/{STATUS}", goodbye, qos=1, retain=True)
            try:
                said.wait_for_publish(timeout_s)
            except (RuntimeError, ValueError) as error:  # the connection went, or its queue is full
                log.warning("MQTT goodbye not sent; the last will speaks", reason=str(error))
        self._ended.set()
        with self._life:
            client, self._client = self._client, None
        with self._lock:
            self._up = False
        assert client is not None
        client.disconnect()
        # loop_stop waits for all that is queued, which a broker that has stalled never takes.
        ending = threading.Thread(target=client.loop_stop, daemon=True, name="mqtt: stop")
        ending.start()
        ending.join(timeout_s)
        if ending.is_alive():
            client.hang_up()

    def _begin(self, protocol: MQTTProtocolVersion) -> None:
        client = Client(CallbackAPIVersion.VERSION2, client_id=self._client_id, protocol=protocol)
        client.ended = self._loop_ended
        parts = urlsplit(self._mqtt.url)
        if self._mqtt.username is not None:
            secret = self._mqtt.password
            password = resolve(secret, self._environ).get_secret_value() if secret else None
            client.username_pw_set(self._mqtt.username, password)
        if parts.scheme == "mqtts":
            client.tls_set_context(ssl.create_default_context(cafile=self._mqtt.ca_file))
        lost = {"state": "offline", "reason": "lost", "nonce": self.nonce}
        client.will_set(f"{self._root}/{STATUS}", strict_json(lost), qos=1, retain=True)
        client.max_queued_messages_set(QUEUED)
        client.reconnect_delay_set(*RECONNECT_S)
        client.connect_timeout = CONNECT_S
        client.on_socket_open = self._opened
        client.on_connect = self._connected
        client.on_connect_fail = self._not_reached
        client.on_disconnect = self._disconnected
        client.on_publish = self._published
        port = parts.port or PORTS[parts.scheme]
        client.connect_async(parts.hostname or "", port, keepalive=KEEPALIVE_S)
        with self._life:
            if not self._ended.is_set():
                self._client = client
                client.loop_start()

    # In paho's thread.

    def _opened(self, client: paho.Client, _data: Any, _sock: Any) -> None:
        if client is not self._client:
            return
        self._answered = False
        overdue = threading.Timer(CONNACK_S, self._hang_up, [self._client])
        overdue.daemon = True
        overdue.start()

    def _hang_up(self, client: Client) -> None:
        if client is self._client and not self._answered:
            client.hang_up()

    def _connected(
        self, client: paho.Client, _data: Any, _flags: Any, reason: ReasonCode, _props: Any
    ) -> None:
        if client is not self._client:
            return
        self._answered = True
        if reason.is_failure:
            if reason.value == _REFUSES_V5 and client.protocol is MQTTProtocolVersion.MQTTv5:
                self._use_other(self._client)
            else:
                self._outage.failed(f"refused: {reason}")
            return
        with self._lock:
            self._unsent = 0
            self._waiting = dict.fromkeys(self._retained)
        self._publish(STATUS, self._birth, qos=1, retain=True)
        while (missed := self._next_missed()) is not None:
            self._publish(*missed)
        self._outage.worked()
        self.on_up()
        log.info("MQTT mirror connected", url=self.url, messages_dropped=self.dropped)

    def _not_reached(self, client: paho.Client, _data: Any) -> None:
        if client is self._client:
            self._outage.failed("can't be reached")

    def _disconnected(
        self, client: paho.Client, _data: Any, _flags: Any, reason: ReasonCode, _props: Any
    ) -> None:
        if client is not self._client:
            return
        with self._lock:
            self._up = False
        if not self._answered:
            self._outage.failed("does not answer")
            self._use_other(self._client)
        elif reason.is_failure:
            self._outage.failed(f"disconnected: {reason}")

    def _use_other(self, client: Client) -> None:
        """Let this client's loop end: another one tries the other version of MQTT."""
        was_v5 = client.protocol is MQTTProtocolVersion.MQTTv5
        client.next_protocol = (
            MQTTProtocolVersion.MQTTv311 if was_v5 else MQTTProtocolVersion.MQTTv5
        )
        client.loop_stop()  # in its own thread: waits for nothing

    def _loop_ended(self, client: Client, error: Exception | None) -> None:
        """The client's thread is at its end: by our wish, or by an error."""
        with self._lock:
            if client is not self._client:
                return
            self._up = False
        protocol = client.next_protocol or client.protocol
        if error is not None:
            self._outage.failed(f"client failed: {type(error).__name__}: {error}")
            client.hang_up()
            self._ended.wait(RECONNECT_S[0])
        log.debug("a new MQTT client", version=protocol.name, url=self.url)
        self._begin(protocol)

    def _published(self, _c: Any, _data: Any, _mid: int, _reason: Any, _props: Any) -> None:
        with self._lock:
            self._unsent = max(0, self._unsent - 1)

    # In either.

    def _publish(
        self, topic: str, payload: str, qos: int, retain: bool
    ) -> paho.MQTTMessageInfo | None:
        """The message on its way; None when it was not taken."""
        client = self._client
        if client is None:
            return None
        with self._lock:
            self._unsent += 1
        sent = client.publish(f"{self._root}/{topic}", payload, qos=qos, retain=retain)
        if sent.rc == paho.MQTT_ERR_QUEUE_SIZE:
            with self._lock:
                self._unsent -= 1
                self.dropped += 1
            return None
        return sent

    def _catch_up(self) -> None:
        """Send the states that wait, as far as the broker takes them."""
        while self._up and self._unsent < UNSENT:
            with self._lock:
                state = self._pop_state()
            if state is None:
                return
            self._publish(*state)

    def _next_missed(self) -> Message | None:
        """What was said while the broker was away. None when all is sent: from now on the event
        loop's thread publishes, unless `stop` came in between."""
        with self._lock:
            if (state := self._pop_state()) is not None:
                return state
            if self._queue:
                return (*self._queue.popleft(), False)
            self._up = not self._ended.is_set()
            return None

    def _pop_state(self) -> Message | None:
        if not self._waiting:
            return None
        topic = next(iter(self._waiting))
        del self._waiting[topic]
        payload, qos = self._retained[topic]
        if not payload:
            del self._retained[topic]
        return topic, payload, qos, True
