"""Times as files write them, in POSIX seconds: any zone, any unit, over the turns of the clock.

Decides what a cell of a time column means: ISO 8601 (also with slashes, or day.month.year), a number
whose unit its column's name or its size says, or what `--time-format` says. A time without an
offset is of the file's zone; in the hour that clocks pass twice, it is the one that goes on from
the row before. Must never guess a time that could be another: that is an error.
"""

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

import numpy as np

from agent.table import Floats

_DAY_FIRST = re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{4})", re.ASCII)
_YEAR_FIRST = re.compile(r"(\d{4})/(\d{1,2})/(\d{1,2})", re.ASCII)
_COMPACT = re.compile(r"(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(\d{4}(\d\d)?)?", re.ASCII)
_UNIT_S = {
    "ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0,
    "min": 60.0, "minute": 60.0, "minutes": 60.0, "h": 3_600.0, "hour": 3_600.0, "hours": 3_600.0,
    "day": 86_400.0, "days": 86_400.0,
}  # fmt: skip
_BY_SIZE_S = ((1e17, 1e-9), (1e14, 1e-6), (1e11, 1e-3))  # since 1970, from so much on
DATED_S = 1e8  # numbers below (March 1973) count from the start of a recording
_SAY = {"time", "timestamp", "datetime", "date", "ts", "epoch"}
_ALONE = {"hour", "hours", "minute", "minutes", "second", "seconds"}


@dataclass(frozen=True, slots=True)
class Written:
    """How a file writes its times: the zone of those without an offset; a strptime format, or ""."""

    zone: str = "UTC"
    form: str = ""


def words_of(column: str) -> list[str]:
    """A column's name in lower-case words."""
    return re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", column).lower())


def time_column(header: tuple[str, ...]) -> str:
    """The column of times by its name, "" for none. Raises ValueError where a time is in two."""
    words = {n: set(words_of(n)) for n in header}
    plain = _SAY | _UNIT_S.keys() | {"stamp", "utc", "local", "start"}
    said = [n for n in header if words[n] & _SAY and "zone" not in words[n]]
    alone = [n for n in header if words[n] and words[n] <= _ALONE]
    days = [n for n in said if words[n] == {"date"}]
    clocks = [n for n in said if words[n] == {"time"}] + alone
    if days and clocks:
        raise ValueError(f"{days[0]} and {clocks[0]}: put date and time into one column")
    return next(iter(sorted(said, key=lambda n: not words[n] <= plain) + alone), "")


class Times:
    """Reads one column of times, cell by cell in the file's order."""

    def __init__(self, column: str, how: Written) -> None:
        self._words = set(words_of(column))
        self._zone = _offset(column) or ZoneInfo(how.zone)
        self._form = how.form
        self.numbers: bool | None = None
        self._last_s = self._step_s = 0.0
        self._wall: datetime | None = None
        self._repeats = False  # several rows of one time

    def read(self, cell: str) -> float:
        """The time as POSIX s, or as the number it is: see `done`. Raises ValueError."""
        number = None if self._form or _COMPACT.fullmatch(cell.strip()) else _number(cell)
        if self.numbers not in (None, number is not None):
            raise ValueError(f"{cell[:40]!r}: rows before it write their times another way")
        self.numbers = number is not None
        return self.of(_date(cell.strip(), self._form)) if number is None else number

    def of(self, when: datetime) -> float:
        """POSIX s of a time; without an offset it is of the file's zone. Raises ValueError."""
        if when.tzinfo is not None:
            return when.timestamp()
        first, second = (when.replace(tzinfo=self._zone, fold=fold).timestamp() for fold in (0, 1))
        if first > second:
            raise ValueError(
                f"{when} never was in {self._zone}, where clocks went forward then:"
                " give the file's --timezone"
            )
        at_s = first
        if first < second:
            at_s = self._last_s
            if when != self._wall or not self._repeats:
                expected_s = self._last_s + self._step_s
                at_s = min(first, second, key=lambda s: abs(s - expected_s))
        else:
            self._repeats |= when == self._wall
        if at_s != self._last_s:
            self._step_s = at_s - self._last_s if self._wall is not None else 0.0
        self._last_s, self._wall = at_s, when
        return at_s

    def done(self, at: Floats) -> tuple[Floats, bool]:
        """Times (n,) in s as read, and whether they are of the calendar."""
        if not self.numbers or not len(at):
            return at, True
        most = float(np.abs(at).max())
        factor = next((f for size, f in _BY_SIZE_S if most >= size), 1.0)
        if unit := next((w for w in self._words if w in _UNIT_S), ""):
            factor = _UNIT_S[unit]
        return at * factor, most * factor >= DATED_S


def _offset(column: str) -> tzinfo | None:
    """What a column's name says of its times' offset: "Time (UTC+2)", "time_utc"."""
    found = re.search(r"(?:utc|gmt)\s*([+-])(\d{1,2}):?(\d\d)?", column, re.IGNORECASE)
    if found is None:
        return UTC if {"utc", "gmt"} & set(words_of(column)) else None
    ahead = timedelta(hours=int(found[2]), minutes=int(found[3] or 0))
    return timezone(ahead if found[1] == "+" else -ahead)


def _number(cell: str) -> float | None:
    try:
        value = float(cell.replace(",", ".", 1))
    except ValueError:
        return None
    if not math.isfinite(value):
        raise ValueError(f"{cell[:40]!r} is not a time: leave such rows out")
    return value


def _date(text: str, form: str) -> datetime:
    try:
        if form:
            return datetime.strptime(text, form)  # noqa: DTZ007  the zone is the file's
        iso = re.sub(r"\s+([+-]\d\d:?\d\d)$", r"\1", re.sub(r"\s*(UTC|GMT)$", "+00:00", text))
        if found := _DAY_FIRST.match(iso):
            day, month, year = found.groups()
            iso = f"{year}-{month:0>2}-{day:0>2}{iso[found.end() :]}"
        elif found := _YEAR_FIRST.match(iso):
            year, month, day = found.groups()
            iso = f"{year}-{month:0>2}-{day:0>2}{iso[found.end() :]}"
        elif _COMPACT.fullmatch(iso):
            iso = iso[:8] + (f"T{iso[8:]}" if iso[8:] else "")
        return datetime.fromisoformat(re.sub(r"(?<=[ T])(\d):", r"0\1:", iso))
    except ValueError:
        raise ValueError(
            f"{text[:40]!r} is not a time as {form!r} writes it" if form else
            f"{text[:40]!r} is not a time (ISO 8601, or s, ms, us, ns since 1970); say how it is written:"
            " --time-format FILE='%m/%d/%Y %H:%M'"
        ) from None  # fmt: skip
