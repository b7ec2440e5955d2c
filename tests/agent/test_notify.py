import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from agent.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    name = str(tmp_path / "notify") if request.param == "path" else f"@skadi-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(name.replace("@", "\0", 1))
        listening.settimeout(10)
        yield listening, name


def test_systemd_hears_ready_watchdog_and_stopping(systemd: tuple[socket.socket, str]) -> None:
    listening, name = systemd
    notifier = Notifier({"NOTIFY_SOCKET": name})
    notifier.ready("polling\n14 devices")
    notifier.watchdog()
    notifier.stopping()
    said = [listening.recv(4_096) for _ in range(3)]
    assert said == [b"READY=1\nSTATUS=polling 14 devices", b"WATCHDOG=1", b"STOPPING=1"]
    assert notifier.listening


@pytest.mark.parametrize("name", ["", "relative", "vsock:2:1234"])
def test_without_systemd_it_is_silent(name: str) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": name} if name else {})
    with capture_logs() as logs:
        notifier.ready()
    assert not notifier.listening
    assert logs == []


def test_a_socket_that_is_gone_is_said_once(tmp_path: Path) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    with capture_logs() as logs:
        notifier.watchdog()
        notifier.watchdog()
    assert [line["message"] for line in logs] == ["WATCHDOG=1"]


def test_a_full_socket_never_blocks(systemd: tuple[socket.socket, str]) -> None:
    _, name = systemd
    notifier = Notifier({"NOTIFY_SOCKET": name})
    for _ in range(5_000):
        notifier.watchdog()


@pytest.mark.parametrize(
    ("environ", "limit_s"),
    [
        ({"WATCHDOG_USEC": "20000000"}, 20.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": str(os.getpid())}, 20.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdogs_limit_is_ours_only_when_meant_for_us(
    environ: dict[str, str], limit_s: float | None
) -> None:
    assert Notifier(environ).watchdog_s == limit_s
