"""Our units under a real systemd: the sandbox lets the agent work, and ends are handled."""

from collections.abc import Iterator

import pytest

from tests.systemd.booted import Booted

pytestmark = [pytest.mark.peer, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def booted() -> Iterator[Booted]:
    with Booted() as made:
        yield made


# What the agent does that a sandbox could forbid, beyond what it tests below.
WORK = """
import asyncio, ctypes, os, pathlib, socket, sqlite3, ssl, sys
import numpy
import BAC0, aiohttp, asyncpg, bacpypes3, cryptography, gufo.snmp, paho.mqtt.client
import psychrolib, pymodbus.client, pysnmp.hlapi.v3arch.asyncio, sqlalchemy.ext.asyncio, uvicorn
from agent.clock import WallClock
from agent.training import train_in_worker


def refused(what, act):
    try:
        act()
    except (OSError, PermissionError) as error:
        print("refused:", what, type(error).__name__)
    else:
        print("NOT REFUSED:", what)

if __name__ == "__main__":  # the worker process imports this file
    assert numpy.linalg.svd(numpy.eye(50))[1].sum() == 50
    database = sqlite3.connect("/var/lib/skadi/probe.db")
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("CREATE TABLE t (x)")
    database.commit()
    listener = socket.create_server(("127.0.0.1", 0))
    socket.create_connection(listener.getsockname()).close()
    inside = socket.socket(socket.AF_UNIX)
    inside.bind("/var/lib/skadi/probe.sock")
    assert WallClock().boot_id == os.environ["SKADI_BOOT_ID"], WallClock().boot_id
    x = numpy.random.default_rng(1).normal(20, 1, (400, 5))
    model = asyncio.run(train_in_worker(x, list("abcde")))
    assert model.tau_fast > 0

    refused("write /etc", lambda: open("/etc/skadi/x", "w"))
    refused("write the repository", lambda: open("/run/repo/x", "w"))
    refused("read credentials", lambda: os.listdir("/etc/skadi/credentials"))
    refused("see home", lambda: os.listdir("/root"))
    refused("raw socket", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
    refused("packet socket", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
    refused("open a disk", lambda: open("/dev/vda", "rb"))
    refused("see other processes", lambda: open("/proc/1/status"))
    refused("set the clock", lambda: __import__("time").clock_settime(0, 0))
    refused("become root", lambda: os.setuid(0))
    print("all done")
"""


def test_the_sandbox_lets_the_agents_libraries_work_and_nothing_else(booted: Booted) -> None:
    booted.write("/run/work.py", WORK)
    sandbox = (booted.root / "run/units/skadi.service").read_text()
    probe = sandbox.replace("Type=notify", "Type=oneshot").replace("Restart=on-failure", "")
    kept = [line for line in probe.splitlines()
            if not line.startswith(("ExecStart", "ExecStopPost", "WatchdogSec", "OnFailure"))]  # fmt: skip
    command = "ExecStart=/run/repo/.venv/bin/python -P /run/work.py"
    log = "StandardOutput=append:/run/probe.log\nStandardError=append:/run/probe.log"
    extra = f"{command}\n{log}\nEnvironment=PYTHONPATH=/run/repo\nTimeoutStartSec=240"
    booted.write(
        "/run/units/probe.service",
        "\n".join(kept).replace("[Install]", "") + f"\n[Service]\n{extra}\n",
    )
    booted.run("systemctl", "daemon-reload")
    code = booted.run("systemctl", "start", "probe.service", check=False)
    said = (booted.root / "run/probe.log").read_text()
    assert "all done" in said, f"{code}\n{said}"
    assert "NOT REFUSED" not in said
    assert said.count("refused:") == 10


def test_a_configuration_that_does_not_load_is_not_tried_again_and_still_gives_back(
    booted: Booted,
) -> None:
    booted.write("/etc/skadi/site.toml", "config_version = 1\n[site]\nid = 5\n")
    booted.run("systemctl", "start", "skadi", check=False)
    booted.until("skadi", "ActiveState", "failed")
    assert booted.show("skadi", "ExecMainStatus") == "78", booted.log
    assert booted.show("skadi", "NRestarts") == "0"
    assert "site.toml:3: site.id" in booted.log
    assert "given back: 0" in booted.log, "ExecStopPost did not run"
    booted.until("skadi-release", "Result", "success")
    booted.until("skadi-release", "ActiveState", "inactive")
    assert int(booted.show("skadi-release", "ExecMainStartTimestampMonotonic")) > 0, "OnFailure="
