"""Mutants tried at a stand: pytest has collected the tests once, and each mutant is one fork of that.

In the fork the changed function gets the mutant's code, and only the tests that reach its lines run,
the fastest first. What survives here, or sits in no function, is for tests.safety.mutation to try
from the start: code that ran at import is not changed here.
"""

import inspect
import io
import json
import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from types import CodeType
from typing import Any

import coverage
import pytest

from tests.safety.mutation_syntax import ROOT, Mutant, function_of, mutated

CPU_S = 60  # a mutant that turns in circles is noticed by its processor time,
LIMIT_S = 600  # and one that waits for ever by the world's, with room for a busy host
BROKEN = 99  # exit code: pytest itself could not run
OPTIONS = ["-x", "-q", "-n", "0", "-p", "no:cacheprovider", "--timeout=120",
           "-W", "ignore::pytest.PytestAssertRewriteWarning"]  # fmt: skip


def ended(pid: int) -> int:
    """The exit code of a forked process; of one that never ends, 1: that was noticed."""
    end_s = time.monotonic() + LIMIT_S
    while time.monotonic() < end_s:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return 1


def limited() -> None:
    """This process may use so much processor time and no more."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))


def killed_at_once(
    mutants: Sequence[Mutant], tests: Sequence[str], folder: Path
) -> Iterator[Mutant]:
    """The mutants that a test notices at the stand, as they are noticed."""
    if not mutants:
        return
    told, of = folder / "killed", {f"{m.file} {m.key}": m for m in mutants}
    told.touch()
    pid = os.fork()
    if pid == 0:
        code = BROKEN
        try:
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                paths = [str(ROOT / "tests/safety" / t) for t in tests]
                code = int(pytest.main([*OPTIONS, *paths], plugins=[Stand(mutants, folder)]))
        finally:
            os._exit(code)
    with told.open(encoding="utf-8") as file:
        while True:
            done, status = os.waitpid(pid, os.WNOHANG)
            for line in file:
                yield of[line.strip()]
            if done:
                break
            time.sleep(0.2)
    if status:
        raise SystemExit("mutation: the tests can't be run side by side, or are red")


class Stand:
    """The plugin that runs mutants instead of tests."""

    def __init__(self, mutants: Sequence[Mutant], folder: Path) -> None:
        self.mutants, self.folder = mutants, folder

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Find what reaches what, then try the mutants one by one."""
        told = self.folder / "reached.json"
        files = sorted({m.file for m in self.mutants})
        if self._forked(partial(_watch, session, files, told)):
            raise pytest.UsageError("red without any mutant")
        reached, took_s = json.loads(told.read_text(encoding="utf-8"))
        for mutant in self.mutants:
            lines, found = reached[mutant.file], set[int]()
            for line in range(mutant.line, mutant.last + 1):
                found |= set(lines.get(str(line), ()))
            order = sorted(found, key=lambda i: float(took_s[i]))
            trial = partial(_try, session, order, mutant, self.folder)
            if _live(mutant) is not None and order and self._forked(trial):
                with (self.folder / "killed").open("a", encoding="utf-8") as file:
                    file.write(f"{mutant.file} {mutant.key}\n")
        return True

    def _forked(self, work: Any) -> int:
        """Do it in a fork; its exit code."""
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                limited()
                code = int(work())
            finally:
                os._exit(code)
        code = ended(pid)
        shutil.rmtree(self.folder / "stand", ignore_errors=True)
        return code


def _prepare(session: pytest.Session, folder: Path) -> None:
    """Temporary folders of this fork's own."""
    folder.mkdir(parents=True, exist_ok=True)
    session.config._tmp_path_factory._basetemp = folder  # type: ignore[attr-defined]


def _run(session: pytest.Session, items: Sequence[pytest.Item]) -> bool:
    """Run items until one fails; whether one did."""
    for item, following in zip(items, [*items[1:], None], strict=True):
        item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.testsfailed:
            return True
    return False


def _watch(session: pytest.Session, files: Sequence[str], told: Path) -> bool:
    """Run all; write which item reaches which line of which file, and how long each took."""
    _prepare(session, told.parent / "stand")
    names = [str(ROOT / f) for f in files]
    cov = coverage.Coverage(data_file=None, config_file=False, include=names)
    cov.start()
    took_s = []
    for i, item in enumerate(session.items):
        cov.switch_context(str(i))
        began_s = time.monotonic()
        item.ihook.pytest_runtest_protocol(item=item, nextitem=None)
        took_s.append(time.monotonic() - began_s)
    cov.stop()
    reached = {f: {line: [int(i) for i in found if i]
                   for line, found in cov.get_data().contexts_by_lineno(name).items()}
               for f, name in zip(files, names, strict=True)}  # fmt: skip
    told.write_text(json.dumps([reached, took_s]), encoding="utf-8")
    return bool(session.testsfailed)


def _try(session: pytest.Session, order: Sequence[int], mutant: Mutant, folder: Path) -> bool:
    """Put a mutant's code into its function and run these items; whether one failed."""
    _prepare(session, folder / "stand")
    live = _live(mutant)
    assert live is not None
    new = _code(compile(mutated(mutant), str(ROOT / mutant.file), "exec"), function_of(mutant))
    if new is None or new.co_freevars != live.__code__.co_freevars:
        return False
    live.__code__ = new
    return _run(session, [session.items[i] for i in order])


def _code(code: CodeType, name: str) -> CodeType | None:
    """The code of a function within that of its module."""
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            found = inner if inner.co_qualname == name else _code(inner, name)
            if found is not None:
                return found
    return None


def _live(mutant: Mutant) -> Any:
    """The function that a mutant sits in, as it is loaded, or None."""
    found: Any = sys.modules[mutant.file.removesuffix(".py").replace("/", ".")]
    if not (name := function_of(mutant)):
        return None
    for part in name.split("."):
        found = vars(found).get(part)
        if found is None:
            return None
    found = getattr(found, "fget", None) or getattr(found, "__func__", found)
    found = inspect.unwrap(found)
    return found if hasattr(found, "__code__") else None
