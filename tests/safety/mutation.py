"""Mutation testing of the safety layer: every operator, comparison, constant and condition, one by one.

    python -m tests.safety.mutation [--sample 150 --seed 0] [--file control/modes.py] [--state FILE]

A mutant is one change of a file's syntax tree. It is tried in a forked process that has pytest
and all libraries loaded, against the fast tests of that file that reach the changed lines. With
--state, what was tried on the same files is not tried again. One that no test notices survives,
and must be listed in equivalents.toml with the reason why it changes nothing; an entry there that
fits no mutant, or one that is killed after all, is an error. Ends with 1 on any of these.
"""

import argparse
import ast
import copy
import hashlib
import importlib.abc
import importlib.util
import io
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import coverage

ROOT = Path(__file__).parents[2]
EQUIVALENTS = Path(__file__).with_name("equivalents.toml")
LIMIT_S = 90
BROKEN = 99  # exit code: pytest itself could not run
# file -> its fast tests
TESTED = {
    "control/guardrails.py": ("test_guardrails.py",),
    "control/modes.py": ("test_modes.py",),
    "drivers/gate.py": ("test_gate.py",),
    "agent/journal.py": ("test_journal.py",),
    "agent/sealed.py": ("test_journal.py",),
    "agent/release.py": ("test_release.py",),
    "agent/commands.py": ("test_commands.py",),
}
COMPARE = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
           ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn,
           ast.NotIn: ast.In}  # fmt: skip
ARITHMETIC = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
              ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr}  # fmt: skip
SILENT = ("log", "Protocol")  # what only tells people, or is a type's shape


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change: the line as it reads now, what was done to it, and which of several such."""

    file: str
    line: int
    source: str
    change: str
    number: int  # of the node in the tree, and of the change at it
    kind: int
    last: int  # line of the statement's end

    @property
    def key(self) -> str:
        """How a state file calls it."""
        return f"{self.number}.{self.kind}"

    @property
    def name(self) -> str:
        """How equivalents.toml calls it: without line numbers, which move."""
        return f"{self.source} | {self.change}"


def changes_of(node: ast.AST) -> Iterator[tuple[str, Any]]:
    """(what it is called, function that does it to a copy of the node) for one node."""
    match node:
        case ast.Compare(ops=[*ops]):
            for i, op in enumerate(ops):
                if type(op) in COMPARE:
                    new = COMPARE[type(op)]
                    yield (
                        f"{type(op).__name__} -> {new.__name__}",
                        lambda n, i=i, new=new: n.ops.__setitem__(i, new()),
                    )
        case ast.BoolOp(op=op):
            other = ast.Or if isinstance(op, ast.And) else ast.And
            yield f"{type(op).__name__} -> {other.__name__}", lambda n: setattr(n, "op", other())
        case ast.UnaryOp(op=ast.Not()):
            yield (
                "not removed",
                lambda n: (
                    setattr(n, "op", ast.UAdd())
                    or setattr(
                        n, "operand", ast.Call(ast.Name("bool", ast.Load()), [n.operand], [])
                    )
                ),
            )
        case ast.BinOp(op=op) if type(op) in ARITHMETIC:
            new = ARITHMETIC[type(op)]
            yield f"{type(op).__name__} -> {new.__name__}", lambda n: setattr(n, "op", new())
        case ast.Constant(value=bool(value)):
            yield f"{value} -> {not value}", lambda n: setattr(n, "value", not value)
        case ast.Constant(value=int() | float() as value):
            yield f"{value} -> {value + 1}", lambda n: setattr(n, "value", value + 1)
        case ast.If() | ast.IfExp() | ast.While():
            yield "condition -> False", lambda n: setattr(n, "test", ast.Constant(False))
            if not isinstance(node, ast.While):
                yield "condition -> True", lambda n: setattr(n, "test", ast.Constant(True))
        case ast.Return(value=value) if value is not None and not isinstance(value, ast.Constant):
            yield "return None", lambda n: setattr(n, "value", ast.Constant(None))
        case ast.Expr(value=ast.Call() | ast.Await()):
            yield "statement removed", lambda n: setattr(n, "value", ast.Constant(None))
        case ast.Break() | ast.Continue():
            yield "removed", None


def nodes(tree: ast.AST) -> list[ast.AST]:
    """The nodes that may be changed, in a fixed order."""
    found: list[ast.AST] = []
    stack = [tree]
    while stack:
        node = stack.pop()
        if _is_silent(node):
            continue
        found.append(node)
        shape = getattr(node, "decorator_list", [])  # frozen, slots: nothing a test could ask
        stack.extend(reversed([n for n in ast.iter_child_nodes(node) if n not in shape]))
    return found


def _is_silent(node: ast.AST) -> bool:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        root = node.value.func
        while isinstance(root, ast.Attribute):
            root = root.value
        return isinstance(root, ast.Name) and root.id in SILENT
    return isinstance(node, ast.arguments) or (
        isinstance(node, ast.ClassDef)
        and any(isinstance(b, ast.Name) and b.id in SILENT for b in node.bases)
    )


def mutants(file: str) -> list[Mutant]:
    """Every mutant of a file."""
    text = (ROOT / file).read_text(encoding="utf-8")
    lines, found = text.splitlines(), list[Mutant]()
    for number, node in enumerate(nodes(ast.parse(text))):
        for kind, (change, act) in enumerate(changes_of(node)):
            if act is not None:
                line, last = node.lineno, node.end_lineno or 0  # type: ignore[attr-defined]
                found.append(
                    Mutant(file, line, lines[line - 1].strip(), change, number, kind, last)
                )
    return found


def mutated(mutant: Mutant) -> str:
    """The source with the mutant in it."""
    tree = copy.deepcopy(ast.parse((ROOT / mutant.file).read_text(encoding="utf-8")))
    node = nodes(tree)[mutant.number]
    _, act = list(changes_of(node))[mutant.kind]
    act(node)
    return ast.unparse(ast.fix_missing_locations(tree))


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


class Reached:
    """A plugin of pytest's: which test function reaches which lines of a file."""

    def __init__(self, file: str) -> None:
        self.cov = coverage.Coverage(data_file=None, config_file=False, include=[str(ROOT / file)])
        self.file = str(ROOT / file)
        self.cov.start()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.cov.switch_context(nodeid.partition("[")[0])

    def pytest_runtest_logfinish(self) -> None:
        self.cov.switch_context("")

    def lines(self) -> dict[str, list[str]]:
        """line -> the tests; "" among them where importing reaches it."""
        self.cov.stop()
        found = self.cov.get_data().contexts_by_lineno(self.file)
        return {str(line): sorted(tests) for line, tests in found.items()}


