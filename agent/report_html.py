"""A report as one HTML file that opens without a network: styles, charts and numbers inside.

Decides how it reads: the answer first, then what it rests on, then what was done. Everything that
came from outside is escaped by Jinja; the SVG is made here and escapes its own text.
"""

from importlib.resources import files
from typing import Any

from jinja2 import Environment, select_autoescape
from markupsafe import Markup

from agent.report_svg import NARROW, heat_colour, line_chart

COOL_C, HOT_C = 18.0, 28.0  # the ends of the heat map's colours: ASHRAE's 18 degC, the limit


def render(report: dict[str, Any]) -> str:
    """The page."""
    environment = Environment(
        autoescape=select_autoescape(default=True), trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"num": _number, "signed": _signed}
    template = environment.from_string(files("agent").joinpath("report.html.j2").read_text("utf-8"))
    hall = [c for c in report["charts"] if not c["id"].startswith("setpoint:")]
    setpoints = [c for c in report["charts"] if c["id"].startswith("setpoint:")]
    drawn = {c["id"]: line_chart(c) for c in hall}
    drawn |= {c["id"]: line_chart(c, NARROW) for c in setpoints}
    charts = {name: Markup(svg) for name, svg in drawn.items()}  # made, and escaped, by us
    return template.render(
        r=report, charts=charts, hall=hall, setpoints=setpoints, rows=_rows(report)
    )


def _rows(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Racks by row, each with its colour."""
    hottest = max([HOT_C, *(e["max"] for e in report["compliance"] if e["unit"] == "degC")])
    rows: dict[str, list[dict[str, Any]]] = {}
    for rack in report["racks"]:
        top = rack["inlet_max_c"]
        share = None if top is None else (top - COOL_C) / (hottest - COOL_C)
        ink = "#fff" if share is not None and (share < 0.15 or share > 0.85) else "#222"
        rows.setdefault(rack["row"] or "-", []).append(
            rack | {"colour": heat_colour(share), "ink": ink}
        )
    return [{"row": name, "racks": racks} for name, racks in sorted(rows.items())]


def _number(value: float | None, digits: int = 2) -> str:
    """A number with thin spaces between thousands, or a dash."""
    return "–" if value is None else f"{value:,.{digits}f}".replace(",", "\u2009")


def _signed(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:+.{digits}f}"
