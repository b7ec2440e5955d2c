"""The few BACnet services the agent needs, between bytes and values. Pure, no library.

ReadPropertyMultiple and ReadProperty of numbers and priority arrays, WriteProperty with a
priority, and error PDUs: encoded once, decoded strictly. bacpypes3 builds a tree of objects
for each value (11 ms for 20 objects); this takes microseconds, and refuses what doesn't
parse instead of leaving the request unanswered.

Facts: ANSI/ASHRAE 135, clauses 15.5, 15.7, 15.9 (services), 21 (productions and the numbers
of object types, properties, errors).

Must never guess: anything unexpected is Malformed.
"""

from dataclasses import dataclass

from drivers.bacnet_tags import (
    DOUBLE,
    ENUMERATED,
    INTEGER,
    REAL,
    UNSIGNED,
    Item,
    Malformed,
    TagReader,
    context_tag,
    unsigned,
)

OBJECT_TYPES = {
    "analog-input": 0, "analog-output": 1, "analog-value": 2,
    "binary-input": 3, "binary-output": 4, "binary-value": 5,
    "device": 8, "loop": 12, "multi-state-input": 13, "multi-state-output": 14,
    "multi-state-value": 19, "integer-value": 45, "large-analog-value": 46,
    "positive-integer-value": 48,
}  # fmt: skip
PRESENT_VALUE, PRIORITY_ARRAY, STATUS_FLAGS = 85, 87, 111
PROPERTIES = {
    "present-value": 85, "priority-array": 87, "relinquish-default": 104, "status-flags": 111,
    "reliability": 103, "out-of-service": 81, "event-state": 36, "high-limit": 45,
    "low-limit": 59, "min-pres-value": 69, "max-pres-value": 65, "resolution": 106,
    "object-list": 76, "object-name": 77, "description": 28, "model-name": 70,
    "vendor-name": 121, "cov-increment": 22, "setpoint": 108, "controlled-variable-value": 21, "units": 117,
}  # fmt: skip

# What the present value of an object is made of; other properties may be any number.
VALUE_TAGS = {
    "analog-input": REAL, "analog-output": REAL, "analog-value": REAL, "loop": REAL,
    "binary-input": ENUMERATED, "binary-output": ENUMERATED, "binary-value": ENUMERATED,
    "multi-state-input": UNSIGNED, "multi-state-output": UNSIGNED, "multi-state-value": UNSIGNED,
    "integer-value": INTEGER, "large-analog-value": DOUBLE, "positive-integer-value": UNSIGNED,
}  # fmt: skip

SUBSCRIBE_COV, READ_PROPERTY, READ_PROPERTY_MULTIPLE, WRITE_PROPERTY = 5, 12, 14, 15


@dataclass(frozen=True, slots=True)
class Ref:
    """One property of one object, by number; `index` picks one element of an array."""

    type: int
    instance: int
    property: int
    index: int | None = None

    def __str__(self) -> str:
        index = "" if self.index is None else f"[{self.index}]"
        return f"{_name(OBJECT_TYPES, self.type)}:{self.instance} {_name(PROPERTIES, self.property)}{index}"


@dataclass(frozen=True, slots=True)
class Failure:
    """The error class and code a device gave instead of a value."""

    error_class: int
    code: int

    def __str__(self) -> str:
        return f"error {self.error_class}/{self.code} ({ERRORS.get(self.code, 'see ASHRAE 135')})"


ERRORS = {
    2: "configuration in progress", 3: "device busy", 9: "invalid data type",
    25: "operational problem", 27: "read access denied", 29: "service request denied",
    31: "unknown object", 32: "unknown property", 37: "value out of range",
    40: "write access denied", 42: "invalid array index", 50: "property is not an array",
}  # fmt: skip
NOT_THERE = frozenset({31, 32, 42, 50})

Result = tuple[Ref, tuple[Item, ...] | Failure]


def _name(table: dict[str, int], number: int) -> str:
    return next((k for k, v in table.items() if v == number), str(number))


def _object(ref: Ref) -> bytes:
    return context_tag(0, (ref.type << 22 | ref.instance).to_bytes(4, "big"))


def encode_read(ref: Ref) -> bytes:
    """The service request of ReadProperty."""
    index = b"" if ref.index is None else context_tag(2, unsigned(ref.index))
    return _object(ref) + context_tag(1, unsigned(ref.property)) + index


def encode_read_multiple(refs: tuple[Ref, ...]) -> bytes:
    """The service request of ReadPropertyMultiple: one specification an object."""
    parts: list[bytes] = []
    last: Ref | None = None
    for ref in refs:
        if last is None or (last.type, last.instance) != (ref.type, ref.instance):
            parts.append((b"\x1f" if last else b"") + _object(ref) + b"\x1e")
        parts.append(context_tag(0, unsigned(ref.property)))
        if ref.index is not None:
            parts.append(context_tag(1, unsigned(ref.index)))
        last = ref
    return b"".join(parts) + b"\x1f"


def encode_write(ref: Ref, value: bytes, priority: int) -> bytes:
    """The service request of WriteProperty. `value`: from `encode_value`."""
    return encode_read(ref) + b"\x3e" + value + b"\x3f" + context_tag(4, unsigned(priority))


def _failure(reader: TagReader) -> Failure:
    error_class = reader.whole("application", ENUMERATED)
    return Failure(error_class, reader.whole("application", ENUMERATED))


def encode_subscribe(process: int, ref: Ref, lifetime_s: int) -> bytes:
    """The service request of SubscribeCOV, for unconfirmed notifications of an object."""
    oid = (ref.type << 22 | ref.instance).to_bytes(4, "big")
    return (
        context_tag(0, unsigned(process)) + context_tag(1, oid) + context_tag(2, b"\0")
        + context_tag(3, unsigned(lifetime_s))
    )  # fmt: skip


def decode_read(data: bytes) -> Result:
    """The acknowledgement of ReadProperty. Raises Malformed."""
    reader = TagReader(data)
    type_, instance = reader.object()
    property_ = reader.whole("context", 1)
    index = reader.whole("context", 2) if reader.at("context", 2) else None
    ref = Ref(type_, instance, property_, index)
    items = reader.items(3)
    if not reader.done:
        raise Malformed("bytes after the end")
    return ref, items


def decode_read_multiple(data: bytes) -> list[Result]:
    """The acknowledgement of ReadPropertyMultiple, in its order. Raises Malformed."""
    reader = TagReader(data)
    results: list[Result] = []
    while not reader.done:
        type_, instance = reader.object()
        reader.take("open", 1)
        while not reader.at("close", 1):
            property_ = reader.whole("context", 2)
            index = reader.whole("context", 3) if reader.at("context", 3) else None
            ref = Ref(type_, instance, property_, index)
            if reader.at("open", 5):
                reader.take("open", 5)
                results.append((ref, _failure(reader)))
                reader.take("close", 5)
            else:
                results.append((ref, reader.items(4)))
        reader.take("close", 1)
    return results


def decode_error(data: bytes) -> Failure:
    """The body of an error PDU. Raises Malformed."""
    reader = TagReader(data)
    failure = _failure(reader)
    if not reader.done:
        raise Malformed("bytes after the end")
    return failure
