"""Our units under a real systemd: the sandbox lets the agent work, and ends are handled."""

import asyncio
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.mosquitto import Listener, Mosquitto
from tests.peers import peer, until
from tests.systemd.booted import REPO, Booted

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


class Hall:
    """`skadi sim` on loopback, with a site file for it that is armed, and its CRACs' setpoints as
    mbpoll reads them."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "site.toml"
        self._said = (folder / "sim.out").open("w")
        self._sim = subprocess.Popen(
            [sys.executable, "-m", "simulators", "--port-base", "0", "--speed", "20",
             "--write-config", str(self.file)],
            cwd=REPO, stdout=self._said, stderr=self._said,
        )  # fmt: skip

    def site(self, more: str = "") -> str:
        """The site file, in closed loop, with its data where the unit keeps it; `more` goes to
        [agent]."""
        text = self.file.read_text().replace("[agent]\n", f"[agent]\n{more}\n", 1)
        for key, value in (("mode", '"closed_loop"'), ("armed", '["hall"]'),
                           ("data_dir", '"/var/lib/skadi"')):  # fmt: skip
            text, count = re.subn(rf"^{key} = .*$", f"{key} = {value}", text, flags=re.M)
            assert count == 1, key
        return text

    def setpoints(self) -> dict[str, tuple[int, ...]]:
        """Supply air and fan setpoint of every CRAC, raw as they stand in its registers."""
        cracs = [d for d in tomllib.loads(self.file.read_text())["device"]
                 if d["protocol"] == "modbus-tcp" and d["id"].startswith("crac")]  # fmt: skip
        return {d["id"]: self._read(d["host"], d["port"]) for d in cracs}

    def _read(self, host: str, port: int) -> tuple[int, ...]:
        ran = subprocess.run(
            [peer("mbpoll"), "-0", "-m", "tcp", "-p", str(port), "-a", "1", "-t", "4", "-r", "0",
             "-c", "2", "-1", host], capture_output=True, text=True, check=True,
        )  # fmt: skip
        return tuple(map(int, re.findall(r"^\[\d+\]:\s+(-?\d+)", ran.stdout, re.M)))

    def close(self) -> None:
        self._sim.terminate()
        self._sim.wait()
        self._said.close()


@pytest.fixture
def hall(booted: Booted, tmp_path: Path) -> Iterator[Hall]:
    made = Hall(tmp_path)
    booted.wait(lambda: made.file.exists(), "the simulators did not start")
    booted.write("/etc/skadi/site.toml", made.site())
    booted.write("/etc/skadi/.env", (made.file.parent / ".env").read_text())
    booted.run("systemctl", "stop", "skadi-release", check=False)
    booted.run("systemctl", "reset-failed")
    (booted.root / "run/log").write_text("")
    start = "ExecStart=\nExecStart=/run/bin/skadi run -c /etc/skadi/site.toml --speed 20"
    # The watchdog in wall seconds: the fast loop's 10 s are half a second at this speed.
    booted.drop_in("skadi.service", f"{start}\nWatchdogSec=8\nRestart=no")
    yield made
    booted.run("systemctl", "stop", "skadi", check=False)
    made.close()


def test_a_stalled_agent_is_killed_and_every_setpoint_given_back(
    booted: Booted, hall: Hall
) -> None:
    before = hall.setpoints()
    assert len(before) == 12
    booted.run("systemctl", "start", "skadi")  # returns when the agent has said READY=1
    assert booted.show("skadi", "ActiveState") == "active"
    assert booted.show("skadi", "User") == "skadi"
    booted.wait(lambda: hall.setpoints() != before, "nothing was written")
    booted.run("systemctl", "kill", "--kill-whom=main", "--signal=STOP", "skadi")
    booted.until("skadi", "ActiveState", "failed")
    assert booted.show("skadi", "Result") == "watchdog"
    assert re.search(r"^given back: [1-9]", booted.log, re.M), booted.log
    assert hall.setpoints() == before


async def test_a_clean_stop_gives_back_by_itself_and_says_goodbye(
    booted: Booted, hall: Hall, tmp_path: Path
) -> None:
    words = ["-c", "-b", str(tmp_path / "passwords"), "skadi", "from-a-credential"]
    setter = await asyncio.create_subprocess_exec(peer("mosquitto_passwd"), *words)
    assert await setter.wait() == 0
    async with Mosquitto(tmp_path, f"password_file {tmp_path / 'passwords'}") as broker:
        login = 'username = "skadi"\npassword = { credential = "mqtt" }'
        booted.write("/etc/skadi/conf.d/mqtt.toml", f'[mqtt]\nurl = "{broker.url}"\n{login}\n')
        booted.write("/etc/skadi/site.toml", hall.site('include = ["conf.d/*.toml"]'))
        booted.write("/etc/skadi/credentials/mqtt", "from-a-credential\n")
        booted.drop_in(
            "skadi.service", "LoadCredential=mqtt:/etc/skadi/credentials/mqtt", "60-mqtt"
        )
        before = hall.setpoints()
        async with Listener(broker.port, "-u", "skadi", "-P", "from-a-credential") as heard:
            booted.run("systemctl", "start", "skadi")
            booted.wait(lambda: hall.setpoints() != before, "nothing was written")
            booted.run("systemctl", "stop", "skadi")
            try:
                await until(
                    lambda: any(m.payload.get("reason") == "stopped" for m in heard.messages)
                )
            except TimeoutError:
                pytest.fail(f"no goodbye\n{booted.log}\n{heard.messages[-3:]}")
        assert (booted.show("skadi", "Result"), booted.show("skadi", "ExecMainStatus")) == (
            "success", "0",
        )  # fmt: skip
        assert hall.setpoints() == before
        assert re.search(r"^given back: 0", booted.log, re.M), "the agent had left something to do"
        topics = {m.topic.removeprefix("skadi/sim1/hall-a/") for m in heard.messages}
        assert {"_agent/status", "device/crac-a1/state", "kpi", "action"} <= topics
        assert any(m.payload.get("state") == "online" for m in heard.messages)
        assert "from-a-credential" not in booted.log
