"""Writes what a scan found as a whole site file: nothing but TOML, and no secret in it.

One line a point, so that a PDU with 48 outlets can be read and edited by a person. What the
device calls a thing stands as a comment; ids come from indexes, which stay.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from agent.scan.tables import Found
from config.quantities import QUANTITIES

HEADER = """\
# Written by `skadi scan`. Read it, set id, rack and row, remove what you don't need, then:
#   skadi check -c FILE   and   skadi once -c FILE
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One [[device]] of the file. `keys` are written as they come, `points` after them.

    `lines`: points already written, for protocols whose points are not OIDs.
    """

    keys: tuple[tuple[str, object], ...]
    points: tuple[Found, ...] = ()
    notes: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()  # keys that a person may set once for the whole device


def site_file(entries: Sequence[Entry]) -> str:
    """The text of a site file with these devices."""
    lines = [HEADER, "config_version = 1", "", "[site]", 'id = "scanned"']
    for entry in entries:
        lines += ["", *(f"# {_comment(n)}" for n in entry.notes), "[[device]]"]
        lines += [f"{key} = {toml(value)}" for key, value in entry.keys]
        lines += [f"# {_comment(h)}" for h in entry.hints]
        if entry.points or entry.lines:
            lines += ["point = [", *(_point(p) for p in entry.points), *entry.lines, "]"]
        lines += [f"# {_comment(c)}" for c in entry.candidates]
    return "\n".join(lines) + "\n"


def toml(value: object) -> str:
    """One value as TOML: text, numbers, booleans, lists and inline tables."""
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return _number(value)
        case str():
            return '"' + "".join(_character(c) for c in value) + '"'
        case dict():
            inner = ", ".join(f"{_key(str(k))} = {toml(v)}" for k, v in value.items())
            return f"{{ {inner} }}" if inner else "{}"
        case list() | tuple():
            return "[" + ", ".join(map(toml, value)) + "]"
        case _:
            raise TypeError(f"no TOML for {type(value).__name__}")


def _number(value: float) -> str:
    text = repr(value)
    return text if re.search(r"[.e]", text) else f"{text}.0"


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else toml(key)


def _character(c: str) -> str:
    if c in '"\\':
        return "\\" + c
    return c if c.isprintable() else f"\\u{ord(c):04X}" if ord(c) < 0x10000 else f"\\U{ord(c):08X}"


def _comment(text: str) -> str:
    """Text that can't end its comment, whatever a device calls itself."""
    return "".join(c if c.isprintable() else " " for c in text).strip()


def _point(point: Found) -> str:
    keys: dict[str, object] = {"id": point.id, "quantity": point.quantity, "oid": point.oid}
    if point.unit:
        keys["unit"] = point.unit
    if point.scale != 1.0:
        keys["scale"] = point.scale
    if point.sentinels:
        keys["sentinels"] = list(point.sentinels)
    if point.part:
        keys["part"] = True
    if point.valid_while:
        keys["valid_while"] = dict(point.valid_while)
    now = f"{point.value:.6g} {QUANTITIES[point.quantity].unit}".strip()
    label = f"{_comment(point.label)}: " if point.label else ""
    return f"  {toml(keys)}, # {label}{now}"
