"""What a row PDU shows by SNMP: the system group and APC's rPDU2 tables, sorted.

Twelve rack PDUs of a row answer as modules 1..12 of one group, as APC's network port
sharing does. Temperature sensors 1..12 stand at the inlets, 13..24 at the outlets. Columns
after PowerNet-MIB (rPDU2DeviceStatusTable 26.4.3, rPDU2PhaseStatusTable 26.6.3,
rPDU2SensorTempHumidityStatusTable 26.10.2.2).
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass

from simulators.hall.layout import RACK_INDEX, RACKS_PER_ROW
from simulators.site import RPDU2, Oid, SiteDevice
from simulators.world import World

Value = int | str | tuple[int, ...]
APC_RPDU2_OBJECT = "1.3.6.1.4.1.318.1.3.4.6"
_VOLTS = 230
_STARTED_KWH = 12_000.0  # what the meters had counted before the simulation


def oid(text: str) -> tuple[int, ...]:
    """Return an OID as numbers."""
    return tuple(map(int, text.split(".")))


@dataclass(frozen=True, slots=True)
class Entry:
    """One instance: its OID, SNMP type ("int", "str", "oid", "ticks") and how to get its value."""

    oid: tuple[int, ...]
    type: str
    get: Callable[[], Value]


def _fixed(value: Value) -> Callable[[], Value]:
    return lambda: value


class Mib:
    """The instances of one row PDU, sorted by OID."""

    def __init__(self, device: SiteDevice, world: World) -> None:
        self._world = world
        self._racks = [p.rack for p in device.points if p.rack and p.quantity == "pdu_kw"]
        points = {p.wire.text: p for p in device.points if isinstance(p.wire, Oid)}
        self._entries: dict[tuple[int, ...], Entry] = {}
        self._system(device)
        for n in range(1, RACKS_PER_ROW + 1):
            self._module(device, n)
        for n in range(1, 2 * RACKS_PER_ROW + 1):
            self._probe(device, n)
        for text, point in points.items():
            wire = point.wire
            assert isinstance(wire, Oid)
            self._put(text, "int", self._scaled(point.id, wire.scale))
        self.oids = sorted(self._entries)
        self.entries = [self._entries[o] for o in self.oids]

    def exact(self, name: tuple[int, ...]) -> Entry | None:
        """Return the instance with this OID."""
        place = bisect_left(self.oids, name)
        found = place < len(self.oids) and self.oids[place] == name
        return self.entries[place] if found else None

    def after(self, name: tuple[int, ...]) -> Entry | None:
        """Return the first instance beyond this OID."""
        place = bisect_right(self.oids, name)
        return self.entries[place] if place < len(self.entries) else None

    def _put(self, text: str, kind: str, get: Callable[[], Value]) -> None:
        self._entries[oid(text)] = Entry(oid(text), kind, get)

    def _scaled(self, point: str, scale: float) -> Callable[[], Value]:
        def get() -> Value:
            value = self._world.value(point)
            return -1 if value is None else round(value / scale)  # -1: APC's "not supported"

        return get

    def _system(self, device: SiteDevice) -> None:
        self._put("1.3.6.1.2.1.1.1.0", "str", _fixed(
            "APC Web/SNMP Management Card (MB:v4.1.0 PF:v6.8.2 PN:apc_hw05_aos_682.bin"
            " AF1:v6.8.0 AN1:apc_hw05_rpdu2g_680.bin MN:AP8853 HR:02 SN: SIM0000001)"
        ))  # fmt: skip
        self._put("1.3.6.1.2.1.1.2.0", "oid", _fixed(oid(APC_RPDU2_OBJECT)))
        self._put("1.3.6.1.2.1.1.3.0", "ticks", lambda: int(self._world.hall.now_s * 100) % 2**32)
        self._put("1.3.6.1.2.1.1.4.0", "str", _fixed("simulated"))
        self._put("1.3.6.1.2.1.1.5.0", "str", _fixed(device.id))
        self._put("1.3.6.1.2.1.1.6.0", "str", _fixed(f"row {device.row}"))
        self._put("1.3.6.1.2.1.1.7.0", "int", _fixed(72))
        self._put(f"{RPDU2}.4.1.0", "int", _fixed(RACKS_PER_ROW))

    def _module(self, device: SiteDevice, n: int) -> None:
        rack = self._racks[n - 1]
        kw = f"{device.id}/pdu_kw.{rack}"
        energy = RACK_INDEX[rack]

        def kwh() -> Value:
            return round((_STARTED_KWH + float(self._world.hall.energy_kwh[energy])) * 10)

        def amps() -> Value:
            return round((self._world.value(kw) or 0.0) * 1000.0 / (3 * _VOLTS) * 10)

        for column, kind, get in (
            (1, "int", _fixed(n)),
            (2, "int", _fixed(n)),
            (3, "str", _fixed(f"rack {rack}")),
            (4, "int", _fixed(2)),  # load state: normal
            (9, "int", kwh),
            (12, "int", _fixed(1)),
        ):
            self._put(f"{RPDU2}.4.3.1.{column}.{n}", kind, get)
        for phase in range(1, 4):
            i = (n - 1) * 3 + phase
            third = self._scaled(kw, 0.03)  # a third of the rack in 0.01 kW
            for column, get in (
                (1, _fixed(i)), (2, _fixed(n)), (3, _fixed(phase)), (4, _fixed(2)),
                (5, amps), (6, _fixed(_VOLTS)), (7, third),
            ):  # fmt: skip
                self._put(f"{RPDU2}.6.3.1.{column}.{i}", "int", get)

    def _probe(self, device: SiteDevice, n: int) -> None:
        outlet = n > RACKS_PER_ROW
        rack = self._racks[(n - 1) % RACKS_PER_ROW]
        celsius = f"{device.id}/{'outlet_c' if outlet else 'inlet_c'}.{rack}"

        def fahrenheit() -> Value:
            return round(((self._world.value(celsius) or 0.0) * 1.8 + 32.0) * 10)

        def humidity() -> Value:
            return round(self._world.value("bms/humidity_pct") or 0.0)

        for column, kind, get in (
            (1, "int", _fixed(n)),
            (2, "int", _fixed((n - 1) % RACKS_PER_ROW + 1)),
            (3, "str", _fixed(f"{rack} {'outlet' if outlet else 'inlet'}")),
            (4, "int", _fixed(n)),
            (5, "int", _fixed(1 if outlet else 2)),  # temperature only; temperature and humidity
            (6, "int", _fixed(2)),  # communication: fine
            (7, "int", fahrenheit),
            (9, "int", _fixed(4)),  # temperature: normal
            (10, "int", _fixed(-1) if outlet else humidity),
            (11, "int", _fixed(1 if outlet else 4)),
        ):
            self._put(f"{RPDU2}.10.2.2.1.{column}.{n}", kind, get)