def reaching(file: str, folder: Path) -> dict[int, list[str]]:
    """line -> the test functions that reach it. Raises SystemExit when the tests are red."""
    told = folder / "reached.json"
    if not survives(file, (ROOT / file).read_text(encoding="utf-8"), folder / "sound", told=told):
        raise SystemExit(f"mutation: the tests of {file} are red without any mutant")
    found: dict[str, list[str]] = json.loads(told.read_text(encoding="utf-8"))
    return {int(line): tests for line, tests in found.items()}


def tests_of(mutant: Mutant, reached: dict[int, list[str]]) -> list[str]:
    """The tests that reach any line of a mutant; all of its file's where importing does, or none."""
    tests = {t for n in range(mutant.line, mutant.last + 1) for t in reached.get(n, ())}
    return sorted(tests) if tests and "" not in tests else []


def survives(
    file: str, text: str, folder: Path, tests: Sequence[str] = (), told: Path | None = None
) -> bool:
    """Try a text of a file in a forked process: True when no test notices it.

    tests: all of the file's by default. told: where to say which test reaches what.
    """
    pid = os.fork()
    if pid == 0:
        code = BROKEN
        try:
            code = _child(file, text, folder, tests, told)
        finally:
            os._exit(code)
    end_s = time.monotonic() + LIMIT_S
    while time.monotonic() < end_s:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            if os.waitstatus_to_exitcode(status) == BROKEN:
                raise SystemExit(f"mutation: the tests of {file} can't be run")
            return status == 0
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)  # it never ends: noticed
    os.waitpid(pid, 0)
    return False


def _child(file: str, text: str, folder: Path, only: Sequence[str], told: Path | None) -> int:
    import pytest

    name = file.removesuffix(".py").replace("/", ".")
    sys.meta_path.insert(0, Planted(name, ROOT / file, text))
    tests = [str(ROOT / t) for t in only or [f"tests/safety/{t}" for t in TESTED[file]]]
    watching = [Reached(file)] if told else []
    options = ["-x", "-q", "-n", "0", "-p", "no:cacheprovider", f"--basetemp={folder}", "--timeout=20",
               "-W", "ignore::pytest.PytestAssertRewriteWarning"]  # fmt: skip
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        code = int(pytest.main([*options, *tests], plugins=watching))
    if told:
        told.write_text(json.dumps(watching[0].lines()), encoding="utf-8")
    return code


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
            parts = [
                ROOT / file,
                Path(__file__),
                *(ROOT / "tests/safety" / t for t in TESTED[file]),
            ]
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
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        reached = {f: reaching(f, Path(name)) for f in sorted({m.file for m in chosen})}
        for number, mutant in enumerate(chosen):
            folder, done = Path(name) / str(number), state.of(mutant.file)
            reason = known.get(mutant.file, {}).get(mutant.name)
            if mutant.key not in done:
                tests = tests_of(mutant, reached[mutant.file])
                done[mutant.key] = survives(mutant.file, mutated(mutant), folder, tests)
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
