"""Draws what a View knows: heat map, figures, rows, actions and devices in a terminal.

Decides how things look, nothing else. Where there is no terminal the same is said in plain
lines: each action as it happens, and the figures now and then.
"""

import re
from dataclasses import dataclass

from rich.color import Color
from rich.console import Console, Group, RenderableType
from rich.layout import Layout
from rich.panel import Panel
from rich.style import Style
from rich.table import Table
from rich.text import Text

from agent.screen.view import Line, RowSeen, View, printable

WIDE = 120  # columns from which the figures stand beside the heat map
TALL = 36  # lines from which there is a panel for them otherwise
_FIGURES = 48  # columns the figures want then
_WITH_BAR, _WITH_GAPS = 91, 80  # columns inside the heat map's frame
# Inlet temperature -> colour, interpolated. ASHRAE TC9.9 recommends 18 to 27 degC.
_SCALE = (
    (14.0, (38, 70, 140)), (18.0, (46, 111, 175)), (21.0, (62, 150, 150)), (24.0, (106, 165, 80)),
    (26.0, (222, 180, 50)), (27.0, (230, 126, 34)), (28.0, (200, 40, 40)), (32.0, (140, 0, 40)),
)  # fmt: skip
_STATES = {"nominal": "green", "transient": "yellow", "persistent": "bold red", "unknown": "dim"}
_MARKS = {"action": ("✔", "green"), "refused": ("✖", "red"), "ending": ("↩", "cyan"),
          "mms": ("▲", "yellow"), "event": ("•", "bold")}  # fmt: skip
_BAR = 10


@dataclass(frozen=True, slots=True)
class Frame:
    """What a screen is told beside the View: titles, limits, and what it is compared with."""

    title: str
    baseline_wh: float | None = None  # Wh/prompt of the same hall without Skadi
    inlet_max_c: float = 28.0
    latency_max_ms: float = 250.0
    rack_max_kw: float = 12.0
    footer: str = ""


def draw(view: View, frame: Frame, width: int, height: int) -> RenderableType:
    """The whole screen for a terminal of `width` × `height` characters."""
    rows = max(len(view.rows), len(set(view.rack_row.values())), 1) + len(view.hall)
    room = width - 4 - (_FIGURES if width >= WIDE else 0)
    heat = Panel(
        _heat_map(view, room), title="inlet °C by rack, D(x) and MMS by row", padding=(0, 1)
    )
    figures = Panel(_figures(view, frame), title="energy", padding=(0, 1))
    top = Layout(size=max(rows + 3, 13))
    if width >= WIDE:
        top.split_row(Layout(heat), Layout(figures, size=_FIGURES))
    elif height >= TALL:
        top.split_column(Layout(heat, size=rows + 3), Layout(figures, size=13))
        top.size = rows + 16
    else:
        top.split_column(Layout(heat, size=rows + 3), Layout(Text(plain(view, frame)), size=3))
        top.size = rows + 6
    tall = top.size or 0
    devices = _devices(view, height < TALL)
    below = 3 + len(devices.plain) // max(width - 4, 20)
    lines = max(height - tall - below - 2 - 1, 3)
    whole = Layout()
    whole.split_column(
        Layout(_head(view, frame), size=1), top,
        Layout(Panel(_lines(view, lines), title="what happens, and why", padding=(0, 1))),
        Layout(Panel(devices, title=_alive(view), padding=(0, 1)), size=below),
    )  # fmt: skip
    return whole


def plain(view: View, frame: Frame) -> str:
    """The figures as one line."""
    k = view.kpi
    base = f", without Skadi {_format(frame.baseline_wh, 3)}" if frame.baseline_wh else ""
    parts = [
        f"{view.ts[11:19]}Z", f"{_format(k.get('wh_per_prompt'), 3)} Wh/prompt",
        f"(mean {_format(k.get('wh_per_prompt_mean'), 3)}{base})",
        f"PUE {_format(k.get('pue'), 3)}", f"inlet <= {_format(k.get('worst_inlet_c'), 1)} degC",
        f"p95 <= {_format(k.get('worst_latency_p95_ms'), 0)} ms",
        f"writes {view.counts.get('writes', 0)}", _alive(view),
    ]  # fmt: skip
    return "  ".join(parts)


def plain_line(line: Line) -> str:
    """Something that happened, as one line."""
    why = f"  [{line.detail}]" if line.detail else ""
    return f"{line.ts[11:19]}Z  {line.kind:8} {line.text}{why}"


def _head(view: View, frame: Frame) -> Text:
    state = {None: ("connecting", "dim"), True: ("online", "green"), False: ("OFFLINE", "bold red")}
    word, style = state[view.online]
    head = Text(f" {frame.title}  ", style="bold")
    head.append(view.ts[:19].replace("T", " ") + " UTC  " if view.ts else "")
    head.append(f"agent {word}", style=style)
    armed = f", armed: {', '.join(view.armed)}" if view.armed else ""
    head.append(f"  {view.mode}{armed}{'  KILLED' if view.killed else ''}")
    head.append(f"  {frame.footer}", style="dim")
    head.truncate(400)
    return head


