"""Asks a Modbus unit what it is: read device identification (FC 43, MEI type 14).

Read only. Few devices answer; a refusal is an answer, too.
"""

from pymodbus.pdu.mei_message import ReadDeviceInformationRequest, ReadDeviceInformationResponse

from config.site import Device
from drivers.modbus_clients import endpoint_of, make_link
from drivers.modbus_link import leave_link, share_link

# MODBUS Application Protocol V1.1b3, 6.21: the objects of the basic and regular categories.
OBJECTS = {
    0: "vendor", 1: "product code", 2: "revision", 3: "url", 4: "product", 5: "model",
    6: "application",
}  # fmt: skip
REGULAR, BASIC = 2, 1


async def identify(device: Device) -> dict[str, str]:
    """What the unit says it is, by name of object; empty where it does not say.

    Raises Transient when it does not answer at all.
    """
    endpoint = endpoint_of(device)
    link = share_link(endpoint, lambda: make_link(device))
    try:
        for category in (REGULAR, BASIC):
            request = ReadDeviceInformationRequest(
                read_code=category, object_id=0, dev_id=device.unit_id
            )
            reply = await link.ask(request, device.timeout_s, device.pause_ms / 1000)
            if isinstance(reply, ReadDeviceInformationResponse):
                return _texts(reply)
        return {}
    finally:
        leave_link(endpoint, link)


def _texts(reply: ReadDeviceInformationResponse) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, said in reply.information.items():
        parts = said if isinstance(said, list) else [said]
        text = b" ".join(p for p in parts if isinstance(p, bytes)).decode("utf-8", "replace")
        printable = "".join(c if c.isprintable() else " " for c in text).strip()[:80]
        if printable and number in OBJECTS:
            found[OBJECTS[number]] = printable
    return found
