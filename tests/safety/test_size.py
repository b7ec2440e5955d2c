"""The safety layer stays small enough to be read whole: at most 800 lines of code."""

import ast
import io
import tokenize
from pathlib import Path

from tests.safety.test_syntax_tree import ROOT

SAFETY_LAYER = ("control/guardrails.py", "drivers/gate.py", "agent/journal.py", "agent/release.py")
MOST_LINES = 800
LAYOUT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
          tokenize.ENDMARKER}  # fmt: skip


def code_lines(text: str) -> int:
    """Lines that hold code: not blank, not only a comment, not a docstring."""
    docs: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        body = getattr(node, "body", None)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = body[0] if body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                docs |= set(range(first.lineno, (first.end_lineno or 0) + 1))
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in LAYOUT:
            lines |= set(range(token.start[0], token.end[0] + 1))
    return len(lines - docs)


def test_lines_of_code_are_counted() -> None:
    text = '"""A docstring\nof two lines."""\n\n# a comment\nx = (\n    1,  # one\n)\n\n\ndef f():\n    """Doc."""\n    return x\n'
    assert code_lines(text) == 5


def test_the_safety_layer_is_at_most_800_lines() -> None:
    sizes = {name: code_lines(Path(ROOT / name).read_text("utf-8")) for name in SAFETY_LAYER}
    print(f"safety layer: {sizes}, {sum(sizes.values())} of {MOST_LINES}")
    assert sum(sizes.values()) <= MOST_LINES, sizes
