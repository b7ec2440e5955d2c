"""A report as PDF: the same blocks as the page, on A4. Made by ReportLab; needs no browser.

The fonts are PDF's own; a sign that they lack is shown as "?".
"""

from io import BytesIO
from typing import Any
from xml.sax.saxutils import escape

from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.platypus import (
    CondPageBreak,
    Flowable,
    Paragraph,
    SimpleDocTemplate,
    Spacer,
)
from reportlab.platypus import Table as Grid

from agent.reports.draw import GRID, INK, SOFT, Shape, draw, legend
from agent.reports.page import Block, Cards, Charts, Heading, Heat, Table, Text, Title, page

MARGIN = 16 * mm
WIDTH = A4[0] - 2 * MARGIN - 12.0  # a frame keeps 6 points free on each side
HEIGHT = 132.0  # of a chart over the page; two beside each other are lower
ACCENT = "#0b6e99"
ROOM = 170.0  # what must be left of a page to begin a section on it
ALONE = ("power", "rehearsal")  # charts that take the whole width
SIGNS = str.maketrans(
    {"≤": "<=", "≥": ">=", "→": "->", "…": "...", "\u2009": "\u00a0", "\u200b": ""}
)


def _style(
    name: str, size: float, colour: str = INK, bold: bool = False, **more: Any
) -> ParagraphStyle:
    font = "Helvetica-Bold" if bold else "Helvetica"
    return ParagraphStyle(name, fontName=font, fontSize=size, leading=size * 1.32,
                          textColor=HexColor(colour), **more)  # fmt: skip


TITLE = _style("title", 20, bold=True, spaceAfter=2)
SUB = _style("sub", 9.5, SOFT, spaceAfter=8)
HEADING = _style("heading", 12.5, bold=True, spaceBefore=13, spaceAfter=5)
BODY = _style("body", 9, spaceAfter=4)
NOTE = _style("note", 8, SOFT, spaceBefore=3, spaceAfter=4)
CELL, CELL_N = _style("cell", 7.6), _style("cell-n", 7.6, alignment=2)
HEAD, HEAD_N = (
    _style("head", 7.4, SOFT, bold=True),
    _style("head-n", 7.4, SOFT, bold=True, alignment=2),
)
BIG, SMALL = _style("big", 16, bold=True), _style("small", 7.6, SOFT)
CAPTION = _style("caption", 8.2, SOFT, bold=True)


def render_pdf(report: dict[str, Any]) -> bytes:
    """The file."""
    return pdf_of(page(report))


def pdf_of(blocks: list[Block]) -> bytes:
    """Blocks as a file."""
    title = next((b.text for b in blocks if isinstance(b, Title)), "Skadi")
    story: list[Any] = []
    for block in blocks:
        flowables = _flowables(block)
        if story and isinstance(story[-1], _Open):  # a heading stays with what it heads
            flowables = [CondPageBreak(ROOM), story.pop().heading, *flowables]
        story += flowables
    out = BytesIO()

    def foot(canvas: Any, document: Any) -> None:
        canvas.setFont("Helvetica", 7.5)
        canvas.setFillColor(HexColor(SOFT))
        canvas.drawString(MARGIN + 6, 9 * mm, _plain(f"Skadi report: {title}"))
        canvas.drawRightString(A4[0] - MARGIN - 6, 9 * mm, str(document.page))

    SimpleDocTemplate(
        out, pagesize=A4, leftMargin=MARGIN, rightMargin=MARGIN, topMargin=15 * mm, bottomMargin=17 * mm,
        title=_plain(f"Skadi report: {title}"), author="Skadi",
    ).build(story, onFirstPage=foot, onLaterPages=foot)  # fmt: skip
    return out.getvalue()


class _Open(Flowable):  # type: ignore[misc]
    """A heading that waits for what it heads."""

    def __init__(self, heading: Paragraph) -> None:
        super().__init__()
        self.heading = heading


def _flowables(block: Block) -> list[Any]:
    match block:
        case Title():
            return [_Rule(), Paragraph(_text(block.text), TITLE), Paragraph(_text(block.sub), SUB)]
        case Heading():
            return [_Open(Paragraph(_text(block.text), HEADING))]
        case Text():
            return [Paragraph(_text(block.text), NOTE if block.soft else BODY)]
        case Cards():
            return [_cards(block), Spacer(1, 12)]
        case Table():
            return [_table(block)]
        case Heat():
            return [_heat(block)]
        case Charts():
            return [_charts(block), Spacer(1, 4)]


def _plain(text: str) -> str:
    """What PDF's own fonts can show."""
    return text.translate(SIGNS).encode("cp1252", "replace").decode("cp1252")


def _text(text: str) -> str:
    return escape(_plain(text))


def _cards(block: Cards) -> Grid:
    soft = f'<font name="Helvetica" size="8.5" color="{SOFT}">'
    cells = [
        [Paragraph(f"{_text(value)} {soft}{_text(unit)}</font>", BIG), Spacer(1, 3), Paragraph(_text(what), SMALL)]
        for value, unit, what in block.cards
    ]  # fmt: skip
    rows = [cells[i : i + 3] for i in range(0, len(cells), 3)]
    rows[-1] += [""] * (3 - len(rows[-1]))  # type: ignore[list-item]
    box = [
        ("BOX", (c, r), (c, r), 0.6, HexColor("#dfe5ea"))
        for r in range(len(rows))
        for c in range(3)
    ]
    pad = [(f"{side}PADDING", (0, 0), (-1, -1), 7) for side in ("LEFT", "TOP", "BOTTOM")]
    return Grid(
        rows, colWidths=[WIDTH / 3] * 3, style=[*box, *pad, ("VALIGN", (0, 0), (-1, -1), "TOP")]
    )


