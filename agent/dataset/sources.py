"""Public data by name: what each source measures, in Skadi's quantities and units, and its licence.

Decides how a header becomes quantities, and what is a rate, a share or a temperature. A source
gives samples with times in POSIX seconds, or by the hour from 0 where it has none. Must never
guess a unit that the header does not say where two are in use: temperatures are degC unless it
says F. Sources and licences are as their publishers state them; `--licence` overrides.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from agent.dataset.files import PARQUET, columns_of, header_of, time_of
from agent.dataset.times import Written, words_of
from agent.table import Floats, TableError
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
    left_out: tuple[str, ...] = ()  # columns that say no quantity, or no unit of it


# dated, series, columns left out
Found = tuple[bool, list[Series], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Reader:
    """One kind of public data."""

    origin: str
    licence: str
    fits: Callable[[str, tuple[str, ...]], bool]  # (file name, header) -> it is of this kind
    read: Callable[[Path, tuple[str, ...], Written], Found]


def _azure(path: Path, header: tuple[str, ...], how: Written) -> Found:
    by = {n.lower(): n for n in header}
    wanted = [by["generatedtokens"], by["contexttokens"]]
    read = columns_of(path, wanted, by["timestamp"], how)
    order = np.argsort(read.times_s, kind="stable")
    at, (generated, context) = read.times_s[order], read.values[order].T
    return (
        read.dated,
        [
            Series("prompts_ps", "1/s", at, np.ones(len(at)), events=True),
            Series("tokens_ps", "1/s", at, generated, events=True),
            Series("context_tokens_ps", "1/s", at, context, events=True),
        ],
        (),
    )


def _cpu(path: Path, header: tuple[str, ...], how: Written) -> Found:
    """A load by its times, or by the hour that its first, unnamed column counts."""
    name = next(n for n in header if "cpu" in n.lower())
    time = time_of(path, header)
    counted = not time and header[0] == "column 1" and name != header[0]
    read = columns_of(path, [name], header[0] if counted else time, how)
    load = read.values[:, 0]
    if _unit_of(name) == "%" or {"percent", "pct"} & set(words_of(name)):
        load = load / 100.0
    elif len(load) and np.nanmax(load, initial=0.0) > 1.0:
        raise TableError(
            f"{path}: column {name}: {np.nanmax(load):g} is no share of 1; if it is percent, let its name"
            " say so: cpu_load_pct"
        )
    at = read.times_s if time else read.times_s * HOUR_S
    at, load = _once(at, load[:, None] * 100.0)
    return read.dated, [Series("load_pct", "%", at, load[:, 0])], ()


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
_UNIT = re.compile(
    r"[(\[]\s*([^)\]]+?)\s*[)\]]\s*$|_(c|f|k|w|kw|mw|pct|percent|lps|lpm|gpm)$|\s(kw|mw|watts?|%|°c|°f)$",
    re.IGNORECASE,
)
_SPELT = {
    "degC": ("°c", "c", "degc", "deg c", "celsius"), "degF": ("°f", "f", "degf", "deg f", "fahrenheit"),
    "K": ("k", "kelvin"), "kW": ("kw", "kilowatt", "kilowatts"), "W": ("w", "watt", "watts"),
    "MW": ("mw", "megawatt", "megawatts"), "%": ("%", "pct", "percent"), "l/s": ("l/s", "lps"),
    "l/min": ("l/min", "lpm"), "m3/h": ("m3/h", "m³/h", "cmh"), "gpm": ("gpm", "usgpm"),
    "0-1": ("0-1", "0..1", "fraction", "ratio"),
}  # fmt: skip
# A word that makes another quantity of a name that says where: "inlet humidity", "fan power".
_OTHER = {
    "humidity", "power", "flow", "pressure", "energy", "current", "voltage", "status", "alarm", "deviation", "delta",
    "difference", "error", "std", "variance", "count", "cost", "limit", "threshold", "target",
}  # fmt: skip
# Units that no device speaks: (of which, factor, offset).
_MORE = {"K": ("degC", 1.0, -273.15), "MW": ("kW", 1_000.0, 0.0), "0-1": ("%", 100.0, 0.0),
         "m3/h": ("l/s", 1 / 3.6, 0.0), "gpm": ("l/s", 0.0630901964, 0.0)}  # fmt: skip
_UNKNOWN = "?"
_MOST_BAD = 0.5  # of the readings outside what the quantity can be: then its unit is another


def quantity_of(column: str) -> tuple[str, str] | None:
    """(quantity, unit it is in) of a column by its name, or None."""
    words, said = set(words_of(column)), _unit_of(column)
    for need, quantity in _WORDS:
        if words >= set(need) and not (_OTHER & words) - set(need):
            unit = said or _own_unit(quantity)
            if unit != _UNKNOWN and _canonical(unit)[0] == _own_unit(quantity):
                return quantity, unit
    return None


def _unit_of(column: str) -> str:
    """The unit a name ends with: "" without one, _UNKNOWN when it is none of ours."""
    match = _UNIT.search(column)
    if match is None:
        return ""
    spelt = next(filter(None, match.groups())).strip().lower()
    return next((unit for unit, all_of in _SPELT.items() if spelt in all_of), _UNKNOWN)


def _own_unit(quantity: str) -> str:
    return "%" if quantity == "load_pct" else QUANTITIES[quantity].unit


def _canonical(unit: str) -> tuple[str, float, float]:
    """(unit it is kept in, factor, offset)."""
    if unit in _MORE:
        return _MORE[unit]
    own = next(q.unit for q in QUANTITIES.values() if unit in units_for(q.name))
    return own, *to_canonical(unit)


def _by_header(path: Path, header: tuple[str, ...], how: Written) -> Found:
    time = time_of(path, header)
    if not time:
        raise TableError(f"{path}:1: no column of times: name one of its columns time")
    found = {n: q for n in header if n != time and (q := quantity_of(n))}
    if not found:
        raise TableError(f"{path}:1: no column whose name says a quantity; see docs/dataset.md")
    read = columns_of(path, list(found), time, how)
    values = read.values
    for i, (name, (quantity, unit)) in enumerate(found.items()):
        _, factor, offset = _canonical(unit)
        values[:, i] = _plausible(path, name, quantity, values[:, i] * factor + offset)
    times_s, values = _once(read.times_s, values)
    of: dict[str, list[int]] = {}
    for i, (quantity, _) in enumerate(found.values()):
        of.setdefault(quantity, []).append(i)
    series = [
        Series(quantity, _own_unit(quantity), times_s, _mean(values[:, columns], 1))
        for quantity, columns in of.items()
    ]  # several columns of one quantity: their mean
    return read.dated, series, tuple(n for n in header if n != time and n not in found)


def _plausible(path: Path, name: str, quantity: str, values: Floats) -> Floats:
    """Readings that the quantity can't be are none; where most are, the unit is another."""
    low, high = (0.0, 110.0) if quantity == "load_pct" else (
        QUANTITIES[quantity].low, QUANTITIES[quantity].high)  # fmt: skip
    bad = (values < low) | (values > high)
    if bad.sum() > _MOST_BAD * (~np.isnan(values)).sum():
        row = int(np.flatnonzero(bad)[0]) + 1
        raise TableError(
            f"{path}: column {name}: {values[row - 1]:g} {_own_unit(quantity)} in row {row} is no {quantity}"
            f" ({low:g} to {high:g}): say the unit in its name, such as (°F), (K), (W) or (0-1)"
        )
    return np.where(bad, np.nan, values)


