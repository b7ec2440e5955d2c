"""Finding the independent programs that tests hold Skadi against (mosquitto, snmpd, ...).

On a developer's machine a missing one skips the test that needs it; with SKADI_REQUIRE_PEERS=1,
as .ci/run sets it, it fails: nothing that should have been proven may be skipped there.
"""

import asyncio
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

# Where Debian puts daemons, and PostgreSQL its versioned programs.
_MORE_PLACES = ("/usr/sbin", "/sbin", *map(str, Path("/usr/lib/postgresql").glob("*/bin")))


def peer(program: str) -> str:
    """The path of an installed program. Skips the test without it, or fails where it is required."""
    path = shutil.which(program) or shutil.which(program, path=os.pathsep.join(_MORE_PLACES))
    if path is not None:
        return path
    missing = f"{program} is not installed: .ci/run names the Debian package it comes from"
    if os.environ.get("SKADI_REQUIRE_PEERS") == "1":
        pytest.fail(missing)
    pytest.skip(missing)


def free_port(host: str = "127.0.0.1", kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port that nothing listens on now (SOCK_DGRAM for UDP)."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


async def until(condition: Callable[[], object], timeout_s: float = 30.0) -> None:
    """Wait for a condition that another task, thread or process brings about."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110  there is nothing to be told by
            await asyncio.sleep(0.005)
