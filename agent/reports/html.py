"""A report as one HTML file that opens without a network: styles, charts and numbers inside.

Everything that came from outside is escaped, by Jinja or here in the SVG. No script.
"""

from html import escape
from importlib.resources import files
from typing import Any

from jinja2 import Environment, select_autoescape
from markupsafe import Markup

from agent.reports.draw import Shape, draw, legend
from agent.reports.page import Block, page

WIDE, NARROW, HEIGHT = (900.0, 440.0, 200.0)


def render(report: dict[str, Any]) -> str:
    """The page."""
    return render_blocks(page(report))


def render_blocks(blocks: list[Block]) -> str:
    """Blocks as a page."""
    environment = Environment(
        autoescape=select_autoescape(default=True), trim_blocks=True, lstrip_blocks=True
    )
    environment.globals |= {"svg": svg, "legend": legend}
    environment.tests |= {"block": lambda value, name: type(value).__name__ == name}
    template = environment.from_string(
        files("agent.reports").joinpath("report.html.j2").read_text("utf-8")
    )
    return template.render(blocks=blocks)


def svg(chart: dict[str, Any], many: int = 1) -> Markup:
    """A chart as an <svg> element; a sentence where nothing is known."""
    width = WIDE if many == 1 else NARROW
    shapes = draw(chart, width, HEIGHT)
    if not shapes:
        return Markup('<p class="none">no reading of it in this time</p>')
    title = escape(f"{chart['title']} in {chart['y']['unit']}")
    parts = "".join(map(_element, shapes))
    head = f'<svg viewBox="0 0 {width:g} {HEIGHT:g}" role="img" aria-label="{title}">'
    return Markup(f"{head}{parts}</svg>")  # made, and escaped, by us


def _element(shape: Shape) -> str:
    (x, y), tip = shape.points[0], f"<title>{escape(shape.tip)}</title>" if shape.tip else ""
    if shape.text:
        return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{shape.anchor}" fill="{shape.fill}">'
                f"{escape(shape.text)}</text>")  # fmt: skip
    if shape.fill:
        right, bottom = shape.points[1]
        size = f'width="{right - x:.1f}" height="{bottom - y:.1f}"'
        return f'<rect x="{x:.1f}" y="{y:.1f}" {size} fill="{shape.fill}">{tip}</rect>'
    path = f"M{x:.1f} {y:.1f}" + "".join(f"L{a:.1f} {b:.1f}" for a, b in shape.points[1:])
    dash = ' stroke-dasharray="5 4"' if shape.dash else ""
    line = f'fill="none" stroke="{shape.stroke}" stroke-width="{shape.width:g}"{dash}'
    return f'<path d="{path}" {line} stroke-linecap="round" stroke-linejoin="round">{tip}</path>'
