"""Serves a recording (`OID|tag|value` lines, as snmpsim's .snmprec) with the tests' own BER."""

from bisect import bisect_right
from dataclasses import dataclass, field
from pathlib import Path

from tests.drivers.snmp_peer import Agent, Request, num, oid_body, reply, tlv


def load(path: Path) -> dict[str, bytes]:
    """OID -> encoded value of every plain line."""
    found: dict[str, bytes] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        oid, tag, value = (*line.split("|", 2), "", "")[:3]
        if encoded := encode(tag.partition(":")[0], value):
            found[oid] = encoded
    return found


def encode(tag: str, value: str) -> bytes:
    """The BER of one recorded value; b"" for what is none."""
    match tag:
        case "2":
            return num(int(value))
        case "4":
            return tlv(4, value.encode())
        case "4x":
            return tlv(4, bytes.fromhex(value))
        case "6":
            return tlv(6, oid_body(value.lstrip(".")))
        case "64":
            return tlv(0x40, bytes(map(int, value.split("."))))
        case "65" | "66" | "67" | "70":
            return tlv(int(tag) - 64 + 0x40, num(int(value))[2:])
        case _:
            return b""


def arcs(oid: str) -> tuple[int, ...]:
    return tuple(map(int, oid.split(".")))


@dataclass
class Recording(Agent):
    """An agent over a recording, quick enough for ten thousand lines."""

    order: list[tuple[tuple[int, ...], str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.order = sorted((arcs(o), o) for o in self.values)

    def proper(self, request: Request) -> list[bytes]:
        if request.kind not in (0xA1, 0xA5):
            return [reply(request, self.held(request))]
        at = bisect_right(self.order, (arcs(request.oids[0]), "~"))
        count = request.second if request.kind == 0xA5 else 1
        binds = [(o, self.values[o]) for _, o in self.order[at : at + count]]
        return [reply(request, binds or [(request.oids[0], tlv(0x82, b""))])]
