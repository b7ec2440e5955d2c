"""Mixes public data with a hall's own history into one table in Skadi's features.

Decides how sources of any sampling come onto one grid: samples within a step are averaged (events
counted), coarser ones joined by lines; a source of another time is laid over the hall's: repeated,
at its own time of day where it is at least a day long. J/prompt is GPU energy plus auxiliary
energy (everything else the hall takes) over completed prompts, where all three are known. Same
inputs, same bytes. Must never fill a gap of the hall's own readings.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from agent.clock import utc
from agent.dataset.sources import Series, Source
from agent.history.service import History
from agent.reports.html import render_blocks
from agent.reports.page import Cards, Charts, Table, Text, Title
from agent.table import Floats
from config.quantities import QUANTITIES
from config.site import Site
from control.energy import power_now
from control.features import rack_features
from control.layout import FEATURES, Layout
from control.types import Snapshot

DAY_S = 86_400.0
MOST_ROWS = 2_000_000
POWER = ("gpu_power_kw", "aux_power_kw", "total_power_kw", "prompts_ps")
MOST_PLOT = 600
_JOINED = 2.5  # intervals between samples that a line joins


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the mix: values (n,), NaN where not known."""

    name: str
    unit: str
    values: Floats


async def own_columns(history: History, site: Site, times_s: Floats, step_s: float) -> list[Column]:
    """The hall's features and power on the grid, from its rollups."""
    layout = Layout(site)
    values = np.full((len(times_s), len(layout.index)), np.nan)
    for quantity in sorted({p.quantity for p in site.points.values()}):
        for start in range(0, len(times_s), max(1, int(DAY_S / step_s))):
            part = times_s[start : start + max(1, int(DAY_S / step_s))]
            lines = await history.timeline(quantity, part[0], part[-1] + step_s, step_s)
            for point, line in lines.items():
                if point in layout.index:
                    at = np.array([round((t - times_s[0]) / step_s) for t, _ in line])
                    means = np.array([np.nan if v is None else v for _, v in line])
                    values[at, layout.index[point]] = means
    gpu = [
        layout.index[k]
        for k, p in site.points.items()
        if p.quantity == "gpu_power_kw" and not p.part
    ]
    rows = np.full((len(times_s), len(FEATURES) + len(POWER)), np.nan)
    for i, now_s in enumerate(times_s):
        rows[i] = _row(
            layout,
            Snapshot(now_s, layout.index, values[i], values[i], np.zeros(len(values[i]))),
            gpu,
        )
    units = [QUANTITIES[f].unit if f in QUANTITIES else "degC" for f in FEATURES]
    units += ["kW", "kW", "kW", "1/s"]
    names = (*FEATURES, "hall_gpu_power_kw", *POWER[1:])
    columns = [Column(n, u, rows[:, k]) for k, (n, u) in enumerate(zip(names, units, strict=True))]
    total, prompts = rows[:, -2], rows[:, -1]
    with np.errstate(invalid="ignore", divide="ignore"):
        each = np.where(prompts > 0, total * 1000.0 / prompts, np.nan)
    return [*columns, Column("j_per_prompt", "J", each)]


def _row(layout: Layout, snapshot: Snapshot, gpu: list[int]) -> Floats:
    racks = rack_features(layout, snapshot)
    good = ~np.isnan(racks)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(good, racks, 0.0).sum(0) / good.sum(0)
    now = power_now(layout, snapshot)
    gpu_kw = float(snapshot.values[gpu].sum()) if gpu else np.nan
    total = np.nan if now.total_kw is None else now.total_kw
    prompts = np.nan if now.prompts_ps is None else now.prompts_ps
    return np.array([*mean, gpu_kw, total - gpu_kw, total, prompts])


def energy(columns: Sequence[Column], step_s: float) -> dict[str, float | None]:
    """J/prompt over the whole table: GPU and auxiliary joules over prompts, where all are known."""
    by = {c.name: c.values for c in columns}
    if "hall_gpu_power_kw" not in by:
        return {
            "j_per_prompt": None,
            "gpu_j": None,
            "auxiliary_j": None,
            "prompts": None,
            "known_pct": None,
        }
    gpu, aux, prompts = by["hall_gpu_power_kw"], by["aux_power_kw"], by["prompts_ps"]
    known = ~np.isnan(gpu) & ~np.isnan(aux) & ~np.isnan(prompts)
    gpu_j, aux_j = (float(x[known].sum() * step_s * 1000.0) for x in (gpu, aux))
    count = float(prompts[known].sum() * step_s)
    return {
        "j_per_prompt": (gpu_j + aux_j) / count if count else None,
        "gpu_j": gpu_j, "auxiliary_j": aux_j, "prompts": count,
        "known_pct": 100.0 * float(known.mean()) if len(known) else 0.0,
    }  # fmt: skip


