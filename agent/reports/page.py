"""A report as blocks to read from top to bottom: the answer, what it rests on, what was done.

Decides wording and order once, for the HTML page and the PDF. Leaves nothing out that speaks
against Skadi: refused, undone, incomplete, missing and put-off things have their place.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agent.reports.draw import heat_colour

Json = dict[str, Any]
COOL_C, HOT_C = 18.0, 28.0  # the ends of the heat map's colours: ASHRAE's 18 degC, the limit
MOST_ROWS = 40
NOTHING = "–"


@dataclass(frozen=True, slots=True)
class Title:
    """What it is and of when."""

    text: str
    sub: str


@dataclass(frozen=True, slots=True)
class Heading:
    """The start of a section."""

    text: str


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph; `soft` for a note below something."""

    text: str
    soft: bool = True


@dataclass(frozen=True, slots=True)
class Cards:
    """The figures that matter: (value, unit, what it is)."""

    cards: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text. `head` starts with > where a column is of numbers; `widths` are shares."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    widths: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Heat:
    """Racks by row: (row, ((rack, shown, colour, ink), …))."""

    rows: tuple[tuple[str, tuple[tuple[str, str, str, str], ...]], ...]


@dataclass(frozen=True, slots=True)
class Charts:
    """Charts beside each other: one over the page, or two."""

    charts: tuple[Json, ...]


Block = Title | Heading | Text | Cards | Table | Heat | Charts


def page(r: Json) -> list[Block]:
    """The whole report."""
    lines = [c for c in r["charts"] if c["kind"] == "line"]
    hall = [c for c in lines if not c["id"].startswith("setpoint:")]
    setpoints = [c for c in lines if c["id"].startswith("setpoint:")]
    sub = f"{_when(r['since'])} to {_when(r['until'])} UTC"
    sub += " · a simulated hall" if r["simulated"] else ""
    return [
        Title(f"{r['site']} · {r['area']}", f"{sub} · made {_when(r['generated'])} UTC"),
        *_short(r), *_limits(r), *_rehearsal(r), *_saving(r),
        Heading("Warmest inlet of each rack, degC"), *_heat(r),
        Heading("Over time"), *_wide_then_pairs(hall),
        *_done(r), *_setpoints(setpoints), *_alarms(r), *_audit(r), *_timeline(r), *_rests(r),
    ]  # fmt: skip


def rehearsal_page(compared: Json, charts: list[Json]) -> list[Block]:
    """Rehearsals alone, for `skadi rehearse --report`."""
    first = compared["runs"][0]
    about = f"{first['scenario'] or 'default'}, seed {first['seed']}, {first['hours']:g} h"
    found: Json = {"rehearsal": compared, "charts": charts}
    return [Title("Rehearsal", f"plant {first['plant']}, {about}"), *_rehearsal(found)]


def number(value: float | None, digits: int = 2, signed: bool = False) -> str:
    """A number with narrow spaces between thousands, or a dash."""
    if value is None:
        return NOTHING
    return f"{value:{'+' if signed else ''},.{digits}f}".replace(",", "\u00a0")


def _when(ts: str | None, from_: int = 0) -> str:
    return NOTHING if not ts else ts[from_:16].replace("T", " ")


def _short(r: Json) -> list[Block]:
    k, e, s = r["kpi"], r["energy"]["terms"], r["saving"]
    wh = k["wh_per_prompt"]
    doubt = (
        f"{number(wh['low'], 3)} to {number(wh['high'], 3)} (95 %)" if wh["low"] is not None
        else "a term is missing" if wh["value"] is None else "too short for an interval"
    )  # fmt: skip
    pct = "" if s["pct"] is None else f", {number(s['pct'], 1)} % of what it would have been"
    cards = (
        (number(wh["value"], 3), "Wh/prompt", doubt),
        (number(e["total"]["kwh"], 0), "kWh", f"in all, {e['total']['source']}, known {number(e['total']['known_pct'], 1)} % of the time"),
        (number(s["kwh"], 0), "kWh saved", f"modelled: {number(s['low'], 0)} to {number(s['high'], 0)} (95 %){pct}"),
        (number(k["pue"]["value"], 3), "PUE", f"cooling {number(e['cooling']['kwh'], 0)} kWh, IT {number(e['it']['kwh'], 0)} kWh"),
        (number(k["prompts"]["value"], 0), "prompts", f"{number(k['wh_per_1k_tokens']['value'], 2)} Wh per 1,000 tokens"),
        (*_kept(r), f"{_plural(r['alarms']['called'], 'alarm')} called, journal {r['audit']['chain'] or 'not here'}"),
    )  # fmt: skip
    blocks: list[Block] = [Cards(cards), Text(_sentence(r), soft=False)]
    if e["total"]["known_pct"] < 99:
        blocks.append(Text(
            f"Energy is summed over the {number(e['total']['known_pct'], 1)} % of the time in which"
            " every term was read; nothing is filled in for the rest."))  # fmt: skip
    return blocks


