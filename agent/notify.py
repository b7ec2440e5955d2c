"""Tells systemd that the agent is ready, alive, or stopping (sd_notify(3)).

Decides nothing, and is silent where systemd does not listen. Must never feed the watchdog by
itself: only a completed control cycle may, so that a stalled loop is killed and its setpoints
given back.
"""

import os
import socket
from collections.abc import Mapping

import structlog

log = structlog.get_logger(__name__)


class Notifier:
    """The socket that $NOTIFY_SOCKET names, or none."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        env = os.environ if environ is None else environ
        self._address = _address(env.get("NOTIFY_SOCKET", ""))
        self._said_deaf = False
        limit_us = env.get("WATCHDOG_USEC", "")
        ours = env.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog_s = int(limit_us) / 1e6 if limit_us.isdecimal() and ours else None

    @property
    def listening(self) -> bool:
        """True when systemd wants to hear from this process."""
        return bool(self._address)

    def ready(self, status: str = "") -> None:
        """Start-up has ended: devices polled, loops running."""
        self.send("READY=1", *([f"STATUS={status}"] if status else []))

    def watchdog(self, status: str = "") -> None:
        """A control cycle has been completed."""
        self.send("WATCHDOG=1", *([f"STATUS={status}"] if status else []))

    def stopping(self) -> None:
        """The clean stop has begun."""
        self.send("STOPPING=1")

    def send(self, *lines: str) -> None:
        """Send assignments as they are; never blocks, never raises."""
        if not self._address:
            return
        message = "\n".join(line.replace("\n", " ") for line in lines).encode()
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
                out.setblocking(False)
                out.sendto(message, self._address)
        except OSError as error:
            if not self._said_deaf:
                log.warning("systemd can't be told", reason=str(error), message=lines[0])
            self._said_deaf = True


def _address(name: str) -> str:
    """The socket's address: a path, or `@name` in the abstract namespace. Others are unknown."""
    if name.startswith("@"):
        return "\0" + name[1:]
    return name if name.startswith("/") else ""
