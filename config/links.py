"""How a Modbus device is reached where host and port are not enough: lines, TLS, holes.

All flavours of Modbus share their addresses and their profiles; they differ in the link.
"""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

MODBUS = frozenset({"modbus-tcp", "modbus-tls", "modbus-rtu", "modbus-rtu-tcp"})
# Actuators of the work: their points name what they set, and they begin with dry_run.
ACTUATORS = frozenset({"envoy", "kubernetes", "slurm", "nvml"})
HTTP = frozenset({"prometheus", "workload-http", "envoy", "kubernetes"})
LOCAL = frozenset({"slurm", "nvml"})  # reached on this host, without an address
MODBUS_RTU = frozenset({"modbus-rtu", "modbus-rtu-tcp"})

_HOLE = re.compile(r"^(coil|discrete|input|holding):(\d{1,5})(?:-(\d{1,5}))?$")


_MAC = re.compile(r"^(\d{1,3}|0x([0-9a-fA-F]{2}){1,7}|\d{1,3}(\.\d{1,3}){3}(:\d{1,5})?)$")


def _bacnet_mac(text: str) -> str:
    if not _MAC.match(text) or (text.isdigit() and int(text) > 255):
        raise ValueError(
            f"{text!r} is no address behind a router: an MS/TP number like 5, bytes like 0x0A0B,"
            " or IP:PORT"
        )
    return text


BacnetMac = Annotated[str, AfterValidator(_bacnet_mac)]


class SerialSection(BaseModel):
    """A serial line. The defaults are those of MODBUS over Serial Line V1.02 (19200 8E1)."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    path: Annotated[str, Field(min_length=1)]  # /dev/serial/by-id/... survives a re-plug
    baud: Annotated[int, Field(ge=300, le=4_000_000)] = 19_200
    parity: Literal["none", "even", "odd"] = "even"
    stop_bits: Literal[1, 2] = 1


class TlsSection(BaseModel):
    """Who may sign the device's certificate, and what we show it (Modbus/TCP Security, https).

    The device's certificate must name its host. There is no way to skip that.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    ca_file: str
    cert_file: str | None = None
    key_file: str | None = None

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("give cert_file and key_file together, or neither")
        return self


def parse_hole(text: str) -> tuple[str, int, int]:
    """`holding:10-12` or `holding:10` -> (kind, first, last). Raises ValueError."""
    match = _HOLE.match(text)
    if match is None:
        raise ValueError(f"{text!r} is not like holding:10-12 (kind:first-last, both included)")
    first = int(match[2])
    last = int(match[3]) if match[3] else first
    if not first <= last <= 65_535:
        raise ValueError(f"{text!r} must run upwards, to 65535 at most")
    return match[1], first, last
