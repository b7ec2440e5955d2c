"""Mutants of a file: one change of its syntax tree each, with the function that it sits in."""

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
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
        # Decorators (frozen, slots) and the types of attributes: nothing that a test could ask.
        shape = [*getattr(node, "decorator_list", ())]
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Attribute):
            shape.append(node.annotation)
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


def function_of(mutant: Mutant) -> str:
    """The function or method that a mutant sits in, as Class.name; "" where it is in none."""
    tree = ast.parse((ROOT / mutant.file).read_text(encoding="utf-8"))
    node = nodes(tree)[mutant.number]
    for scope, outer in (
        (tree, ""),
        *((c, f"{c.name}.") for c in tree.body if isinstance(c, ast.ClassDef)),
    ):
        for part in scope.body:
            if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef) and node in ast.walk(part):
                return outer + part.name
    return ""
