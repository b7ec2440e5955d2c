"""The messages of one site from a broker, for a screen: subscribed, bounded, taken in batches.

Decides nothing. paho's thread puts messages into a bounded queue and whoever draws takes what
has come; a screen that is too slow loses the oldest messages, never the agent's or the broker's
time. Never publishes.
"""

from collections import deque
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

MOST = 50_000  # messages waiting to be drawn
_PORT = 1883


class Feed:
    """Subscribes to ROOT/# of a broker without passwords (the demo's own)."""

    def __init__(self, url: str, root: str) -> None:
        self._url = urlsplit(url)
        self._root = f"{root}/"
        self._waiting: deque[tuple[str, bytes]] = deque(maxlen=MOST)
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.on_connect = self._connected
        self._client.on_message = self._came

    def start(self) -> None:
        """Connect in the background, again and again."""
        port = self._url.port or _PORT
        self._client.connect_async(self._url.hostname or "", port, keepalive=30)
        self._client.loop_start()

    def stop(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()

    def take(self) -> Iterator[tuple[str, bytes]]:
        """What has come since the last call: (topic below the root, payload)."""
        while self._waiting:
            yield self._waiting.popleft()

    # In paho's thread.

    def _connected(self, client: paho.Client, *_: Any) -> None:
        client.subscribe(f"{self._root}#", qos=1)

    def _came(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        self._waiting.append((message.topic.removeprefix(self._root), bytes(message.payload)))
