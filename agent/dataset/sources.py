"""Public data by name: what each source measures, in Skadi's quantities and units, and its licence.

Decides how a header becomes quantities, and what is a rate, a share or a temperature. A source
gives samples with times in POSIX seconds, or by the hour from 0 where it has none. Must never
guess a unit that the header does not say where two are in use: temperatures are degC unless it
says F. Sources and licences are as their publishers state them; `--licence` overrides.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np

from agent.table import Floats, Layout, Table, TableError
from config.quantities import QUANTITIES, to_canonical, units_for

HOUR_S = 3_600.0


@dataclass(frozen=True, slots=True)
class Series:
    """Samples of one quantity in its own unit: times (n,) in s, ascending, and values (n,).

    events: each sample is something that happened, `values` how much; its rate is wanted.
    """

    name: str
    unit: str
    times_s: Floats
    values: Floats
    events: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """A file as read. `dated`: its times are of the calendar; otherwise they count from 0."""

    reader: str
    path: Path
    digest: str
    rows: int
    origin: str
    licence: str
    dated: bool
    series: tuple[Series, ...]


@dataclass(frozen=True, slots=True)
class Reader:
    """One kind of public data."""

    origin: str
    licence: str
    fits: Callable[[str, tuple[str, ...]], bool]  # (file name, header) -> it is of this kind
    read: Callable[[Path, tuple[str, ...], str], tuple[bool, list[Series]]]


def header_of(path: Path) -> tuple[str, ...]:
    """The column names. Raises TableError, OSError."""
    if path.suffix == ".parquet":
        from pyarrow import ArrowException, parquet

        try:
            return tuple(parquet.read_schema(path).names)
        except ArrowException as error:
            raise TableError(f"{path}: not a Parquet file: {error}") from error
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        first = file.readline(1_000_000).rstrip("\r\n")
    sep = max(";,\t|", key=first.count)
    return tuple(name.strip().strip('"') for name in first.split(sep))


def columns_of(path: Path, wanted: list[str], time: str, zone: str) -> tuple[Floats, Floats]:
    """Times (n,) in POSIX s (row numbers without a time column) and values (n, wanted)."""
    if path.suffix == ".parquet":
        return _parquet(path, wanted, time, zone)
    times: list[float] = []
    rows: list[Floats] = []
    with Table(path, Layout(only=tuple(wanted), time_column=time)) as table:
        for row in table:
            times.append(float(row.number) if row.time_s is None else row.time_s)
            rows.append(row.values)
    at = np.array(times)
    if time and _naive(path):
        at = _in_zone(at, zone)
    return at, np.array(rows).reshape(len(rows), len(wanted))


def _naive(path: Path) -> bool:
    """True when the times do not say their own offset."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        file.readline(1_000_000)
        line = file.readline(1_000_000)
    return (
        re.search(r"\d{2}:\d{2}(:\d{2}(\.\d+)?)?\s*(Z|[+-]\d{2}:?\d{2})", line) is None
        and ":" in line
    )


def _in_zone(times_s: Floats, zone: str) -> Floats:
    """Wall times read as if they were UTC, as what they are in a zone."""
    if zone == "UTC":
        return times_s
    where = ZoneInfo(zone)
    walls = (datetime.fromtimestamp(t, UTC).replace(tzinfo=where) for t in times_s)
    return np.array([wall.timestamp() for wall in walls])


def _parquet(path: Path, wanted: list[str], time: str, zone: str) -> tuple[Floats, Floats]:
    from pyarrow import ArrowException, parquet, types

    try:
        table = parquet.read_table(path, columns=[*wanted, *([time] if time else [])])
        values = [table[n].cast("float64").to_numpy(zero_copy_only=False) for n in wanted]
        at = np.arange(len(table), dtype=np.float64)
        if time:
            kind, column = table.schema.field(time).type, table[time]
            if types.is_timestamp(kind):
                at = column.cast("timestamp[us]").cast("int64").to_numpy() / 1e6
                at = at if kind.tz else _in_zone(at, zone)
            else:
                at = column.cast("float64").to_numpy()
    except (ArrowException, KeyError) as error:
        raise TableError(f"{path}: {error}") from error
    return at, np.column_stack(values)


