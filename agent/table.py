"""Tables of numbers from CSV files: strict, one row at a time, of any length.

Decides what is a number (a finite one), what is missing (an empty cell, nan, null, na) and what
is an error, which names file, line and column. Must never guess a value or read ahead of the row
it hands out.
"""

import csv
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
MISSING = frozenset({"", "nan", "null", "none", "na", "n/a", "-"})
MAX_COLUMNS = 10_000
MAX_CELL = 1_000
SEPARATORS = ";,\t|"
_COMMA = re.compile(r"\s*[+-]?\d+,\d+(e[+-]?\d+)?\s*", re.ASCII | re.IGNORECASE)


class TableError(ValueError):
    """A file that is not such a table: `file:line: column: what and what to do`."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How to read a CSV: `sep` ("" finds it in the header), the time column, columns to leave out.

    Without `time_column`, a first column of dates is taken for it. `only` names the columns wanted,
    when the rest does not matter. `decimal` is the decimal mark ("" finds it in the first row).
    `when` reads a cell of the time column (raises ValueError); without it: ISO 8601 or seconds.
    `hint` says what to do about a cell that is no number, where no option can.
    """

    sep: str = ""
    decimal: str = ""
    time_column: str = ""
    ignore: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    when: Callable[[str], float] | None = None
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its number from 0, its time (None without a time column) and its values (f,)."""

    number: int
    time_s: float | None
    values: Floats


class Table:
    """An open CSV file: `columns` are the names of the values, iterating gives the rows."""

    def __init__(self, path: Path, layout: Layout) -> None:
        """Read the header. Raises TableError; OSError when the file can't be opened."""
        self._path, self._layout = path, layout
        self._file = path.open(encoding="utf-8-sig", newline="")
        try:
            first, second = self._first_lines()
            self._sep = layout.sep or max(SEPARATORS, key=first.count)
            csv.field_size_limit(MAX_CELL)
            self._reader = csv.reader(self._file, delimiter=self._sep, strict=True)
            self._names = self._header()
            cells = second.split(self._sep)
            comma = self._sep != "," and any(map(_COMMA.fullmatch, cells))
            self._decimal = layout.decimal or ("," if comma else ".")
            self._time, self._wanted = self._choose(layout, cells[0])
        except BaseException:
            self._file.close()
            raise
        self.columns = tuple(self._names[i] for i in self._wanted)

    def __enter__(self) -> "Table":
        """The table itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._file.close()

    def __iter__(self) -> Iterator[Row]:
        """The rows, one by one. Raises TableError at the first that is not one."""
        number = 0
        for line, cells in self._lines():
            if not cells:
                continue
            if len(cells) != len(self._names):
                raise self._error(
                    line, "", f"{len(cells)} cells, the header has {len(self._names)}"
                )
            values = np.array([self._number(line, i, cells[i]) for i in self._wanted])
            yield Row(number, self._when(line, cells), values)
            number += 1

    def _lines(self) -> Iterator[tuple[int, list[str]]]:
        while True:
            try:
                cells = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise self._error(self._reader.line_num, "", str(error)) from error
            except UnicodeDecodeError as error:
                text = f"not UTF-8 text ({error.reason}): save it as UTF-8"
                raise self._error(self._reader.line_num + 1, "", text) from error
            yield self._reader.line_num, cells

    def _first_lines(self) -> tuple[str, str]:
        try:
            lines = [self._file.readline(MAX_COLUMNS * MAX_CELL) for _ in range(2)]
        except UnicodeDecodeError as error:
            text = f"not UTF-8 text ({error.reason}): save it as UTF-8"
            raise self._error(1, "", text) from error
        self._file.seek(0)
        return lines[0], lines[1]

    def _header(self) -> list[str]:
        _, cells = next(self._lines(), (1, []))
        if len(cells) > MAX_COLUMNS or not any(map(str.strip, cells)):
            raise self._error(1, "", "no header line with column names")
        return [name.strip() or f"column {i + 1}" for i, name in enumerate(cells)]

    def _choose(self, layout: Layout, first_cell: str) -> tuple[int | None, list[int]]:
        """Where the time is, and which columns to read, in the order to hand them out."""
        header = self._names
        asked = (*layout.ignore, layout.time_column, *layout.only)
        for name in asked:
            if name and name not in header:
                hint = f"the header has {', '.join(header[:12])}"
                raise self._error(1, name, f"no such column; {hint}; is the separator right?")
        time = header.index(layout.time_column) if layout.time_column else None
        if time is None and header[0] not in layout.only and _is_date(first_cell):
            time = 0
        wanted = [header.index(name) for name in layout.only] or [
            i for i, name in enumerate(header) if name not in layout.ignore and i != time
        ]
        if not wanted:
            raise self._error(1, "", "no column is left to read")
        used = [header[i] for i in wanted] + ([] if time is None else [header[time]])
        if twice := next((name for name in used if header.count(name) > 1), None):
            raise self._error(
                1, twice, "appears twice in the header: rename one, or leave it out with --ignore"
            )
        return time, wanted

    def _number(self, line: int, column: int, cell: str) -> float:
        value = self._parsed(cell)
        if value is None:
            hint = "name it with --time-column or --ignore if it is not a measurement"
            if _COMMA.fullmatch(cell):
                hint = "give --decimal , if that is a decimal comma"
            text = f"{cell[:40]!r} is not a number; {self._layout.hint or hint}"
            raise self._error(line, self._names[column], text)
        return value

    def _parsed(self, cell: str) -> float | None:
        """The cell as a number, NaN where missing, None where it is something else."""
        if self._decimal == ",":
            return None if "." in cell else _number(cell.replace(",", "."))
        return _number(cell)

    def _when(self, line: int, cells: Sequence[str]) -> float | None:
        if self._time is None:
            return None
        cell = cells[self._time]
        if self._layout.when is not None:
            try:
                return self._layout.when(cell)
            except (ValueError, OverflowError) as error:
                raise self._error(line, self._names[self._time], str(error)) from error
        when = self._parsed(cell)
        when = _date(cell) if when is None else when
        if when is None or not math.isfinite(when):
            raise self._error(
                line, self._names[self._time],
                f"{cell[:40]!r} is not a time (ISO 8601 or seconds); rows are enough: --ignore it",
            )  # fmt: skip
        return when

    def _error(self, line: int, column: str, text: str) -> TableError:
        where = f"{self._path}:{line}: " + (f"column {column}: " if column else "")
        return TableError(where + text)


def _number(cell: str) -> float | None:
    """The cell as a number, NaN where missing or infinite, None where it is something else."""
    text = cell.strip()
    if text.lower() in MISSING:
        return math.nan
    if "_" in text:  # Python takes 1_000 for a number, nobody else does
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else math.nan


def _is_date(cell: str) -> bool:
    return _number(cell) is None and _date(cell) is not None


def _date(cell: str) -> float | None:
    try:
        when = datetime.fromisoformat(cell.strip())
    except ValueError:
        return None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
