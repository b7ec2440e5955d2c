"""Columns of numbers and their times, from CSV and Parquet files of anybody's making.

Decides where the times are, the decimal mark, and what a cell of Parquet is worth. Every error
names the file, the line (in Parquet the row) and the column, and what to do.
"""

import csv
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from agent.dataset.times import Times, Written, time_column
from agent.table import SEPARATORS, Floats, Layout, Table, TableError

PARQUET = (".parquet", ".pq")
_HINT = "write numbers with a decimal point, and nothing where nothing was measured"
_COMMA = re.compile(r"\s*[+-]?\d+,\d+\s*", re.ASCII)
_LOOK_AT = 10_000  # rows, for the decimal mark


@dataclass(frozen=True, slots=True)
class Columns:
    """Times (n,) in s, of the calendar where `dated`, else from the start; values (n, wanted)."""

    times_s: Floats
    values: Floats
    dated: bool


def header_of(path: Path) -> tuple[str, ...]:
    """The column names. Raises TableError, OSError."""
    if path.suffix.lower() in PARQUET:
        return tuple(_schema(path).names)
    _is_text(path)
    rows = _head(path, 1)
    return tuple(n.strip() or f"column {i + 1}" for i, n in enumerate(rows[0] if rows else []))


def time_of(path: Path, header: tuple[str, ...]) -> str:
    """The column of times, by its name or what it holds; "" for none. Raises TableError, OSError."""
    try:
        if named := time_column(header):
            return named
    except ValueError as error:
        raise TableError(f"{path}:1: {error}") from None
    if path.suffix.lower() in PARQUET:
        from pyarrow import types

        return next((f.name for f in _schema(path) if types.is_temporal(f.type)), "")
    first = _head(path, 2)[1:] or [[]]
    return next((n for n, cell in zip(header, first[0], strict=False) if _is_date(cell)), "")


def _is_date(cell: str) -> bool:
    times = Times("", Written())
    try:
        times.read(cell)
    except ValueError:
        return False
    return not times.numbers


def columns_of(path: Path, wanted: list[str], time: str, how: Written) -> Columns:
    """Some columns of a file; without a time column its rows count. Raises TableError, OSError."""
    times = Times(time, how)
    read = _parquet if path.suffix.lower() in PARQUET else _csv
    at, values = read(path, wanted, time, times)
    if not time:
        return Columns(at, values, False)
    at, dated = times.done(at)
    if not dated and len(back := np.flatnonzero(np.diff(at) < 0)):
        raise TableError(
            f"{path}: column {time}: goes from {at[back[0]]:g} s back to {at[back[0] + 1]:g} s in row"
            f" {back[0] + 2}: give times with a date"
        )
    return Columns(at, values, dated)


def _csv(path: Path, wanted: list[str], time: str, times: Times) -> tuple[Floats, Floats]:
    at: list[float] = []
    rows: list[Floats] = []
    layout = Layout(only=tuple(wanted), time_column=time, when=times.read if time else None,
                    decimal=_decimal(path, wanted), hint=_HINT)  # fmt: skip
    with Table(path, layout) as table:
        for row in table:
            at.append(float(row.number) if row.time_s is None else row.time_s)
            rows.append(row.values)
    return np.array(at), np.array(rows).reshape(len(rows), len(wanted))


def _decimal(path: Path, wanted: list[str]) -> str:
    """A comma where cells have one and cells aren't parted by it, a point otherwise."""
    header, *rows = _head(path, _LOOK_AT)
    at = [i for i, name in enumerate(header) if name.strip() in wanted]
    cells = (row[i] for row in rows for i in at if i < len(row))
    return "," if _separator(path) != "," and any(map(_COMMA.fullmatch, cells)) else "."


def _separator(path: Path) -> str:
    with path.open(encoding="utf-8-sig", newline="", errors="replace") as file:
        first = file.readline(1_000_000)
    return max(SEPARATORS, key=first.count)


def _head(path: Path, most: int) -> list[list[str]]:
    """The first rows. Raises TableError, OSError."""
    try:
        with path.open(encoding="utf-8-sig", newline="", errors="replace") as file:
            return list(islice(csv.reader(file, delimiter=_separator(path)), most))
    except csv.Error as error:
        raise TableError(f"{path}:1: {error}") from None


def _is_text(path: Path) -> None:
    with path.open("rb") as file:
        for i, line in enumerate(file):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                text = f"not UTF-8 text ({error.reason}): save it as UTF-8"
                raise TableError(f"{path}:{i + 1}: {text}") from None


def _schema(path: Path) -> Any:
    from pyarrow import ArrowException, parquet

    try:
        return parquet.read_schema(path)
    except ArrowException as error:
        raise TableError(f"{path}: not a Parquet file: {error}") from error


def _parquet(path: Path, wanted: list[str], time: str, times: Times) -> tuple[Floats, Floats]:
    from pyarrow import ArrowException, parquet

    try:
        table = parquet.read_table(path, columns=[*wanted, *([time] if time else [])])
    except (ArrowException, KeyError, ValueError) as error:
        raise TableError(f"{path}: {error}") from error
    columns = []
    for name in wanted:
        try:
            numbers = table[name].cast("float64", safe=False).to_numpy(zero_copy_only=False)
        except (ArrowException, KeyError) as error:
            raise TableError(f"{path}: column {name}: {error}; {_HINT}") from error
        columns.append(np.where(np.isfinite(numbers), numbers, np.nan))
    values: Floats = np.column_stack(columns)
    if not time:
        return np.arange(len(table), dtype=np.float64), values
    return _times(path, time, table[time], times), values


def _times(path: Path, time: str, column: Any, times: Times) -> Floats:
    from pyarrow import timestamp, types

    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if types.is_date(column.type) or types.is_timestamp(column.type):
        zone = getattr(column.type, "tz", None)
        column = column.cast(timestamp("us", zone), safe=False)
        if zone and not column.null_count:
            return np.asarray(column.cast("int64").to_numpy() / 1e6, dtype=np.float64)
        return _each(path, time, column.to_pylist(), times.of)
    return _each(path, time, column.to_pylist(), lambda cell: times.read(str(cell)))


def _each(path: Path, time: str, cells: Iterable[Any], read: Callable[[Any], float]) -> Floats:
    at = []
    for i, cell in enumerate(cells):
        try:
            if cell is None:
                raise ValueError("no time: leave such rows out")
            at.append(read(cell))
        except (ValueError, OverflowError) as error:
            raise TableError(f"{path}: row {i + 1}: column {time}: {error}") from None
    return np.array(at, dtype=np.float64)
