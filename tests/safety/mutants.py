"""Plants the bugs of mutants.toml, one by one, in a copy of the tree: each must turn its tests red.

    python -m tests.safety.mutants [--only TEXT]

Prints a table. Ends with 1 when a bug is not found, when a test is red without one, or when the
list no longer fits the code.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
TABLE = Path(__file__).with_name("mutants.toml")
TREE = ("agent", "config", "control", "drivers", "simulators", "tests")
FOUND, NOT_FOUND, BROKEN = "found", "NOT FOUND", "BROKEN"
RED = 1  # pytest: tests ran, and some failed


class Stale(Exception):
    """The list does not fit the code any more."""


@dataclass(frozen=True)
class Mutant:
    """One bug: texts to replace in one file, and the tests that must find it."""

    name: str
    promise: str
    file: str
    old: str
    new: str
    tests: str
    also: tuple[tuple[str, str], ...] = ()

    def planted(self, text: str) -> str:
        """The file with the bug in it. Raises Stale."""
        for old, new in ((self.old, self.new), *self.also):
            if text.count(old) != 1:
                raise Stale(f"{self.name}: {self.file} has this {text.count(old)} times: {old!r}")
            text = text.replace(old, new)
        return text

    def paths(self) -> list[str]:
        """The tests, from the root of the tree."""
        return [os.path.normpath(f"tests/safety/{name}") for name in self.tests.split()]


def load() -> list[Mutant]:
    """The table. Raises Stale where it does not fit the code."""
    rows = tomllib.loads(TABLE.read_text(encoding="utf-8"))["mutant"]
    mutants = [Mutant(**{**r, "also": tuple(map(tuple, r.get("also", ())))}) for r in rows]
    for mutant in mutants:
        mutant.planted((ROOT / mutant.file).read_text(encoding="utf-8"))
        if missing := [p for p in mutant.paths() if not (ROOT / p).exists()]:
            raise Stale(f"{mutant.name}: no such test: {missing}")
    return mutants


@contextmanager
def copied() -> Iterator[Path]:
    """A copy of the tree to do harm in."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="skadi-mutants-", dir=memory) as name:
        copy = Path(name)
        for part in TREE:
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        yield copy


def run_tests(copy: Path, paths: list[str], limit_s: float = 240.0) -> tuple[int, str]:
    """(exit code, last lines) of the tests in the copy."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider",
               "--no-header", "--durations=0", "--timeout=20", f"--basetemp={copy}/.tmp", *paths]  # fmt: skip
    environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(command, cwd=copy, env=environ, capture_output=True, text=True,
                              timeout=limit_s, check=False)  # fmt: skip
    except subprocess.TimeoutExpired:
        return RED, "it never ends"
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    return done.returncode, (failed or done.stdout.splitlines() or [done.stderr[-300:]])[-1]


def is_the_copy(copy: Path) -> bool:
    """Whether Python takes the copy's modules there, not the installed ones."""
    ask = [sys.executable, "-c", "import agent.journal as m; print(m.__file__)"]
    said = subprocess.run(ask, cwd=copy, capture_output=True, text=True, check=True).stdout
    return said.startswith(str(copy))


def try_one(copy: Path, mutant: Mutant) -> tuple[str, str]:
    """(verdict, by what) of one bug."""
    file = copy / mutant.file
    text = file.read_text(encoding="utf-8")
    file.write_text(mutant.planted(text), encoding="utf-8")
    try:
        code, last = run_tests(copy, mutant.paths())
    finally:
        file.write_text(text, encoding="utf-8")
    if code == RED:
        return FOUND, last.partition("::")[2].partition(" - ")[0] or last
    return (NOT_FOUND if code == 0 else BROKEN), last


def main(argv: list[str] | None = None) -> int:
    """Run from the command line."""
    p = argparse.ArgumentParser(prog="mutants", description=__doc__)
    p.add_argument("--only", default="", metavar="TEXT", help="only bugs whose name holds TEXT")
    only = p.parse_args(argv).only
    try:
        mutants = [m for m in load() if only in m.name]
    except Stale as error:
        print(f"mutants: {error}", file=sys.stderr)
        return 1
    began_s, verdicts = time.monotonic(), list[str]()
    with copied() as copy:
        if not is_the_copy(copy):
            print("mutants: the copy's modules are not the ones that are run", file=sys.stderr)
            return 1
        every = sorted({path for m in mutants for path in m.paths()})
        code, last = run_tests(copy, every, 600.0)
        if code != 0:
            print(f"mutants: red without any bug: {last}", file=sys.stderr)
            return 1
        for mutant in mutants:
            verdict, by = try_one(copy, mutant)
            verdicts.append(verdict)
            print(f"{verdict:9}  {mutant.promise:4} {mutant.name:66} {by[:70]}", flush=True)
    found = verdicts.count(FOUND)
    print(f"mutants: {found} of {len(mutants)} planted bugs found,"
          f" {time.monotonic() - began_s:.0f} s")  # fmt: skip
    return 0 if mutants and found == len(mutants) else 1


if __name__ == "__main__":
    sys.exit(main())
