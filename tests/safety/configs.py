"""P15: every key of a site file made wrong in every way that fits its kind; none may load.

A mutant that is wrong for certain (type, typing error, not a number) must be refused by an error
that names this file, this line and this key. One that may be right (empty, huge, negative, gone)
must be refused in the same form or load: nothing else may come out of the loader.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from config.errors import ConfigError
from config.loader import load_site
from tests.safety.tally import Tally

SITE = Path(__file__).with_name("config_site.toml")
KEY = re.compile(r"^(?P<key>[a-z_0-9]+) = (?P<value>.+)$")
# kind of value -> what is certainly no such value
WRONG = {
    "text": ("7", "-1.5", "true", "[]", '["a"]', "{}", "1979-05-27", "nan"),
    "number": ('"7"', "true", "[]", "[1]", "{}", "nan", "inf", "-inf", "1979-05-27", '""'),
    "truth": ('"yes"', "1", "0", "[]", "{}", "1.0", '""'),
    "list": ('"x"', "5", "true", "{}", "[[]]", "[7]", "[{}]"),
    "table": ("7", "true", "[]", '"a secret"', "1.5", "{}", "{ nothing = 1 }"),
}
FINE = {("metric", '["a"]')}  # a list of names, one of which an exporter has
MAYBE = {
    "text": ('""', '" "', '"\\u0000"', f'"{"x" * 300}"', '"../../etc"', '"-"', '"é"'),
    "number": ("-1", "0", "1e30", "-1e30", "0.5", "65536", "1e-30", "1_000_000"),
    "truth": (),
    "list": ("[]", '["hall"]', '["row:Z"]', '[""]'),
    "table": (),
}


@dataclass(frozen=True)
class Mutant:
    """One changed line."""

    line: int
    key: str
    text: str
    certain: bool


def kind_of(value: str) -> str:
    """What kind of TOML value this is."""
    if value in ("true", "false"):
        return "truth"
    return {'"': "text", "[": "list", "{": "table"}.get(value[0], "number")


def mutants(lines: list[str]) -> Iterator[Mutant]:
    """Every mutant of a file."""
    for number, line in enumerate(lines, 1):
        found = KEY.match(line)
        if found is None:
            continue
        key, value = found["key"], found["value"]
        kind = kind_of(value)
        for certain, table in ((True, WRONG), (False, MAYBE)):
            for wrong in table[kind]:
                is_fine = (key, wrong) in FINE
                yield Mutant(number, key, f"{key} = {wrong}", certain and not is_fine)
        yield Mutant(number, f"{key}_x", f"{key}_x = {value}", True)
        yield Mutant(number, key, f"{line}\n{line}", True)
        yield Mutant(number, key, f"{key} =", True)
        yield Mutant(number, key, "", False)


def judge(file: Path, mutant: Mutant) -> str | None:
    """What is wrong with how the loader took it, or None."""
    try:
        load_site(file, {})
    except ConfigError as error:
        if not all(p.file and p.line >= 1 and p.text for p in error.problems):
            return f"a problem without file, line or text: {error}"
        near = [p for p in error.problems if p.file == str(file) and mutant.line <= p.line <= mutant.line + 1]  # fmt: skip
        named = [p for p in near if mutant.key in p.key or "TOML" in p.text or mutant.key in p.text]
        missed = mutant.key.removesuffix("_x")  # a misspelt key may be missed by its right name
        named += [p for p in error.problems if missed != mutant.key and missed in p.text]
        return None if named or not mutant.certain else f"not named: {error}"
    except Exception as error:  # noqa: BLE001 - any other exception is the finding
        return f"{type(error).__name__}: {error}"
    return "loaded" if mutant.certain else None


def run(first: int, count: int, folder: Path, _jobs: int) -> Tally:
    """Every mutant (count 0), or `count` of them from seed `first`."""
    tally, lines = Tally(), SITE.read_text(encoding="utf-8").splitlines()
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "site.toml"
    file.write_text("\n".join(lines), encoding="utf-8")
    load_site(file, {})  # the file itself must be right
    every = list(mutants(lines))
    for mutant in every if count == 0 else Random(first).choices(every, k=count):
        changed = [*lines[: mutant.line - 1], mutant.text, *lines[mutant.line :]]
        file.write_text("\n".join(changed) + "\n", encoding="utf-8")
        if wrong := judge(file, mutant):
            tally.broken.append(f"line {mutant.line}, {mutant.text!r}: {wrong[:300]}")
        tally.cases += 1
        tally.count("certainly wrong", mutant.certain)
    return tally