def _once(times_s: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Each time once, in order; readings of one time (racks, doubled rows) are averaged."""
    at, which = np.unique(times_s, return_inverse=True)
    if len(at) == len(times_s):
        return at, values[np.argsort(times_s, kind="stable")]
    good = ~np.isnan(values)
    total, count = np.zeros((2, len(at), values.shape[1]))
    np.add.at(total, which, np.where(good, values, 0.0))
    np.add.at(count, which, good)
    with np.errstate(invalid="ignore", divide="ignore"):
        return at, total / count


def _mean(values: Floats, axis: int) -> Floats:
    """The mean of what is known, NaN where nothing is."""
    good = ~np.isnan(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean: Floats = np.where(good, values, 0.0).sum(axis) / good.sum(axis)
    return mean


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


def read_source(path: Path, name: str, how: Written, licence: str = "") -> Source:
    """Read a file by a named reader, or by the one it fits (name ""). Raises TableError, OSError."""
    header = header_of(path)
    name = name or next((n for n, r in READERS.items() if r.fits(path.name, header)), "")
    if name not in READERS:
        raise TableError(
            f"{path}:1: no reader fits its header ({', '.join(header)[:200]}): its first line must name"
            f" the columns; or name one of {', '.join(READERS)} as NAME=FILE"
        )
    reader = READERS[name]
    try:
        dated, series, left_out = reader.read(path, header, how)
    except (StopIteration, KeyError):
        raise TableError(f"{path}:1: not a file for {name}: it lacks its columns") from None
    if not series or not len(series[0].times_s):
        raise TableError(f"{path}: no rows")
    digest, rows = sha256(path.read_bytes()).hexdigest(), len(series[0].times_s)
    licence = licence or reader.licence
    return Source(name, path, digest, rows, reader.origin, licence, dated, tuple(series), left_out)


def files_of(paths: tuple[str, ...]) -> Iterator[tuple[str, Path, bool]]:
    """(reader or "", file, asked for by name) of FILE, FOLDER or READER=FILE, in a fixed order."""
    for given in paths:
        name, sign, rest = given.partition("=")
        named = bool(sign) and name in READERS
        path = Path(rest if named else given)
        if path.is_dir():
            known = (".csv", *PARQUET)
            found = (p for p in sorted(path.iterdir()) if p.suffix.lower() in known)
            yield from ((name if named else "", p, False) for p in found)
        else:
            yield name if named else "", path, True