def _azure(path: Path, _header: tuple[str, ...], zone: str) -> tuple[bool, list[Series]]:
    at, values = columns_of(path, ["ContextTokens", "GeneratedTokens"], "TIMESTAMP", zone)
    order = np.argsort(at, kind="stable")
    ones, tokens = np.ones(len(at)), values[order, 1]
    return True, [
        Series("prompts_ps", "1/s", at[order], ones, events=True),
        Series("tokens_ps", "1/s", at[order], tokens, events=True),
        Series("context_tokens_ps", "1/s", at[order], values[order, 0], events=True),
    ]


def _cpu(path: Path, header: tuple[str, ...], zone: str) -> tuple[bool, list[Series]]:
    at, values = columns_of(path, [next(n for n in header if "cpu" in n.lower())], "", zone)
    return False, [Series("load_pct", "%", at * HOUR_S, values[:, 0] * 100.0)]


# In order: the first whose words all stand in a column's name.
_WORDS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("setpoint", "water"), "chilled_water_setpoint_c"), (("setpoint",), "supply_air_setpoint_c"),
    (("inlet",), "inlet_c"), (("cold", "aisle"), "inlet_c"), (("outlet",), "outlet_c"),
    (("hot", "aisle"), "outlet_c"), (("return",), "return_air_c"), (("supply",), "supply_air_c"),
    (("chilled", "water"), "chilled_water_c"), (("outdoor", "humidity"), "outdoor_humidity_pct"),
    (("ambient",), "outdoor_c"), (("outdoor",), "outdoor_c"), (("humidity",), "humidity_pct"),
    (("cooling", "power"), "cooling_power_kw"), (("chiller", "power"), "cooling_power_kw"),
    (("server", "power"), "it_power_kw"), (("it", "power"), "it_power_kw"),
    (("gpu", "power"), "gpu_power_kw"), (("total", "power"), "total_power_kw"),
    (("workload",), "load_pct"), (("cpu",), "load_pct"), (("fan",), "fan_rpm_pct"),
    (("ahu",), "fan_rpm_pct"), (("pump",), "pump_rpm_pct"), (("flow",), "flow_lps"),
    (("temperature",), "zone_c"), (("temp",), "zone_c"),
)  # fmt: skip
_UNIT = re.compile(r"[(\[]\s*([^)\]]+)\s*[)\]]\s*$|_(c|f|kw|w|pct|lps|lpm)$", re.IGNORECASE)
_SPELT = {
    "°c": "degC", "c": "degC", "degc": "degC", "celsius": "degC", "°f": "degF", "f": "degF",
    "degf": "degF", "fahrenheit": "degF", "kw": "kW", "w": "W", "%": "%", "pct": "%",
    "l/s": "l/s", "lps": "l/s", "l/min": "l/min", "lpm": "l/min",
}  # fmt: skip
_TIME = re.compile(r"(time|date|ts)", re.IGNORECASE)


