"""Checks of a device's link: each flavour of Modbus has what it needs and nothing it can't use."""

from collections.abc import Iterator

from config.addresses import Address, ModbusAddress
from config.links import ACTUATORS, HTTP, LOCAL, MODBUS, MODBUS_RTU, parse_hole
from config.schema import DeviceSection


def link_problems(section: DeviceSection) -> Iterator[tuple[str, str]]:
    """Yield (key, what is wrong and what to do) for the link of a device."""
    protocol = section.protocol
    if protocol == "modbus-rtu":
        if section.serial is None:
            yield "serial", 'is missing; add serial = { path = "/dev/ttyUSB0", baud = 19200 }'
        if section.host is not None:
            yield "host", "a serial line has no host; use modbus-rtu-tcp for a serial server"
    elif section.serial is not None:
        yield "serial", f"belongs to modbus-rtu, not to {protocol}; remove it"
    if protocol == "modbus-tls":
        if section.tls is None:
            yield "tls", 'is missing; add tls = { ca_file = "/etc/skadi/ca.pem" }'
    elif section.tls is not None and protocol not in HTTP:
        yield "tls", f"belongs to modbus-tls and to what is spoken to by https, not to {protocol}"
    elif section.tls is not None and not (section.url or "https").startswith("https"):
        yield "tls", "is given, but the url is http: write https://"
    if protocol not in (*ACTUATORS, "workload-http") and section.dry_run is not None:
        yield "dry_run", f"{protocol} has no dry run; remove it"
    if section.program is not None and protocol != "slurm":
        yield "program", f"belongs to slurm, not to {protocol}; remove it"
    if protocol in LOCAL:
        for key in ("host", "url", "token"):
            if getattr(section, key) is not None:
                yield key, f"{protocol} is spoken to on this host; remove it"
    if protocol in MODBUS_RTU and not 1 <= section.unit_id <= 247:
        yield "unit_id", f"{section.unit_id} is no unit on a serial line; use 1..247"
    if (section.bacnet_network is None) != (section.bacnet_mac is None):
        missing = "bacnet_mac" if section.bacnet_mac is None else "bacnet_network"
        yield missing, "is missing; behind a router both are needed: network 2001, MAC 5"
    for key in ("cov_lifetime_s", "bacnet_network", "bacnet_mac"):
        if getattr(section, key) is not None and protocol != "bacnet-ip":
            yield key, f"belongs to bacnet-ip, not to {protocol}; remove it"
    if protocol not in MODBUS:
        for key in ("no_read", "write_multiple", "pause_ms"):
            if getattr(section, key):
                yield key, f"belongs to Modbus, not to {protocol}; remove it"


def in_hole(section: DeviceSection, address: Address) -> str | None:
    """Say which `no_read` forbids this address, or None."""
    if isinstance(address, ModbusAddress):
        for text in section.no_read:
            kind, first, last = parse_hole(text)
            if (
                kind == address.kind
                and first < address.offset + address.words
                and (last >= address.offset)
            ):
                return f"lies in no_read {text!r}; remove the point or shrink the hole"
    return None
