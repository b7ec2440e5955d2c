"""Mutation testing of the safety layer: every operator, comparison, constant and condition, one by one.

    python -m tests.safety.mutation [--sample 150 --seed 0] [--file control/modes.py] [--state FILE]

A mutant is one change of a file's syntax tree. It is tried against the fast tests that reach its
lines (tests.safety.mutation_stand), and where none of them notices it, in a process that imports the
changed file from the start, against all fast tests of that file. With --state, what was tried on the
same files is not tried again. One that no test notices survives,
and must be listed in equivalents.toml with the reason why it changes nothing; an entry there that
fits no mutant, or one that is killed after all, is an error. Ends with 1 on any of these.
"""

import argparse
import hashlib
import importlib.abc
import importlib.util
import io
import json
import os
import shutil
import sys
import tempfile
import time
import tomllib
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

from tests.safety.mutation_stand import BROKEN, OPTIONS, ended, killed_at_once, limited
from tests.safety.mutation_syntax import ROOT, mutants, mutated

EQUIVALENTS = Path(__file__).with_name("equivalents.toml")
# file -> its fast tests
TESTED = {
    "control/evidence.py": ("test_guardrails.py",),
    "control/guardrails.py": ("test_guardrails.py",),
    "control/modes.py": ("test_modes.py",),
    "drivers/gate.py": ("test_gate.py",),
    "agent/journal.py": ("test_journal.py",),
    "agent/sealed.py": ("test_journal.py",),
    "agent/release.py": ("test_release.py",),
    "agent/commands.py": ("test_commands.py",),
}


class Planted(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from a text instead of its file."""

    def __init__(self, name: str, file: Path, text: str) -> None:
        self.name, self.file, self.text = name, file, text

    def find_spec(self, name: str, *_: object) -> Any:
        if name != self.name:
            return None
        return importlib.util.spec_from_file_location(name, self.file, loader=self)

    def create_module(self, _spec: Any) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self.text, self.file, "exec"), module.__dict__)


def survives(file: str, text: str, folder: Path) -> bool:
    """Try a text of a file in a forked process: True when no test notices it."""
    pid = os.fork()
    if pid == 0:
        code = BROKEN
        try:
            limited()
            code = _child(file, text, folder)
        finally:
            os._exit(code)
    if (code := ended(pid)) == BROKEN:
        raise SystemExit(f"mutation: the tests of {file} can't be run")
    return code == 0


def _child(file: str, text: str, folder: Path) -> int:
    import pytest

    name = file.removesuffix(".py").replace("/", ".")
    sys.meta_path.insert(0, Planted(name, ROOT / file, text))
    tests = [str(ROOT / "tests/safety" / t) for t in TESTED[file]]
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        return int(pytest.main([*OPTIONS, f"--basetemp={folder}", *tests]))


class State:
    """What was tried on files and tests as they are now: key of a mutant -> whether it survived."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        there = path is not None and path.exists()
        self._all = json.loads(path.read_text(encoding="utf-8")) if path and there else {}
        self._name: dict[str, str] = {}

    def of(self, file: str) -> dict[str, bool]:
        """The results of a file."""
        if file not in self._name:
            here = (Path(__file__), *Path(__file__).parent.glob("mutation_*.py"))
            tests = (ROOT / "tests/safety" / t for t in TESTED[file])
            parts = [ROOT / file, *sorted(here), *tests]
            digest = hashlib.sha256(b"\0".join(p.read_bytes() for p in parts)).hexdigest()[:16]
            self._name[file] = f"{file} {digest}"
        found: dict[str, bool] = self._all.setdefault(self._name[file], {})
        return found

    def save(self) -> None:
        """Keep it, where there is a file."""
        if self._path is not None:
            self._path.write_text(json.dumps(self._all), encoding="utf-8")


def preload() -> None:
    """What every child needs, but none of the modules under test, nor what imports them."""
    import importlib as load

    for name in ("pytest", "numpy", "pydantic", "structlog", "hypothesis", "sqlite3", "psychrolib",
                 "pytest_asyncio", "xdist", "pytest_timeout", "config.site", "config.schema",
                 "config.loader", "control.types", "agent.clock", "drivers.contract"):  # fmt: skip
        load.import_module(name)
    modules = {f.removesuffix(".py").replace("/", ".") for f in TESTED}
    if early := modules & sys.modules.keys():
        raise SystemExit(f"mutation: {early} must not be loaded before it is changed")


def equivalents() -> dict[str, dict[str, str]]:
    """file -> name of a mutant -> why it changes nothing."""
    rows = tomllib.loads(EQUIVALENTS.read_text(encoding="utf-8")).get("equivalent", [])
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        found.setdefault(row["file"], {})[row["mutant"]] = row["reason"]
    return found


def main(argv: list[str] | None = None) -> int:
    """Run from the command line."""
    p = argparse.ArgumentParser(prog="mutation", description=__doc__)
    p.add_argument("--sample", type=int, default=0, help="so many at random; 0: all")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--state", type=Path, metavar="FILE")
    p.add_argument("--file", action="append", choices=list(TESTED), default=[])
    a = p.parse_args(argv)
    every = [m for f in a.file or TESTED for m in mutants(f)]
    known, wrong = equivalents(), list[str]()
    names = {(m.file, m.name) for f in TESTED for m in mutants(f)}
    wrong += [f"equivalents.toml fits no mutant: {f}: {n}" for f, some in known.items()
              for n in some if (f, n) not in names]  # fmt: skip
    chosen = Random(a.seed).sample(every, min(a.sample, len(every))) if a.sample else every
    preload()
    began_s, survivors, listed, state = time.monotonic(), 0, 0, State(a.state)
    sound = set[str]()  # files whose tests were seen green in a process of their own
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        new = [m for m in chosen if m.key not in state.of(m.file)]
        tests = sorted({t for m in new for t in TESTED[m.file]})
        for mutant in killed_at_once(new, tests, Path(name)):
            state.of(mutant.file)[mutant.key] = False
            state.save()
        for number, mutant in enumerate(chosen):
            folder, done = Path(name) / str(number), state.of(mutant.file)
            reason = known.get(mutant.file, {}).get(mutant.name)
            if mutant.key not in done:
                if mutant.file not in sound and not survives(
                    mutant.file, (ROOT / mutant.file).read_text("utf-8"), folder
                ):
                    raise SystemExit(f"mutation: {mutant.file}: its tests are red without a mutant")
                sound.add(mutant.file)
                done[mutant.key] = survives(mutant.file, mutated(mutant), folder)
                state.save()
            if done[mutant.key]:
                survivors += 1
                listed += reason is not None
                if reason is None:
                    wrong.append(f"survived: {mutant.file}:{mutant.line}: {mutant.name}")
                    print(wrong[-1], flush=True)
            shutil.rmtree(folder, ignore_errors=True)
    print(*(w for w in wrong if not w.startswith("survived")), sep="\n")
    print(f"mutation: {len(chosen)} of {len(every)} mutants, {len(chosen) - survivors} killed,"
          f" {listed} listed as equivalent, {survivors - listed} survived unlisted,"
          f" {time.monotonic() - began_s:.0f} s")  # fmt: skip
    return 1 if wrong or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
