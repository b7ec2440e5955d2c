"""The building management system as a BACnet/IP device, on bacpypes3.

Analog and binary inputs are read only; the chilled-water set point is a commandable analog
value with a 16-slot priority array and a relinquish default. Change-of-value subscriptions
work, because present values follow the hall at every step.
"""

import socket

from bacpypes3.apdu import WritePropertyMultipleRequest, WritePropertyRequest
from bacpypes3.basetypes import BinaryPV, EngineeringUnits, PriorityValue
from bacpypes3.errors import PropertyError, UnrecognizedService
from bacpypes3.ipv4.app import NormalApplication
from bacpypes3.local.analog import AnalogInputObject, AnalogValueObject
from bacpypes3.local.binary import BinaryInputObject
from bacpypes3.local.cmd import Commandable
from bacpypes3.local.device import DeviceObject
from bacpypes3.object import Object
from bacpypes3.pdu import IPv4Address
from bacpypes3.primitivedata import Null, Real

from simulators.devices.base import free_port
from simulators.site import BMS_INSTANCE, BacnetObject, SiteDevice, WirePoint
from simulators.world import World

_UNITS = {
    "degC": "degreesCelsius",
    "kW": "kilowatts",
    "%": "percent",
    "l/s": "litersPerSecond",
    "Pa": "pascals",
    "": "noUnits",
}
_LOWEST = 16


class CommandableValue(Commandable, AnalogValueObject):  # type: ignore[misc]
    """An analog value with a priority array."""


class BmsApplication(NormalApplication):  # type: ignore[misc]
    """Serves the objects; judges writes before the stack applies them."""

    bms: "Bms"

    async def do_WritePropertyMultipleRequest(self, apdu: WritePropertyMultipleRequest) -> None:
        """Not offered: a write names one property."""
        self.bms.world.refuse("bms", "bacnet-ip", "write-property-multiple", "not offered")
        raise UnrecognizedService

    async def do_WritePropertyRequest(self, apdu: WritePropertyRequest) -> None:
        """Refuse inputs and impossible values; apply the rest in the hall."""
        self.bms.judge(apdu, self.get_object_id(apdu.objectIdentifier))
        await super().do_WritePropertyRequest(apdu)
        self.bms.applied(apdu)


class Bms:
    """The BMS's BACnet side. Slots survive stop and start, not a reboot."""

    def __init__(self, device: SiteDevice, world: World) -> None:
        self.device = device
        self.world = world
        self._app: BmsApplication | None = None
        self._points: dict[tuple[str, int], WirePoint] = {}
        for point in device.points:
            assert isinstance(point.wire, BacnetObject)
            self._points[(point.wire.type, point.wire.instance)] = point
        self._inputs: list[tuple[Object, WirePoint]] = []
        self._objects: list[Object] = []
        self._build()
        world.on_tick.append(self.refresh)

    def _build(self) -> None:
        self._inputs, self._objects = [], []
        for (kind, instance), point in self._points.items():
            common = {"objectIdentifier": f"{kind},{instance}", "objectName": point.short}
            if kind == "binary-input":
                made = BinaryInputObject(**common, presentValue=BinaryPV("inactive"))
            else:
                units = EngineeringUnits(_UNITS[point.unit])
                start = self.world.hall.setpoints.baseline.get(point.id, 0.0)
                cls = CommandableValue if kind == "analog-value" else AnalogInputObject
                made = cls(**common, presentValue=start, units=units, covIncrement=0.1)
            self._objects.append(made)
            if kind != "analog-value":
                self._inputs.append((made, point))
        self.refresh()

    def refresh(self) -> None:
        """Let the inputs say what the hall says."""
        for made, point in self._inputs:
            value = self.world.value(point.id)
            if value is None:
                continue
            if isinstance(made, BinaryInputObject):
                state = BinaryPV("active" if value > 0.5 else "inactive")
                if made.presentValue != state:
                    made.presentValue = state
            elif made.presentValue != value:
                made.presentValue = value

    async def start(self) -> None:
        """Serve on the device's address."""
        if not self.device.port:
            self.device = self.device.at(free_port(self.device.host, socket.SOCK_DGRAM))
        about = DeviceObject(
            objectIdentifier=f"device,{BMS_INSTANCE}", objectName="hall-bms",
            vendorIdentifier=999, modelName="simulated BMS", vendorName="Skadi simulators",
        )  # fmt: skip
        address = IPv4Address(f"{self.device.host}/32:{self.device.port}")
        app = BmsApplication(about, address)
        app.bms = self
        for made in self._objects:
            app.add_object(made)
        self._app = app

    async def stop(self) -> None:
        """Close the port."""
        if self._app is not None:
            for made in self._objects:
                self._app.delete_object(made)
            self._app.close()
            self._app = None

    def reboot(self) -> None:
        """Forget the priority arrays, as controllers do that keep them in RAM."""
        for made in self._objects:
            if isinstance(made, CommandableValue):
                for slot in range(_LOWEST):
                    made.priorityArray[slot] = PriorityValue(null=())
                self._follow(made)

    def judge(self, apdu: WritePropertyRequest, made: Object | None) -> None:
        """Raise PropertyError for what this device doesn't take."""
        kind, instance = apdu.objectIdentifier
        address = f"{kind}:{instance} {apdu.propertyIdentifier}"
        if made is None:
            return  # the stack says unknown object
        if (
            not isinstance(made, CommandableValue)
            or str(apdu.propertyIdentifier) != "present-value"
        ):
            self.world.refuse("bms", "bacnet-ip", address, "write access denied")
            raise PropertyError("writeAccessDenied")
        if "bms" in self.world.local:
            self.world.refuse("bms", "bacnet-ip", address, "bms is switched to local")
            raise PropertyError("writeAccessDenied")
        value = apdu.propertyValue.cast_out(Real, null=True)
        point = self._points[(str(kind), int(instance))]
        assert point.knob is not None
        low, high = point.knob.takes
        if not isinstance(value, Null) and not low <= float(value) <= high:
            why = f"{float(value):g} is outside {low:g}..{high:g}"
            self.world.refuse("bms", "bacnet-ip", address, why)
            raise PropertyError("valueOutOfRange")

    def applied(self, apdu: WritePropertyRequest) -> None:
        """Pass a write that the stack has applied on to the hall."""
        kind, instance = apdu.objectIdentifier
        value = apdu.propertyValue.cast_out(Real, null=True)
        made = next(o for o in self._objects if o.objectIdentifier == apdu.objectIdentifier)
        point = self._points[(str(kind), int(instance))]
        null = isinstance(value, Null)
        self.world.write(
            "bms",
            "bacnet-ip",
            {point.id: (f"{kind}:{instance}", float(made.presentValue))},
            priority=apdu.priority or _LOWEST,
            shown=None if null else float(value),
            relinquish=null,
        )

    def _follow(self, made: CommandableValue) -> None:
        kind, instance = made.objectIdentifier
        point = self._points[(str(kind), int(instance))]
        self.world.hall.setpoints.set({point.id: float(made.presentValue)})
