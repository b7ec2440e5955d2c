"""A real systemd as PID 1 of a namespace, running our units as they are shipped.

Needs root and namespaces, as CI has them. Everything it writes is on memory file systems that go
with it; the network is the host's.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import pytest

from tests.peers import peer

REPO = Path(__file__).parents[2]
BOOT = Path(__file__).with_name("boot.sh")
WAIT_S = 90


class Booted:
    """Use as a context manager. `root` is its file system as seen from outside."""

    def __init__(self) -> None:
        if os.geteuid() != 0:
            _lacking("a systemd in a namespace needs root")
        if Path(sys.base_prefix).is_relative_to("/root") or sys.base_prefix.startswith("/home"):
            _lacking(f"units can't see {sys.base_prefix}: make .venv with PYTHON=/usr/bin/python3")
        for program in ("systemctl", "systemd-sysusers", "systemd-tmpfiles", "unshare", "nsenter"):
            peer(program)

    def __enter__(self) -> Self:
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
        top = next(Path(m[1]) for m in mounts if m[2] == "cgroup2")
        self._group = top / f"skadi-test-{os.getpid()}-{time.monotonic_ns()}"
        self._group.mkdir()
        enter = f'echo $$ >{self._group}/cgroup.procs && exec unshare "$@"'
        self._unshare = subprocess.Popen(
            ["/bin/bash", "-c", enter, "bash", "-pfmiuC", "--mount-proc", "--kill-child=KILL",
             "bash", str(BOOT), str(REPO)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self._pid = ""
        try:
            self.wait(self._is_up, "systemd did not come up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._unshare.kill()
        self._unshare.communicate()
        events = self._group / "cgroup.events"
        self.wait(lambda: "populated 0" in events.read_text(), "processes are left")
        for folder in sorted(self._group.rglob("*"), reverse=True):
            if folder.is_dir():
                folder.rmdir()
        self._group.rmdir()

    @property
    def root(self) -> Path:
        """Its file system."""
        return Path(f"/proc/{self._pid}/root")

    @property
    def log(self) -> str:
        """What the units have said."""
        path = self.root / "run" / "log"
        return path.read_text() if path.exists() else ""

    def run(self, *command: str, check: bool = True) -> str:
        """Run a command inside as root; its output."""
        done = subprocess.run(
            ["nsenter", "-t", self._pid, "-m", "-p", "-C", "-u", "-i", "env", "-i",
             "PATH=/usr/sbin:/usr/bin:/sbin:/bin", *command],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{command}: {done.stdout}\n{self.log}"
        return done.stdout.strip()

    def write(self, path: str, text: str) -> None:
        """Write a file inside, readable for all."""
        inside = self.root / path.lstrip("/")
        inside.parent.mkdir(parents=True, exist_ok=True)
        inside.write_text(text)
        inside.chmod(0o644)

    def drop_in(self, unit: str, text: str, name: str = "50-test") -> None:
        """Override parts of a unit's [Service] section."""
        self.write(f"/run/units/{unit}.d/{name}.conf", f"[Service]\n{text}\n")
        self.run("systemctl", "daemon-reload")

    def show(self, unit: str, what: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--value", "-p", what, unit)

    def until(self, unit: str, what: str, value: str) -> None:
        """Wait until a property of a unit has a value."""
        try:
            self.wait(lambda: self.show(unit, what) == value, f"{unit}: {what} is not {value}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.show(unit, what)}\n{self.log}") from None

    def wait(self, condition: Callable[[], object], otherwise: str) -> None:
        """Wait for a condition, or fail saying what did not happen."""
        deadline = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < deadline, otherwise
            time.sleep(0.05)

    def _is_up(self) -> bool:
        assert self._unshare.poll() is None, self._unshare.communicate()[0]
        task = Path(f"/proc/{self._unshare.pid}/task/{self._unshare.pid}/children")
        self._pid = task.read_text().strip()
        return (
            bool(self._pid)
            and self.run("systemctl", "is-active", "idle.target", check=False) == "active"
        )


def _lacking(what: str) -> None:
    if os.environ.get("SKADI_REQUIRE_PEERS") == "1":
        pytest.fail(what)
    pytest.skip(what)
