"""Read from the syntax trees: one caller of raw writes, one maker of permits."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("agent", "config", "control", "drivers")


def callers(name: str) -> set[str]:
    """The files that call something of this name, by whatever path it is reached."""
    found = set()
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    called = node.func
                    said = (
                        called.attr
                        if isinstance(called, ast.Attribute)
                        else getattr(called, "id", "")
                    )
                    if said == name:
                        found.add(str(file.relative_to(ROOT)))
    return found


def mentions(name: str) -> set[str]:
    """The files that take a method of this name without calling it: a way around the gate."""
    found = set()
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            tree = ast.parse(file.read_text(encoding="utf-8"))
            if any(isinstance(n, ast.Attribute) and n.attr == name for n in ast.walk(tree)):
                found.add(str(file.relative_to(ROOT)))
    return found


def test_the_gate_is_the_only_caller_of_a_raw_write() -> None:
    assert callers("write_raw") == {"drivers/gate.py"}
    assert mentions("write_raw") == {"drivers/gate.py"}


def test_ring_one_is_the_only_maker_of_a_permit() -> None:
    assert callers("Permit") == {"control/guardrails.py"}
