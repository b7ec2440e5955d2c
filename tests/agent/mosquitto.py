"""Debian's mosquitto as the broker, and its own client as a listener that is not ours."""

import asyncio
import json
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.peers import free_port, peer, until


class Mosquitto:
    """A broker on a free port of 127.0.0.1 that can be stopped, started, frozen and thawed."""

    def __init__(self, folder: Path, *config: str) -> None:
        self.port = free_port()
        self._program = peer("mosquitto")
        self._file = folder / f"mosquitto-{self.port}.conf"
        lines = [f"listener {self.port} 127.0.0.1", "user root", *config]
        if not any("password_file" in line for line in lines):
            lines.append("allow_anonymous true")
        self._file.write_text("\n".join(lines) + "\n")
        self._log = folder / f"mosquitto-{self.port}.log"
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    async def start(self) -> Self:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                self._program, "-c", str(self._file), stdout=log, stderr=log
            )
        await until(self._listens)
        return self

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        if self._process is not None:
            await self.stop()

    async def stop(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        await self._process.wait()
        self._process = None

    def freeze(self) -> None:
        """The broker is there, and takes nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.returncode is None, self._log.read_text()
        tables = Path("/proc/net/tcp").read_text()
        return f"0100007F:{self.port:04X} 00000000:0000 0A" in tables


@dataclass(frozen=True)
class Message:
    """What the listener was told."""

    topic: str
    qos: int
    retained: bool
    payload: Any


class Listener:
    """mosquitto_sub on everything below "skadi"; `messages` grows as they come."""

    def __init__(self, port: int, *options: str) -> None:
        self._command = [peer("mosquitto_sub"), "-p", str(port), "-t", "skadi/#", "-q", "1", "-V", "5",
                         "-h", "127.0.0.1", "--retain-as-published", "-F", "%r %q %t %p", *options]  # fmt: skip
        self.messages: list[Message] = []
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdout=asyncio.subprocess.PIPE, limit=2**24
        )
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process is not None
        assert self._reading is not None
        self._process.terminate()
        await self._process.wait()
        await self._reading

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            retained, qos, topic, *payload = line.decode().rstrip("\n").split(" ", 3)
            body = json.loads(payload[0], parse_constant=_refuse) if payload[0] else None
            self.messages.append(Message(topic, int(qos), retained == "1", body))

    def of(self, topic: str) -> list[Message]:
        """All that was said on a topic, below skadi/ber1/hall-a/."""
        return [m for m in self.messages if m.topic == f"skadi/ber1/hall-a/{topic}"]

    async def hears(self, topic: str, count: int = 1) -> Message:
        """Wait for the count-th message on a topic."""
        await until(lambda: len(self.of(topic)) >= count)
        return self.of(topic)[count - 1]


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")
