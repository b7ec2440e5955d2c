"""Asks a Modbus unit what it is: read device identification (FC 43, MEI type 14).

Read only. Few devices answer; a refusal is an answer, too.
"""

from config.site import Device
from drivers.modbus_clients import endpoint_of, make_link
from drivers.modbus_frames import IDENTIFY
from drivers.modbus_link import leave_link, share_link

# MODBUS Application Protocol V1.1b3, 6.21: the objects of the basic and regular categories.
OBJECTS = {
    0: "vendor", 1: "product code", 2: "revision", 3: "url", 4: "product", 5: "model",
    6: "application",
}  # fmt: skip
REGULAR, BASIC = 2, 1
READ_IDENTIFICATION = 14  # the MEI type


async def identify(device: Device) -> dict[str, str]:
    """What the unit says it is, by name of object; empty where it does not say.

    Raises Transient when it does not answer at all.
    """
    endpoint = endpoint_of(device)
    link = share_link(endpoint, lambda: make_link(device))
    try:
        for category in (REGULAR, BASIC):
            asked = bytes((IDENTIFY, READ_IDENTIFICATION, category, 0))
            pause_s = device.pause_ms / 1000
            reply = await link.ask(device.unit_id, asked, device.timeout_s, pause_s)
            if reply[0] == IDENTIFY:
                return _texts(reply)
        return {}
    finally:
        leave_link(endpoint, link)


def _texts(reply: bytes) -> dict[str, str]:
    """The objects of a reply; that they fill it exactly was checked (modbus_frames)."""
    found: dict[str, str] = {}
    at = 7
    for _ in range(reply[6]):
        number, size = reply[at], reply[at + 1]
        text = reply[at + 2 : at + 2 + size].decode("utf-8", "replace")
        at += 2 + size
        printable = "".join(c if c.isprintable() else " " for c in text).strip()[:80]
        if printable and number in OBJECTS:
            found[OBJECTS[number]] = printable
    return found
