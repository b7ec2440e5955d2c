"""Makes the connection of each flavour of Modbus: TCP, TLS, RTU over TCP, a serial line.

Decides how frames are wrapped and how the link is opened; the rest of Modbus is the same for
all. TLS is Modbus/TCP Security (port 802): the device's certificate is always verified.
"""

import ssl
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass

from pymodbus.client import (
    AsyncModbusSerialClient,
    AsyncModbusTcpClient,
    AsyncModbusTlsClient,
)
from pymodbus.client.base import ModbusBaseClient
from pymodbus.framer import FramerType

from config.site import Device
from drivers.contract import Permanent
from drivers.modbus_frames import Framing
from drivers.modbus_link import Link, Watch

_PARITY = {"none": "N", "even": "E", "odd": "O"}


@dataclass(frozen=True, slots=True)
class _Flavour:
    framing: Framing
    make: Callable[[Device, Watch, float], ModbusBaseClient]
    advice: str


def endpoint_of(device: Device) -> Hashable:
    """What devices on one link have in common."""
    line = device.serial.path if device.serial else ""
    return (device.protocol, device.host, device.port, line)


def make_link(device: Device) -> Link:
    """The link to `device`, not yet opened."""
    flavour = _FLAVOURS[device.protocol]
    return Link(
        device.address,
        flavour.framing,
        lambda watch, timeout_s: flavour.make(device, watch, timeout_s),
        flavour.advice,
    )


def _tcp(device: Device, watch: Watch, timeout_s: float) -> ModbusBaseClient:
    return _over_tcp(device, watch, timeout_s, FramerType.SOCKET)


def _rtu_tcp(device: Device, watch: Watch, timeout_s: float) -> ModbusBaseClient:
    return _over_tcp(device, watch, timeout_s, FramerType.RTU)


def _over_tcp(
    device: Device, watch: Watch, timeout_s: float, framer: FramerType
) -> ModbusBaseClient:
    return AsyncModbusTcpClient(
        device.host, port=device.port, framer=framer, timeout=timeout_s, retries=0,
        reconnect_delay=0, trace_packet=watch.packet, trace_connect=watch.connection,
    )  # fmt: skip


def _tls(device: Device, watch: Watch, timeout_s: float) -> ModbusBaseClient:
    return AsyncModbusTlsClient(
        device.host, port=device.port, sslctx=tls_context(device), timeout=timeout_s, retries=0,
        reconnect_delay=0, trace_packet=watch.packet, trace_connect=watch.connection,
    )  # fmt: skip


def tls_context(device: Device) -> ssl.SSLContext:
    """Verify against the device's CA, show our certificate if there is one. Raises Permanent."""
    if device.tls is None:
        raise Permanent(f"device {device.id}: modbus-tls needs tls = {{ ca_file = ... }}")
    try:
        context = ssl.create_default_context(cafile=device.tls.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if device.tls.cert_file and device.tls.key_file:
            context.load_cert_chain(device.tls.cert_file, device.tls.key_file)
    except OSError as error:  # ssl.SSLError is one
        raise Permanent(f"device {device.id}: tls: {error}; check the files") from error
    return context


def _serial(device: Device, watch: Watch, timeout_s: float) -> ModbusBaseClient:
    line = device.serial
    if line is None:
        raise Permanent(f"device {device.id}: modbus-rtu needs serial = {{ path = ... }}")
    return AsyncModbusSerialClient(
        line.path, framer=FramerType.RTU, baudrate=line.baud, parity=_PARITY[line.parity],
        stopbits=line.stop_bits, timeout=timeout_s, retries=0, reconnect_delay=0,
        trace_packet=watch.packet, trace_connect=watch.connection,
    )  # fmt: skip


_FLAVOURS: Mapping[str, _Flavour] = {
    "modbus-tcp": _Flavour(Framing.TCP, _tcp, "check host, port and network"),
    "modbus-tls": _Flavour(Framing.TCP, _tls, "check host, port and certificates"),
    "modbus-rtu-tcp": _Flavour(Framing.RTU, _rtu_tcp, "check host, port and network"),
    "modbus-rtu": _Flavour(Framing.RTU, _serial, "check path, permissions and who else uses it"),
}
