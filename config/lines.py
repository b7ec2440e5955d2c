"""Where each key stands in a TOML text: the line numbers that errors name.

tomllib gives values without positions. This walks the text once, line by line, and knows
just enough of TOML for it: headers, keys, strings and brackets that span lines. It never
judges the text (tomllib has parsed it before).
"""

import re
from functools import cached_property

Path = tuple[str | int, ...]

_HEADER = re.compile(r"^\s*(\[\[?)\s*([^\]]+?)\s*\]\]?\s*(#.*)?$")
_KEY = re.compile(
    r"""^\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*="""
)
_PART = re.compile(r"""[A-Za-z0-9_-]+|"[^"]*"|'[^']*'""")


def key_lines(text: str) -> dict[Path, int]:
    """Map each table and key, as a path with list indexes, to its line (from 1)."""
    found: dict[Path, int] = {(): 1}
    counts: dict[Path, int] = {}
    table: Path = ()
    open_until: str | None = None
    depth = 0
    for number, line in enumerate(text.splitlines(), start=1):
        if open_until is not None or depth > 0:
            open_until, depth = _scan(line, open_until, depth)
            continue
        if header := _HEADER.match(line):
            table = _enter(header[1], _parts(header[2]), counts)
            found.setdefault(table, number)
            continue
        if key := _KEY.match(line):
            path = (*table, *_parts(key[1]))
            found.setdefault(path, number)
            for inner in re.finditer(r"([A-Za-z0-9_-]+)\s*=", line[key.end() :]):
                found.setdefault((*path, inner[1]), number)
            open_until, depth = _scan(line[key.end() :], None, 0)
    return found


class Lines:
    """The lines of one text, looked for when the first problem asks: most files have none."""

    def __init__(self, text: str) -> None:
        self._text = text

    @cached_property
    def _table(self) -> dict[Path, int]:
        return key_lines(self._text)

    def of(self, path: Path) -> int:
        """The line of `path`, or of the nearest table around it."""
        while path and path not in self._table:
            path = path[:-1]
        return self._table.get(path, 1)


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(p.strip("\"'") for p in _PART.findall(dotted))


def _enter(brackets: str, names: tuple[str, ...], counts: dict[Path, int]) -> Path:
    """Resolve a header to a path: an array of tables gets the index of its newest element."""
    path: Path = ()
    if not names:
        return path  # no key of any table: tomllib says what is wrong with it
    for name in names[:-1]:
        path = (*path, name)
        if path in counts:
            path = (*path, counts[path])
    path = (*path, names[-1])
    if brackets == "[[":
        counts[path] = counts.get(path, -1) + 1
        return (*path, counts[path])
    return (*path, counts[path]) if path in counts else path


def _scan(text: str, open_until: str | None, depth: int) -> tuple[str | None, int]:
    """Follow strings and brackets over `text`; say what is still open at its end."""
    i = 0
    while i < len(text):
        if open_until is not None:
            if open_until[0] == '"' and text[i] == "\\":
                i += 2
                continue
            if text.startswith(open_until, i):
                i += len(open_until)
                open_until = None
                continue
            i += 1
            continue
        if text[i] == "#":
            break
        for quote in ('"""', "'''", '"', "'"):
            if text.startswith(quote, i):
                open_until = quote
                i += len(quote)
                break
        else:
            depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(text[i], 0)
            i += 1
    if open_until is not None and len(open_until) == 1:
        open_until = None
    return open_until, max(depth, 0)
