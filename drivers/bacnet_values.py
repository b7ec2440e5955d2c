"""From what a BACnet device says of a property to a reading, or why it is none. Pure.

Must never take a value for a measurement that the device itself disowns: an input with a
fault, overridden by hand or out of service does not follow its sensor.
"""

from collections.abc import Mapping

from config.addresses import BacnetAddress
from control.types import Reading
from drivers.bacnet_batch import Result
from drivers.bacnet_codec import (
    NOT_THERE,
    OBJECT_TYPES,
    PRESENT_VALUE,
    STATUS_FLAGS,
    VALUE_TAGS,
    Failure,
    Ref,
)
from drivers.bacnet_tags import Item, Value, bits_of
from drivers.judge import Judge

_INPUTS = frozenset(OBJECT_TYPES[f"{kind}-input"] for kind in ("analog", "binary", "multi-state"))
# BACnetStatusFlags (ASHRAE 135, clause 21): in-alarm does not make a value untrue, these do.
_UNRELIABLE = {
    1: "the device reports a fault of this input",
    2: "overridden at the device: it does not follow the sensor",
    3: "out of service: it does not follow the sensor",
}


def flags_of(ref: Ref) -> Ref | None:
    """The status flags beside the present value of an input: they say whether it measures."""
    if ref.type in _INPUTS and ref.property == PRESENT_VALUE:
        return Ref(ref.type, ref.instance, STATUS_FLAGS)
    return None


def raised(flags: Result) -> str:
    """Why these status flags say that the value is no measurement, or nothing."""
    bits = bits_of(flags[0]) if isinstance(flags, tuple) and len(flags) == 1 else None
    if bits is None or len(bits) != 4:
        return ""
    return next((text for bit, text in _UNRELIABLE.items() if bits[bit]), "")


def wrong_value(address: BacnetAddress, items: tuple[Item, ...]) -> str:
    """Why these are not the one number that the property must be, or nothing."""
    if len(items) != 1:
        return f"{len(items)} values where one was asked for"
    item = items[0]
    if not isinstance(item, Value) or item.number is None:
        return "not a number"
    wanted = VALUE_TAGS[address.object_type]
    if address.property == "present-value" and item.tag != wanted:
        return f"a value of type {item.tag} where {wanted} belongs"
    return ""


def reading_of(
    judge: Judge, address: BacnetAddress, ref: Ref, flags: Ref | None,
    said: Mapping[Ref, tuple[Result, float]], now_s: float,
) -> Reading:  # fmt: skip
    """The reading behind what was said of `ref` and of its status flags, as old as the word."""
    result, taken_s = said.get(ref, ("not told yet", now_s))
    if flags is not None and flags in said and (why := raised(said[flags][0])):
        return judge.bad(why, taken_s)
    match result:
        case str():
            return judge.unknown(result, taken_s)
        case Failure():
            make = judge.missing if result.code in NOT_THERE else judge.unknown
            return make(str(result), taken_s)
    if wrong := wrong_value(address, result):
        return judge.bad(wrong, taken_s)
    item = result[0]
    assert isinstance(item, Value)
    assert item.number is not None
    return judge.read(item.number, taken_s)