def quantity_of(column: str) -> tuple[str, str] | None:
    """(quantity, unit it is in) of a column by its name, or None."""
    words = set(re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", column).lower()))
    found = next((q for need, q in _WORDS if words >= set(need)), None)
    if found is None:
        return None
    canonical = "%" if found == "load_pct" else QUANTITIES[found].unit
    fits = ("%",) if found == "load_pct" else units_for(found)
    if match := _UNIT.search(column):
        unit = _SPELT.get((match[1] or match[2]).strip().lower())
        return (found, unit) if unit in fits else None
    return found, canonical


def _by_header(path: Path, header: tuple[str, ...], zone: str) -> tuple[bool, list[Series]]:
    time = next((n for n in header if _TIME.search(n)), "")
    found = {n: q for n in header if n != time and (q := quantity_of(n))}
    if not found:
        raise TableError(f"{path}:1: no column whose name says a quantity; see docs/dataset.md")
    at, values = columns_of(path, list(found), time, zone)
    order = np.argsort(at, kind="stable")
    made: dict[str, list[Floats]] = {}
    for i, (quantity, unit) in enumerate(found.values()):
        factor, offset = to_canonical(unit)
        made.setdefault(quantity, []).append(values[order, i] * factor + offset)
    times_s = at[order] if time else at[order] * HOUR_S
    series = []
    for quantity, columns in made.items():  # several of one: their mean
        block = np.array(columns)
        good = ~np.isnan(block)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.where(good, block, 0.0).sum(0) / good.sum(0)
        unit = "%" if quantity == "load_pct" else QUANTITIES[quantity].unit
        series.append(Series(quantity, unit, times_s, mean))
    return bool(time), series


def _has(*words: str) -> Callable[[str, tuple[str, ...]], bool]:
    return lambda _name, header: set(words) <= {n.lower() for n in header}


def _named(word: str) -> Callable[[str, tuple[str, ...]], bool]:
    return lambda name, header: word in name.lower() and any("cpu" in n.lower() for n in header)


def _says(*quantities: str) -> Callable[[str, tuple[str, ...]], bool]:
    return lambda _name, header: bool(
        {q[0] for n in header if (q := quantity_of(n))} & set(quantities)
    )


READERS: dict[str, Reader] = {
    "azure-llm": Reader("Azure Public Dataset, LLM inference trace 2023", "CC-BY-4.0",
                        _has("timestamp", "contexttokens", "generatedtokens"), _azure),
    "google-cpu": Reader("Google cluster trace, hourly CPU load (as in HewlettPackard/dc-rl)",
                         "CC-BY-4.0 (trace), MIT (dc-rl)", _named("google"), _cpu),
    "alibaba-cpu": Reader("Alibaba cluster trace, hourly CPU load (as in HewlettPackard/dc-rl)",
                          "research use (trace), MIT (dc-rl)", _named("alibaba"), _cpu),
    "cooling-operations": Reader("cooling operations of a data centre", "as its publisher states",
                                 _says("cooling_power_kw", "chilled_water_c", "fan_rpm_pct"), _by_header),
    "dc-temperatures": Reader("temperatures of a data centre", "as its publisher states",
                              _says("inlet_c", "outlet_c", "zone_c", "supply_air_c"), _by_header),
}  # fmt: skip


def read_source(path: Path, name: str, zone: str, licence: str = "") -> Source:
    """Read a file by a named reader, or by the one it fits (name ""). Raises TableError, OSError."""
    header = header_of(path)
    name = name or next((n for n, r in READERS.items() if r.fits(path.name, header)), "")
    if name not in READERS:
        known = ", ".join(READERS)
        raise TableError(f"{path}:1: no reader fits its header; name one of {known} as NAME=FILE")
    reader = READERS[name]
    try:
        dated, series = reader.read(path, header, zone)
    except StopIteration:
        raise TableError(f"{path}:1: not a file for {name}: it lacks its columns") from None
    if not series or not len(series[0].times_s):
        raise TableError(f"{path}: no rows")
    digest, rows = sha256(path.read_bytes()).hexdigest(), len(series[0].times_s)
    licence = licence or reader.licence
    return Source(name, path, digest, rows, reader.origin, licence, dated, tuple(series))


def files_of(paths: tuple[str, ...]) -> Iterator[tuple[str, Path, bool]]:
    """(reader or "", file, asked for by name) of FILE, FOLDER or READER=FILE, in a fixed order."""
    for given in paths:
        name, sign, rest = given.partition("=")
        named = bool(sign) and name in READERS
        path = Path(rest if named else given)
        if path.is_dir():
            found = (p for p in sorted(path.iterdir()) if p.suffix in (".csv", ".parquet"))
            yield from ((name if named else "", p, False) for p in found)
        else:
            yield name if named else "", path, True