def _sentence(r: Json) -> str:
    """The report in one breath."""
    s, moves = r["saving"], r["actions"]["moves"]
    made, undone = sum(m["made"] for m in moves), sum(m["undone"] for m in moves)
    over = [c["limit"] for c in r["compliance"] if c["minutes_over"]]
    mute = [c["limit"] for c in r["compliance"] if c["kept_pct"] is None]
    kept = f"{' and '.join(over)} went over the limit" if over else "no limit was crossed"
    if len(mute) == len(r["compliance"]):
        kept = "nothing was measured, so whether a limit was crossed is not known"
    elif mute:
        kept += f" ({' and '.join(mute)}: not measured)"
    if not made:
        return f"Skadi changed nothing in this time; {kept}."
    sure = "" if s["low"] > 0 or s["high"] < 0 else ", which may be none"
    return (f"Skadi made {_plural(made, 'change')} and took {undone} of them back; they saved about {number(s['kwh'], 0)} kWh"
            f" by its model{sure}, and {kept}.")  # fmt: skip


def _plural(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _kept(r: Json) -> tuple[str, str]:
    measured = [c for c in r["compliance"] if c["kept_pct"] is not None]
    mute = len(r["compliance"]) - len(measured)
    kept = f"{sum(c['minutes_over'] == 0 for c in measured)} of {len(measured)}"
    return kept if measured else NOTHING, f"limits kept{f', {mute} not measured' if mute else ''}"


def _limits(r: Json) -> list[Block]:
    rows = tuple(
        (c["limit"], f"{number(c['max'], 1)} {c['unit']}", number(c["worst"], 1),
         f"{c['at']}, {_when(c['when'], 5)}" if c["at"] else "not measured",
         NOTHING if c["kept_pct"] is None else f"{number(c['kept_pct'], 2)} %",
         number(c["minutes_over"], 0), number(c["minutes_near"], 0))
        for c in r["compliance"]
    )  # fmt: skip
    head = ("limit", ">at most", ">worst", "where, when (UTC)", ">kept", ">min over", ">min near")
    blocks: list[Block] = [Heading("Limits"), Table(head, rows, (16, 14, 10, 30, 12, 9, 9))]
    within = ", ".join(f"{c['near_within']:g} {c['unit']}" for c in r["compliance"])
    if not r["near"]:
        seen = any(c["kept_pct"] is not None for c in r["compliance"])
        said = "No limit was nearly reached" if seen else "Nothing was measured"
        return [*blocks, Text(f"{said}; near is within {within}.")]
    near = tuple(
        (n["limit"], n["at"], f"{number(n['closest'], 1)} {n['unit']}", number(n["margin"], 2), _when(n["when"], 5), number(n["minutes"], 0))
        for n in r["near"]
    )  # fmt: skip
    return [*blocks, Text(f"Nearly reached, the closest first; near is within {within}:"),
            Table(("limit", "where", ">closest", ">margin", "when (UTC)", ">min near"), near, (14, 34, 14, 12, 15, 11))]  # fmt: skip


def _rehearsal(r: Json) -> list[Block]:
    if not (compared := r["rehearsal"]):
        return []
    rows = []
    for run in compared["runs"]:
        split = run["saving_split"]
        by = ", ".join(f"{p} {number(v, 1, True)}" for p, v in split.items() if abs(v) >= 0.05)
        rows.append((run["name"], number(run["wh_per_prompt"], 4), number(run["saving_pct"], 2),
                     by or NOTHING, number(run["worst_inlet_c"], 1), number(run["over_limit"], 0)))  # fmt: skip
    return [
        Heading("Rehearsed: the same hall and arrivals, steered by others"),
        Charts(tuple(c for c in r["charts"] if c["kind"] == "bars")),
        Table(("steered by", ">Wh/prompt", ">saved, %", "of which, % points", ">inlet, degC", ">over a limit"), tuple(rows), (18, 13, 11, 34, 12, 12)),
        Text("By the plant's own account, in virtual time. Deferred work is charged as if it had been done. The oracle knows the future; no controller can."),
    ]  # fmt: skip


def _saving(r: Json) -> list[Block]:
    s = r["saving"]
    made: list[Block] = [Heading("What was saved")]
    rows = tuple(
        (name, number(s["split"][key], 1), how)
        for name, key, how in (
            ("cooling", "cooling", "air, fans, pumps, water"),
            ("IT", "it", "routing and batching"),
            ("deferred work", "deferred", f"never counted as saved; some work waited for {number(s['deferred_minutes'], 0)} minutes"),
        )
    )  # fmt: skip
    made.append(Table(("part", ">kWh", "by"), rows, (18, 12, 70)))
    made.append(Text(
        f"{number(s['low'], 1)} to {number(s['high'], 1)} kWh (95 %), modelled, against {s['against']}: for each"
        " move that was held, the power it makes by the hall's learned model, times how long. A saving"
        " that is proved needs the same arrivals without Skadi: skadi rehearse."))  # fmt: skip
    would = s["would"]
    if would["proposals"]:
        made.append(Text(
            f"Not armed: {would['proposals']} proposals on {would['knobs']} knobs were denied by the mode"
            f" alone. Their first steps were expected to change power by {number(would['first_step_kw'], 1, True)} kW."))  # fmt: skip
    return made


def _heat(r: Json) -> list[Block]:
    hottest = max([HOT_C, *(e["max"] for e in r["compliance"] if e["unit"] == "degC")])
    rows: dict[str, list[tuple[str, str, str, str]]] = {}
    for rack in r["racks"]:
        top = rack["inlet_max_c"]
        share = None if top is None else (top - COOL_C) / (hottest - COOL_C)
        ink = "#ffffff" if share is not None and (share < 0.15 or share > 0.85) else "#222222"
        tip = f"{rack['rack']}: mean {number(rack['inlet_mean_c'], 1)} degC, {number(rack['pdu_mean_kw'], 1)} kW"
        rows.setdefault(rack["row"] or "-", []).append(
            (tip, number(top, 1), heat_colour(share), ink)
        )
    if not rows:
        return [Text("No rack is measured.")]
    return [Heat(tuple((name, tuple(racks)) for name, racks in sorted(rows.items())))]


def _wide_then_pairs(charts: Sequence[Json]) -> list[Block]:
    return [Charts((charts[0],)), *_pairs(charts[1:])]


def _pairs(charts: Sequence[Json]) -> list[Block]:
    return [Charts(tuple(charts[i : i + 2])) for i in range(0, len(charts), 2)]


def _setpoints(charts: Sequence[Json]) -> list[Block]:
    if not charts:
        return []
    note = "The pale band is what the site file allows. The units of a zone share a chart."
    return [Heading("Setpoints within what is allowed"), Text(note), *_pairs(charts)]


def _done(r: Json) -> list[Block]:
    a = r["actions"]
    made: list[Block] = [Heading("What Skadi did")]
    if not a["moves"]:
        return [*made, Text("Nothing was done or refused in this time.")]
    saved = r["saving"]["by_move"]
    rows = tuple(
        (f"{m['loop']}: {m['move']}", str(m["made"]), str(m["incomplete"]), str(m["undone"]), str(m["refused"]),
         number(m["judged_predicted_kw"] if m["judged"] else None, 1, True), number(m["realised_kw"], 1, True),
         number(saved.get(m["move"]) if m["loop"] == "slow" else None, 1),
         number(m["inlet_expected_k"], 2, True), number(m["inlet_measured_k"], 2, True))
        for m in a["moves"]
    )  # fmt: skip
    head = ("move", ">made", ">failed", ">undone", ">refused", ">expected kW", ">realised kW",
            ">saved kWh", ">inlet exp. K", ">inlet meas. K")  # fmt: skip
    made += [
        Table(head, rows, (21, 7, 9, 9, 9, 11, 10, 9, 8, 9)),
        Text("Expected and realised power are of the moves that were judged, added up: what each promised, and what the"
             " hall's model says of it since it settled. Saved is realised power times the time it was held. Inlets are means."),
    ]  # fmt: skip
    for name, what in (("Refused by", a["refused_by"]), ("Given back because", a["given_back"])):
        if what:
            made.append(Text(f"{name}: {'; '.join(f'{why} ({n})' for why, n in what.items())}."))
    return made


def _timeline(r: Json) -> list[Block]:
    acts = r["timeline"]
    if not acts:
        return []
    # The fast loop's acts are few and matter most; of the others the last.
    first = [a for a in acts if a["loop"] != "slow"][:MOST_ROWS]
    rest = [a for a in acts if a["loop"] == "slow"][-max(0, MOST_ROWS - len(first)) :]
    shown = sorted([*first, *(rest if len(first) < MOST_ROWS else [])], key=lambda a: str(a["ts"]))
    rows = tuple(
        (_when(a["ts"], 5), f"{a['loop']}: {a['move']}", a["scope"] or "", _cut((a["reason"] or "").split(", expected")[0], 90),
         number(a["predicted_kw"] or None, 2, True), number(a["realised_kw"], 2, True), _cut(a["outcome"], 40) or NOTHING)
        for a in shown
    )  # fmt: skip
    left = (
        f"{len(shown)} of {len(acts)} acts; all are in the JSON and in skadi log."
        if len(acts) > len(shown)
        else ""
    )
    return [Heading("Act by act"),
            Table(("UTC", "move", "where", "why", ">expected kW", ">realised kW", "outcome"), rows, (11, 15, 13, 31, 10, 9, 11)),
            *([Text(left)] if left else [])]  # fmt: skip


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _alarms(r: Json) -> list[Block]:
    a = r["alarms"]
    if not a["raised"]:
        return [Heading("Alarms"), Text("None was raised.")]
    by = ", ".join(f"{n} {severity}" for severity, n in a["by_severity"].items() if n)
    worst = sorted(a["list"], key=lambda x: (not x["called"], str(x["since"])))[:MOST_ROWS]
    rows = tuple((_when(x["since"], 5), x["severity"] or "", x["text"] or "", x["advice"] or "",
                  _when(x["until"], 5) if x["until"] else "stands") for x in worst)  # fmt: skip
    return [Heading("Alarms"),
            Text(f"{a['raised']} raised ({by}), {a['called']} of them called; at most {a['most_in_10_min']} in ten minutes.", soft=False),
            Table(("since (UTC)", "severity", "what", "advice", "until"), rows, (13, 10, 35, 30, 12))]  # fmt: skip


def _audit(r: Json) -> list[Block]:
    a = r["audit"]
    if a["chain"] is None:
        return [Heading("Audit"), Text(a["why"])]
    chain = (
        "Its hash chain is whole."
        if a["chain"] == "whole"
        else f"ITS HASH CHAIN IS BROKEN: {a['why']}."
    )
    kinds = ", ".join(f"{n} {kind}" for kind, n in a["by_kind"].items())
    made: list[Block] = [Heading("Audit"), Text(f"The journal holds {a['entries']} entries of this time ({kinds or 'none'}). {chain}", soft=False)]  # fmt: skip
    if a["people"]:
        rows = tuple((_when(p["ts"], 5), p["kind"], str(p.get("operation") or p.get("change") or ""),
                      str(p.get("role") or ""), str(p.get("channel") or ""), _cut(str(p.get("reason") or p.get("result") or ""), 60))
                     for p in a["people"][:MOST_ROWS])  # fmt: skip
        made.append(
            Table(
                ("UTC", "entry", "what", "role", "by", "why or result"),
                rows,
                (13, 15, 18, 12, 12, 30),
            )
        )
    return made


def _rests(r: Json) -> list[Block]:
    rows = tuple(("IT" if name == "it" else name, t["source"], f"{number(t['known_pct'], 1)} %", number(t["kwh"], 1))
                 for name, t in r["energy"]["terms"].items())  # fmt: skip
    outdoor = r["kpi"]["outdoor_c"]["value"]
    note = (f"Interval: {r['energy']['interval']}; it is the scatter of the hours, not the accuracy of the"
            f" meters. Steps of {number(r['step_s'], 0)} s.")  # fmt: skip
    note += f" Outdoor air {number(outdoor, 1)} degC on average." if outdoor is not None else ""
    made: list[Block] = [
        Heading("What this rests on"),
        Table(("term", "source", ">known", ">kWh"), rows),
        Text(note),
    ]
    if r["gaps"]:
        lost = "; ".join(f"{g['dropped']} of {g['stream']} between {_when(g['since'], 5)} and {_when(g['until'], 5)}" for g in r["gaps"])  # fmt: skip
        made.append(Text(f"Rows lost while the database was away: {lost}."))
    return made