def _table(block: Table) -> Grid:
    right = [h.startswith(">") for h in block.head]
    shares = block.widths or (1.0,) * len(right)
    head = [
        Paragraph(_text(h.lstrip(">")), HEAD_N if n else HEAD)
        for h, n in zip(block.head, right, strict=True)
    ]
    rows = [
        [Paragraph(_text(c), CELL_N if n else CELL) for c, n in zip(row, right, strict=True)]
        for row in block.rows
    ]
    return Grid(
        [head, *rows], colWidths=[WIDTH * s / sum(shares) for s in shares], repeatRows=1,
        style=[("LINEBELOW", (0, 0), (-1, -1), 0.5, HexColor(GRID)), ("VALIGN", (0, 0), (-1, -1), "TOP"),
               ("TOPPADDING", (0, 0), (-1, -1), 2.2), ("BOTTOMPADDING", (0, 0), (-1, -1), 2.6),
               ("LEFTPADDING", (0, 0), (-1, -1), 5), ("RIGHTPADDING", (0, 0), (-1, -1), 5),
               ("LEFTPADDING", (0, 0), (0, -1), 0), ("RIGHTPADDING", (-1, 0), (-1, -1), 0)],
    )  # fmt: skip


def _heat(block: Heat) -> "_Sheet":
    """Cells of one size, a row of racks a line."""
    label, height, gap = 24.0, 15.0, 2.0
    most = max(len(racks) for _, racks in block.rows)
    cell = (WIDTH - label) / most
    shapes = []
    for r, (name, racks) in enumerate(block.rows):
        top = r * (height + gap)
        shapes.append(Shape(((0.0, top + 10.5),), fill=SOFT, text=name))
        for c, (_, shown, colour, ink) in enumerate(racks):
            x = label + c * cell
            shapes.append(Shape(((x, top), (x + cell - gap, top + height)), fill=colour))
            shapes.append(
                Shape(((x + (cell - gap) / 2, top + 10.5),), fill=ink, text=shown, anchor="middle")
            )
    return _Sheet(shapes, WIDTH, len(block.rows) * (height + gap))


def _charts(block: Charts) -> Any:
    gap = 12.0
    columns = 1 if block.charts[0]["id"] in ALONE else 2
    width = WIDTH if columns == 1 else (WIDTH - gap) / 2
    cells = [
        [_caption(c), _sheet(c, width, HEIGHT if columns == 1 else HEIGHT * 0.86), _legend(c)]
        for c in block.charts
    ]
    cells += [[""]] * (columns - len(cells))
    return Grid([cells], colWidths=[width + (gap / 2 if columns == 2 else 0)] * columns,
                style=[("LEFTPADDING", (0, 0), (-1, -1), 0), ("RIGHTPADDING", (0, 0), (-1, -1), 0),
                       ("TOPPADDING", (0, 0), (-1, -1), 2), ("BOTTOMPADDING", (0, 0), (-1, -1), 2),
                       ("VALIGN", (0, 0), (-1, -1), "TOP")])  # fmt: skip


def _caption(chart: dict[str, Any]) -> Paragraph:
    return Paragraph(_text(f"{chart['title']}, {chart['y']['unit']}"), CAPTION)


def _sheet(chart: dict[str, Any], width: float, height: float) -> Any:
    shapes = draw(chart, width, height)
    return (
        _Sheet(shapes, width, height)
        if shapes
        else Paragraph("no reading of it in this time", NOTE)
    )


def _legend(chart: dict[str, Any]) -> Paragraph:
    names = "&nbsp;&nbsp;&nbsp; ".join(
        f'<font color="{colour}">■</font> {_text(name)}'.replace("■", '<font name="ZapfDingbats">n</font>')
        for name, colour in legend(chart)
    )  # fmt: skip
    return Paragraph(names, ParagraphStyle("legend", parent=SMALL, leftIndent=40))


class _Rule(Flowable):  # type: ignore[misc]
    """The line above the title."""

    def wrap(self, *_: float) -> tuple[float, float]:
        return WIDTH, 10.0

    def draw(self) -> None:
        self.canv.setFillColor(HexColor(ACCENT))
        self.canv.rect(0, 7.0, WIDTH, 2.6, stroke=0, fill=1)


class _Sheet(Flowable):  # type: ignore[misc]
    """Shapes on a page. PDF counts upwards, shapes count downwards."""

    def __init__(self, shapes: list[Shape], width: float, height: float) -> None:
        super().__init__()
        self._shapes, self.width, self.height = shapes, width, height

    def wrap(self, *_: float) -> tuple[float, float]:
        return self.width, self.height

    def draw(self) -> None:
        canvas = self.canv
        canvas.setLineCap(1)
        canvas.setLineJoin(1)
        for s in self._shapes:
            points = [(x, self.height - y) for x, y in s.points]
            if s.text:
                canvas.setFont("Helvetica", 7)
                canvas.setFillColor(HexColor(s.fill))
                {
                    "start": canvas.drawString,
                    "middle": canvas.drawCentredString,
                    "end": canvas.drawRightString,
                }[s.anchor](*points[0], _plain(s.text))
            elif s.fill:
                (x, y), (right, bottom) = points
                canvas.setFillColor(HexColor(s.fill))
                canvas.rect(x, bottom, right - x, y - bottom, stroke=0, fill=1)
            else:
                canvas.setStrokeColor(HexColor(s.stroke))
                canvas.setLineWidth(s.width * 0.8)
                canvas.setDash(*((4, 3),) if s.dash else ())
                path = canvas.beginPath()
                path.moveTo(*points[0])
                for point in points[1:]:
                    path.lineTo(*point)
                canvas.drawPath(path, stroke=1, fill=0)