def laid(source: Source, times_s: Floats, step_s: float) -> tuple[list[Column], str]:
    """A source on the grid, and how it was laid there."""
    first, last = source.series[0].times_s[0], source.series[0].times_s[-1]
    end_s = times_s[-1] + step_s
    if source.dated and first < end_s and last >= times_s[0]:
        return [
            _column(source, s, s.times_s, times_s, step_s, 0.0) for s in source.series
        ], "at its own times"
    span_s = last - first + _interval(source.series[0])
    if span_s >= DAY_S:
        span_s = span_s // DAY_S * DAY_S
        begin_s, how = times_s[0] // DAY_S * DAY_S, "repeated, at its own time of day"
        begin_s += first % DAY_S if source.dated else 0.0
    else:
        begin_s, how = times_s[0], "repeated from the start"
    made = []
    for series in source.series:
        moved = series.times_s - first + begin_s
        made.append(_column(source, series, moved, times_s, step_s, span_s))
    return made, how


def _interval(series: Series) -> float:
    gaps = np.diff(series.times_s)
    return 0.0 if series.events or not len(gaps) else float(np.median(gaps))


def _column(
    source: Source, series: Series, moved_s: Floats, times_s: Floats, step_s: float, span_s: float
) -> Column:
    """A series on the grid; span_s: it repeats after so long (0: it does not)."""
    name = f"{source.path.stem}:{series.name}"
    within = moved_s < moved_s[0] + span_s if span_s else np.ones(len(moved_s), bool)
    at_s, values = moved_s[within], series.values[within]
    at_s, values = at_s[good := ~np.isnan(values)], values[good]
    if not len(at_s):
        return Column(name, series.unit, np.full(len(times_s), np.nan))
    copies = range(int((at_s[0] - times_s[0]) // span_s * -1) - 1 if span_s else 0,
                   int((times_s[-1] + step_s - at_s[0]) // span_s) + 1 if span_s else 1)  # fmt: skip
    total, count = np.zeros((2, len(times_s)))
    for k in copies:  # one at a time: an hour's trace comes thousands of times in a year
        step = np.floor((at_s + k * span_s - times_s[0]) / step_s).astype(np.int64)
        inside = (step >= 0) & (step < len(times_s))
        np.add.at(total, step[inside], values[inside])
        np.add.at(count, step[inside], 1.0)
    if series.events:
        first_s, last_s = at_s[0] + copies[0] * span_s, at_s[-1] + copies[-1] * span_s
        seen = (times_s >= first_s) & (times_s + step_s <= last_s)  # steps it covers in full
        return Column(name, series.unit, np.where(seen, total / step_s, np.nan))
    with np.errstate(invalid="ignore", divide="ignore"):
        mean: Floats = np.where(count > 0, total / count, np.nan)
    if interval_s := _interval(series):
        # Coarser than the grid: lines between samples; else in steps that a late sample left empty.
        at_s = np.concatenate([at_s + k * span_s for k in copies])
        line = _lines(
            at_s, np.tile(values, len(copies)), times_s + step_s / 2, _JOINED * interval_s
        )
        mean = line if interval_s > step_s else np.where(count > 0, mean, line)
    return Column(name, series.unit, mean)


def _lines(at_s: Floats, values: Floats, wanted_s: Floats, most_s: float) -> Floats:
    """Lines between samples no further apart than most_s, NaN elsewhere."""
    after = np.searchsorted(at_s, wanted_s)
    inside = (after > 0) & (after < len(at_s))
    width = np.full(len(wanted_s), np.inf)
    width[inside] = np.diff(at_s)[after[inside] - 1]
    line: Floats = np.where(width <= most_s, np.interp(wanted_s, at_s, values), np.nan)
    return line


def grid(since_s: float, until_s: float, step_s: float) -> Floats:
    """The starts of the steps, multiples of step_s. Raises ValueError when there are none, or too many."""
    first, last = np.floor(since_s / step_s), np.ceil(until_s / step_s)
    if not 0 < last - first <= MOST_ROWS:
        raise ValueError(
            f"{last - first:.0f} rows of {step_s:g} s: give --since, --until or --step"
        )
    rows: Floats = np.arange(first, last, dtype=np.float64) * step_s
    return rows


def summary(
    columns: Sequence[Column], times_s: Floats, step_s: float, sources: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """What the table holds and where each part comes from."""
    about = {}
    for c in columns:
        known = c.values[~np.isnan(c.values)]
        stats = (
            {k: float(f(known)) for k, f in (("mean", np.mean), ("low", np.min), ("high", np.max))}
            if known.size
            else {}
        )
        about[c.name] = {"unit": c.unit, "missing": int(np.isnan(c.values).sum())} | stats
    return {
        "since": utc(times_s[0]), "until": utc(times_s[-1] + step_s), "step_s": step_s, "rows": len(times_s),
        "energy": energy(columns, step_s), "columns": about, "sources": list(sources),
    }  # fmt: skip


def write(
    folder: Path, columns: Sequence[Column], times_s: Floats, found: dict[str, Any]
) -> list[str]:
    """mix.parquet, mix.csv (for `skadi train`), workload.csv (for the simulators), summary.json and
    summary.html; the names written. Raises OSError."""
    import pyarrow as pa
    from pyarrow import parquet

    folder.mkdir(parents=True, exist_ok=True)
    fields = [pa.field("time", pa.timestamp("ms", tz="UTC"))]
    fields += [pa.field(c.name, pa.float64(), metadata={"unit": c.unit}) for c in columns]
    note = json.dumps(found, allow_nan=False, sort_keys=True)
    data = [pa.array((times_s * 1000).astype(np.int64), pa.timestamp("ms", tz="UTC"))]
    data += [pa.array(c.values, from_pandas=True) for c in columns]
    table = pa.table(data, schema=pa.schema(fields, metadata={"skadi": note}))
    parquet.write_table(table, folder / "mix.parquet", compression="zstd")
    lines = [",".join(["time", *(c.name for c in columns)])]
    for i, t in enumerate(times_s):
        cells = ("" if np.isnan(c.values[i]) else repr(float(c.values[i])) for c in columns)
        lines.append(",".join([utc(t), *cells]))
    (folder / "mix.csv").write_text("\n".join(lines) + "\n", "utf-8")
    names = ["mix.parquet", "mix.csv", "summary.json", "summary.html"]
    if workload := _workload(columns, times_s):
        (folder / "workload.csv").write_text(workload, "utf-8")
        names.insert(2, "workload.csv")
    (folder / "summary.json").write_text(
        json.dumps(found, indent=1, sort_keys=True) + "\n", "utf-8"
    )
    (folder / "summary.html").write_text(render_blocks(_page(columns, times_s, found)), "utf-8")
    return names


def _workload(columns: Sequence[Column], times_s: Floats) -> str:
    """The first column of prompts as a trace of requests, spread evenly within each step."""
    rates = [c for c in columns if c.name.endswith("prompts_ps")]
    known = next((c.values for c in rates if not np.isnan(c.values).all()), None)
    if known is None or len(times_s) < 2:
        return ""
    step_s = times_s[1] - times_s[0]
    thinned = min(1.0, 200_000 / max(1.0, float(np.nansum(known) * step_s)))
    lines, owed = ["TIMESTAMP"], 0.0
    for t, rate in zip(times_s, np.nan_to_num(known), strict=True):
        owed += rate * step_s * thinned
        count, owed = int(owed), owed % 1.0
        lines += [utc(t + step_s * (k + 0.5) / count)[:-1].replace("T", " ") for k in range(count)]
    return "\n".join(lines) + "\n"


def _page(columns: Sequence[Column], times_s: Floats, found: dict[str, Any]) -> list[Any]:
    e = found["energy"]
    cards = [(f"{found['rows']}", "", "rows")]
    if e["j_per_prompt"] is not None:
        share = 100.0 * e["gpu_j"] / (e["gpu_j"] + e["auxiliary_j"])
        cards = [
            (f"{e['j_per_prompt']:.1f}", "J", "per prompt"),
            (f"{share:.1f}", "%", "of it GPU"),
            *cards,
        ]
    rows = tuple((s["file"], s["reader"], s["licence"], f"{s['rows']}", s["laid"], s["sha256"][:12])
                 for s in found["sources"])  # fmt: skip
    shown = [c for c in columns if not np.isnan(c.values).all()]
    return [
        Title("Mixed data", f"{found['since'][:16]} to {found['until'][:16]} UTC, every {found['step_s']:g} s"),
        Cards(tuple(cards)),
        Table(("file", "reader", "licence", ">rows", "laid", "sha256"), rows),
        Text("J/prompt: GPU energy plus all other energy of the hall, over completed prompts."),
        *(Charts((_chart(c, times_s),)) for c in shown),
    ]  # fmt: skip


def _chart(column: Column, times_s: Floats) -> dict[str, Any]:
    every = -(-len(times_s) // MOST_PLOT)
    values = [None if np.isnan(v) else round(float(v), 4) for v in column.values[::every]]
    x = {"label": "time", "unit": "UTC", "values": [utc(t) for t in times_s[::every]],
         "since": utc(times_s[0]), "until": utc(times_s[-1]), "step_s": float(times_s[1] - times_s[0]) * every
         if len(times_s) > 1 else 0.0}  # fmt: skip
    series = [{"name": column.name, "values": values, "url": None}]
    return {"id": column.name, "kind": "line", "title": column.name, "x": x, "limit": None, "band": None,
            "y": {"label": column.name, "unit": column.unit}, "marks": [], "from_zero": False,
            "series": series}  # fmt: skip


def provenance(source: Source, how: str) -> dict[str, Any]:
    """Where a part comes from."""
    return {
        "file": source.path.name, "reader": source.reader, "origin": source.origin, "rows": source.rows,
        "licence": source.licence, "sha256": source.digest, "laid": how, "left_out": list(source.left_out),
    }  # fmt: skip


def own_provenance(site: Site, columns: Sequence[Column]) -> dict[str, Any]:
    """The hall's own part: its digest is of the values that were taken."""
    digest = sha256()
    for c in columns:
        digest.update(c.name.encode() + c.values.tobytes())
    return {"file": f"history of {site.id}/{site.area}", "reader": "history", "origin": "this site's own telemetry",
            "rows": len(columns[0].values), "licence": "own", "sha256": digest.hexdigest(),
            "laid": "at its own times"}  # fmt: skip
