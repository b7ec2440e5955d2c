"""paho's client with two things it lacks: to say when its thread ends, and to be hung up on.

Decides nothing. The network thread must not end in silence: an exception in it (1,500 random
packets found none in paho 2.2, which proves little) would leave a mirror that never reconnects.
"""

import socket
from collections.abc import Callable
from contextlib import suppress

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode, MQTTProtocolVersion


class Client(paho.Client):
    """`ended` is called in the network thread as its last act, with what it failed by, if it did.
    `next_protocol` is for whoever makes the next client."""

    ended: Callable[["Client", Exception | None], None]
    next_protocol: MQTTProtocolVersion | None = None

    def loop_forever(
        self, timeout: float = 1.0, retry_first_connection: bool = False
    ) -> MQTTErrorCode:
        """The thread's body."""
        failed: Exception | None = None
        code = MQTTErrorCode.MQTT_ERR_UNKNOWN
        try:
            code = super().loop_forever(timeout, retry_first_connection)
        except Exception as error:  # noqa: BLE001  whatever it is, `ended` is told
            failed = error
        self.ended(self, failed)
        return code

    def hang_up(self) -> None:
        """End the connection from another thread; the network thread notices."""
        sock = self.socket()
        if isinstance(sock, socket.socket):
            with suppress(OSError):  # it has gone by itself
                sock.shutdown(socket.SHUT_RDWR)