def _heat_map(view: View, room: int) -> Table:
    cell, bar = (5 if room >= _WITH_GAPS else 4), room >= _WITH_BAR
    by_row: dict[str, list[str]] = {row: [] for row in view.rows}
    for rack, row in view.rack_row.items():
        by_row.setdefault(row, []).append(rack)
    columns = max((len(r) for r in by_row.values()), default=0)
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_row("", Text("".join(f"{i + 1:^{cell}}" for i in range(columns)), style="dim"),
                  Text("D(x)", style="dim"), *[""] * bar, Text("MMS", style="dim"))  # fmt: skip
    for row in sorted(by_row):
        cells = Text(no_wrap=True)
        for rack in sorted(by_row[row]):
            value = view.inlets.get(rack)
            said = "-" if value is None else f"{value:.{1 if cell > 4 else 0}f}"
            cells.append(f"{said:^{cell}}", style=_colour(value))
        number, level, state = _monitor(view.rows.get(row, RowSeen()))
        table.add_row(Text(row, style="bold"), cells, number, *[level] * bar, state)
    for seen in view.hall.values():
        number, level, state = _monitor(seen)
        table.add_row("", Text("the hall", style="dim"), number, *[level] * bar, state)
    return table


def _monitor(row: RowSeen) -> tuple[Text, Text, Text]:
    style = _STATES.get(row.state, "dim")
    number = Text(f"{row.ema:5.1f}" if row.ema is not None else "    -", style=style)
    bar = Text("·" * _BAR, style="dim")
    if row.ema is not None and row.tau_persist:
        # The bar is full at twice tau_persist.
        full = min(_BAR, round(_BAR * row.ema / (2.0 * row.tau_persist)))
        bar = Text("█" * full, style=style) + Text("·" * (_BAR - full), style="dim")
    return number, bar, Text(row.state, style=style)


def _figures(view: View, frame: Frame) -> Table:
    k, c = view.kpi, view.counts
    mean, base = k.get("wh_per_prompt_mean"), frame.baseline_wh
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True, min_width=20)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(style="dim", no_wrap=True)
    saved = 100.0 * (1.0 - mean / base) if mean is not None and base else None
    for name, value, note in (
        ("Wh/prompt now", _format(k.get("wh_per_prompt"), 3), ""),
        ("Wh/prompt mean", _format(mean, 3), "" if saved is None else f"{-saved:+.1f} %"),
        *([("without Skadi", _format(base, 3), "same arrivals")] if base else []),
        ("PUE", _format(k.get("pue"), 3), ""),
        ("IT", _format(k.get("it_kw"), 0), "kW"),
        ("cooling", _format(k.get("cooling_kw"), 0), "kW"),
        ("prompts", _format(k.get("prompts_ps"), 0), "1/s"),
        ("worst inlet", _format(k.get("worst_inlet_c"), 1), f"of {frame.inlet_max_c:g} °C"),
        ("worst p95", _format(k.get("worst_latency_p95_ms"), 0), f"of {frame.latency_max_ms:g} ms"),
        ("worst rack", _format(k.get("worst_rack_kw"), 1), f"of {frame.rack_max_kw:g} kW"),
        ("written, read back", f"{c.get('writes', 0)}, {c.get('confirmed', 0)}",
         f"{c.get('rollbacks', 0)} undone"),
    ):  # fmt: skip
        table.add_row(name, Text(value, style="bold"), note)
    return table


def _lines(view: View, most: int) -> Group:
    alarms = [
        Text(f"⚠ {printable(text)}", style="bold red", no_wrap=True, overflow="ellipsis")
        for text in view.alarms[: max(most // 2, 1)]
    ]
    shown = list(view.lines)[len(alarms) - most :]
    return Group(*alarms, *(_line(line) for line in shown))


def _line(line: Line) -> Text:
    mark, style = _MARKS.get(line.kind, ("•", ""))
    text = Text(f"{line.ts[11:19]} ", style="dim", no_wrap=True, overflow="ellipsis")
    text.append(f"{mark} ", style=style)
    text.append(line.text)
    if line.detail:
        text.append(f"  {line.detail}", style="dim")
    return text


def _devices(view: View, silent_only: bool) -> Text:
    """The devices by name; where there is little room, only those that do not answer."""
    text = Text()
    for device in sorted(view.devices):
        alive = view.devices[device]
        if alive and silent_only:
            continue
        text.append(device, style="green" if alive else "bold red reverse")
        text.append(" ")
    return text


def _alive(view: View) -> str:
    return f"{sum(view.devices.values())} of {len(view.devices)} devices answer"


def _colour(value: float | None) -> Style:
    if value is None:
        return Style(dim=True)
    (low, first), *rest = _SCALE
    red, green, blue = first
    for high, colour in rest:
        if value <= low:
            break
        share = min(1.0, (value - low) / (high - low))
        red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, colour, strict=True))
        low, first = high, colour
    # True colours: what a theme calls black is a grey that can't be read on green.
    ink = 0 if 0.3 * red + 0.59 * green + 0.11 * blue > 120 else 255
    return Style(color=Color.from_rgb(ink, ink, ink), bgcolor=Color.from_rgb(red, green, blue))


def _format(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def picture(console: Console, title: str) -> str:
    """What a recording console has shown, as an SVG without the remote fonts rich puts in."""
    svg = re.sub(r"<!--.*?-->", "", console.export_svg(title=title), flags=re.DOTALL)
    start, end = svg.find("@font-face"), svg.rfind("@font-face")
    if start >= 0:
        after = svg.index("}", end) + 1
        svg = svg[:start] + svg[after:]
    return svg
