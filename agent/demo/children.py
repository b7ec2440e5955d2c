"""Child processes of the demo: started, logged to a file each, watched, and always ended.

Decides nothing about what they do. Must never leave one behind: each child has a session of
its own (so that Ctrl-C reaches the demo alone, and the demo ends them in order), and the kernel
ends it should the demo be killed.
"""

import asyncio
import ctypes
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1  # prctl(2): the signal a process gets when its parent dies
_TAIL_BYTES = 4_096
_LIBC = ctypes.CDLL(None)

# numpy and scikit-learn would start a thread a core in each of three processes.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class ChildError(Exception):
    """A child ended when it should not have. The message shows its last lines and its log."""


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a child: ours, without anything that configures another agent."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("SKADI_")}
    # PYTHONSAFEPATH: a folder named `config` where the demo is started must not be imported.
    return kept | _ONE_THREAD | {"PYTHONSAFEPATH": "1"} | dict(more or {})


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Child:
    """One `skadi` command in a process of its own."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name, self.log = name, log
        self._process = process

    @classmethod
    async def start(
        cls, name: str, arguments: Sequence[str], folder: Path, env: Mapping[str, str]
    ) -> "Child":
        """Start `skadi ARGUMENTS`; what it says on stderr goes to NAME.log in `folder`.

        Its stdout is a pipe: who starts a child that prints there reads it (events, result).
        """
        log = folder / f"{name}.log"
        with log.open("ab") as stderr:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "agent", *arguments,
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=stderr,
                env=dict(env), cwd=folder, start_new_session=True, preexec_fn=_die_with_parent,
                limit=1 << 20,
            )  # fmt: skip
        return cls(name, process, log)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """The JSON objects it prints on stdout, a line each, until it closes stdout."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            yield self._object(line)

    async def result(self) -> dict[str, Any]:
        """Wait until it ends; the one JSON object it printed. Raises ChildError."""
        out, _ = await self._process.communicate()
        if not out.strip():
            raise self.failed()
        return self._object(out)

    async def wait(self) -> int:
        """Wait until it ends; its exit code, negative for a signal."""
        return await self._process.wait()

    async def stop(self, grace_s: float) -> bool:
        """End it: SIGTERM, and SIGKILL after `grace_s`. True when it ended by itself in time."""
        if self._process.returncode is not None:
            return True
        self._signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._process.wait(), grace_s)
        except TimeoutError:
            self._signal(signal.SIGKILL)
            await self._process.wait()
            return False
        return True

    def failed(self) -> ChildError:
        """What to say when it has ended unexpectedly."""
        code = self._process.returncode
        return ChildError(
            f"skadi {self.name} ended with {code}; the last lines of {self.log}:\n{self.tail()}"
        )

    def tail(self, lines: int = 12) -> str:
        """The last lines of its log."""
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - _TAIL_BYTES))
            text = log.read().decode("utf-8", "replace")
        return "\n".join(f"  {line}" for line in text.splitlines()[-lines:]) or "  (nothing)"

    def _object(self, line: bytes) -> dict[str, Any]:
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise ChildError(f"skadi {self.name} printed something that is no JSON: {line[:200]!r}")
        return value

    def _signal(self, number: signal.Signals) -> None:
        """Signal the child and its own children (a training worker): they share a session."""
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            return  # it has just ended


class Children:
    """The children of one demo, ended in the reverse order of their start, whatever happens."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: list[Child] = []

    async def start(
        self, name: str, arguments: Sequence[str], env: Mapping[str, str] | None = None
    ) -> Child:
        """Start one and remember it."""
        child = await Child.start(name, arguments, self._folder, environment(env))
        self._started.append(child)
        return child

    async def stop(self, grace_s: float = 10.0) -> None:
        """End all that still run, the last started first: the agent before its devices."""
        while self._started:
            await self._started[-1].stop(grace_s)
            self._started.pop()
