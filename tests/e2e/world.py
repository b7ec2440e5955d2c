"""A hall and agents on it as processes, for tests that look from the devices' side.

Talks to the simulators' control interface and to the operating system; imports nothing of the
agent. Everything started here is ended here.
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

SPEED = 40.0
# A host that runs other tests beside this one may starve a simulated device for a second or two.
PATIENCE_S = 5.0
Json = dict[str, Any]


def environment(**more: str) -> dict[str, str]:
    """The environment without anything that configures an agent."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("SKADI_")}
    return kept | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"} | more


def skadi(
    *arguments: object, cwd: Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a `skadi` command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "agent", *map(str, arguments)], cwd=cwd, text=True, timeout=60,
        capture_output=True, check=False, env=dict(env or environment()),
    )  # fmt: skip


def until(condition: Callable[[], Any], what: str, timeout_s: float = 45.0) -> Any:
    """Wait until a condition holds; its value. Fails with `what` after timeout_s."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.1)
    raise AssertionError(f"not within {timeout_s:g} s: {what}")


class Hall:
    """A running `skadi sim`."""

    def __init__(self, folder: Path, ready: Json, speed: float) -> None:
        self.folder, self.speed = folder, speed
        self.site = folder / "site.toml"
        self.url: str = ready["control"]
        self.devices: dict[str, Json] = ready["devices"]

    def get(self, path: str) -> Any:
        """GET of the control interface."""
        with urllib.request.urlopen(self.url + path, timeout=10) as answer:
            return json.load(answer)

    def post(self, path: str, body: Json) -> Any:
        """POST to the control interface."""
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def values(self) -> dict[str, float]:
        """Every reading and setpoint as it stands at the devices."""
        values: dict[str, float] = self.get("/state")["values"]
        return values

    def wire(self) -> list[Json]:
        """Every write request that any device has seen."""
        writes: list[Json] = self.get("/wire")["writes"]
        return writes

    def applied(self) -> dict[str, list[Json]]:
        """The writes that devices took, by protocol."""
        found: dict[str, list[Json]] = {}
        for write in self.wire():
            if write["outcome"] == "applied":
                found.setdefault(write["protocol"], []).append(write)
        return found

    def now_s(self) -> float:
        """Simulated POSIX time."""
        return datetime.fromisoformat(self.get("/state")["utc"]).timestamp()


@contextmanager
def hall(
    folder: Path, *options: str, speed: float = SPEED, patience_s: float = PATIENCE_S
) -> Iterator[Hall]:
    """A simulated hall on free ports, with its site file written."""
    command = [sys.executable, "-m", "simulators", "--speed", f"{speed:g}", "--port-base", "0",
               "--write-config", str(folder / "site.toml"), "--json", *options]  # fmt: skip
    with (
        (folder / "sim.log").open("wb") as log,
        subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=log,
                         env=environment()) as process,
    ):  # fmt: skip
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, (folder / "sim.log").read_text()
            site = folder / "site.toml"
            patient = f"[[device]]\ntimeout_s = {patience_s}"
            site.write_text(site.read_text().replace("[[device]]", patient))
            yield Hall(folder, json.loads(line), speed)
        finally:
            _end(process)


class Agent:
    """A running `skadi run`."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process, self.log_file = process, log

    def log(self) -> list[Json]:
        """What it has logged."""
        lines = self.log_file.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def said(self, event: str) -> list[Json]:
        """Its log lines of one kind."""
        return [line for line in self.log() if line["event"] == event]

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait(timeout=10)


@contextmanager
def agent(
    hall: Hall, *options: str, real_time: bool = False, says: str = "running", **settings: str
) -> Iterator[Agent]:
    """`skadi run` on a hall, its clock in step with the hall's (real_time: with the world's);
    settings as SKADI_… variables. Yields once it `says` so.

    Deadlines of protocols are wall time, so what is judged by age is given room (as in the demo).
    """
    room = {
        "SKADI_AGENT__STALE_AFTER_S": "240", "SKADI_LIMITS__RELEASE_AFTER_S": "480",
        "SKADI_LIMITS__PERMIT_S": "240",
    }  # fmt: skip
    log = hall.folder / "agent.log"
    times = [] if real_time else ["--speed", f"{hall.speed:g}", "--start", str(hall.now_s())]
    command = [sys.executable, "-m", "agent", "run", "-c", str(hall.site), *times, *options]
    with (
        log.open("wb") as stderr,
        subprocess.Popen(command, cwd=hall.folder, stdout=subprocess.DEVNULL, stderr=stderr,
                         env=environment(**room | settings)) as process,
    ):  # fmt: skip
        running = Agent(process, log)
        try:
            until(lambda: process.poll() is not None or running.said(says), "skadi run starts")
            assert process.poll() is None, log.read_text()
            yield running
        finally:
            _end(process)


CLOSED_LOOP = {"SKADI_AGENT__MODE": "closed_loop", "SKADI_AGENT__ARMED": '["hall"]'}


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()


def run_peer(command: Sequence[str]) -> str:
    """An independent program's output. Fails with what it said when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout
