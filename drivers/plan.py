"""Plans which Modbus requests read a set of points: pure, made once when a driver is.

Decides how registers are gathered into spans: neighbours share a request as long as the gap
between them, the device's own limit and the registers it must not be asked for allow it. A
value is never torn over two requests: its words would be of different instants. Bits
(coils, discrete inputs) count sixteen to a register in every limit.

It must never ask for a register inside a hole, and never leave an address out.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from config.addresses import ModbusAddress, RegisterKind

BITS = frozenset({"coil", "discrete"})


@dataclass(frozen=True, slots=True)
class Hole:
    """Registers that must not be asked for (the device fails on them), both ends included."""

    kind: RegisterKind
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may span. 125 registers is the protocol's own maximum (FC 3 and 4)."""

    max_registers: int = 125
    max_gap: int = 8
    holes: tuple[Hole, ...] = ()


@dataclass(frozen=True, slots=True)
class Span:
    """One request: `count` registers (or bits) from `start`, and the addresses it serves.

    `items` are indexes into the sequence of addresses the plan was made from.
    """

    kind: RegisterKind
    start: int
    count: int
    items: tuple[int, ...]

    @property
    def end(self) -> int:
        """The first register after the span."""
        return self.start + self.count


def plan_reads(addresses: Sequence[ModbusAddress], limits: Limits = Limits()) -> tuple[Span, ...]:
    """Return the spans that read `addresses`, each address in exactly one of them.

    An address wider than max_registers is asked for whole: a torn value is worse than a
    refused one. Raises ValueError when an address lies inside a hole.
    """
    spans: list[Span] = []
    for index in _in_wire_order(addresses, range(len(addresses))):
        address = addresses[index]
        own = Span(address.kind, address.offset, address.words, (index,))
        if hole := _crossed(own, limits.holes):
            raise ValueError(f"{own.kind}:{own.start} lies in the hole {hole.first}-{hole.last}")
        joined = _join(spans[-1], own, limits) if spans else None
        if joined is None:
            spans.append(own)
        else:
            spans[-1] = joined
    return tuple(spans)


def split_span(span: Span, addresses: Sequence[ModbusAddress]) -> tuple[Span, ...]:
    """Return smaller spans for one that the device refused; empty when it can't be smaller.

    First the registers nobody wants are left out (they are the usual reason); a span
    without gaps is halved.
    """
    tight = [
        Span(s.kind, s.start, s.count, tuple(span.items[i] for i in s.items))
        for s in plan_reads([addresses[i] for i in span.items], Limits(max_gap=0))
    ]
    if len(tight) > 1:
        return tuple(tight)
    if len(span.items) < 2:
        return ()
    middle = len(span.items) // 2
    return tuple(_cover(half, addresses) for half in (span.items[:middle], span.items[middle:]))


def _in_wire_order(addresses: Sequence[ModbusAddress], indexes: Iterable[int]) -> list[int]:
    return sorted(indexes, key=lambda i: (addresses[i].kind, addresses[i].offset, i))


def _cover(items: tuple[int, ...], addresses: Sequence[ModbusAddress]) -> Span:
    """The smallest span over `items`, which are of one kind and in wire order."""
    start = addresses[items[0]].offset
    end = max(addresses[i].offset + addresses[i].words for i in items)
    return Span(addresses[items[0]].kind, start, end - start, items)


def _join(left: Span, right: Span, limits: Limits) -> Span | None:
    """One span over both, or None where a limit forbids it."""
    if left.kind != right.kind:
        return None
    size = 16 if left.kind in BITS else 1
    if right.start - left.end > limits.max_gap * size:
        return None
    count = max(left.end, right.end) - left.start
    joined = Span(left.kind, left.start, count, left.items + right.items)
    if count > limits.max_registers * size or _crossed(joined, limits.holes):
        return None
    return joined


def _crossed(span: Span, holes: tuple[Hole, ...]) -> Hole | None:
    for hole in holes:
        if hole.kind == span.kind and hole.first < span.end and hole.last >= span.start:
            return hole
    return None
