"""What an unknown device might offer: candidates for a person to confirm, never points.

A number in a vendor's own table has no unit and no meaning that Skadi knows, so it is shown
as a comment with the words the device puts beside it. Nothing is derived from the numbers.
"""

from agent.scan.snmp import Walker
from agent.scan.tables import Rows
from config.addressing import parse_oid
from drivers.snmp import number_in, text_of
from drivers.snmp_ber import Oid

HOST_RESOURCES = {
    "1.3.6.1.2.1.25.3.3.1.2": "hrProcessorLoad, %",
    "1.3.6.1.2.1.25.2.2": "hrMemorySize, KiB",
    "1.3.6.1.2.1.25.1.6": "hrSystemProcesses",
}
ENTERPRISES = "1.3.6.1.4.1"
MAX_ROWS = 1_500
MAX_LINES = 80


async def candidates(walker: Walker, object_id: str) -> list[str]:
    """Lines that show numbers of the device's own tables and of HOST-RESOURCES-MIB."""
    lines: list[str] = []
    for column, words in HOST_RESOURCES.items():
        for index, value in (await walker.column(column, 64)).items():
            number = number_in(value)
            if not isinstance(number, str):
                where = _dotted(parse_oid(column) + index)
                lines.append(f"candidate: {where} = {number:g} ({words})")
    arcs = object_id.split(".")
    own = ".".join(arcs[:7]) if object_id.startswith(ENTERPRISES + ".") else ENTERPRISES
    shown: list[str] = []
    for below in dict.fromkeys((own, ENTERPRISES)):  # many agents bear their software's name
        rows = await walker.column(below, MAX_ROWS)
        shown = [line for index in rows if (line := _line(parse_oid(below), index, rows))]
        if shown:
            break
    lines += shown[:MAX_LINES]
    if len(shown) > MAX_LINES:
        lines.append(f"... and {len(shown) - MAX_LINES} more numbers below {below}")
    return lines


def _line(base: Oid, index: Oid, rows: Rows) -> str:
    """One number with the text the device keeps in the same row; '' for what is no number."""
    number = number_in(rows[index])
    if isinstance(number, str):
        return ""
    beside = _beside(index, rows)
    return f"candidate: {_dotted(base + index)} = {number:g}" + (f" ({beside})" if beside else "")


def _beside(index: Oid, rows: Rows) -> str:
    """Text in another column of the same row, whatever the length of the row's index."""
    for size in (1, 2, 3):
        if len(index) <= size + 1 or index[-1] == 0:  # a scalar stands in no row
            continue
        table, row = index[: -size - 1], index[-size:]
        for column in range(1, 12):
            value = rows.get((*table, column, *row))
            if isinstance(value, bytes) and isinstance(number_in(value), str):
                text = text_of(value)
                if text and text.isprintable():
                    return text[:40]
    return ""


def _dotted(oid: Oid) -> str:
    return ".".join(map(str, oid))
