"""The few BACnet services the agent needs, between bytes and values. Pure, no library.

ReadPropertyMultiple and ReadProperty of numbers and priority arrays, WriteProperty with a
priority, and error PDUs: encoded once, decoded strictly. bacpypes3 builds a tree of objects
for each value (11 ms for 20 objects); this takes microseconds, and refuses what doesn't
parse instead of leaving the request unanswered.

Facts: ANSI/ASHRAE 135, clauses 15.5, 15.7, 15.9 (services), 20.2 (tags), 21 (productions
and the numbers of object types, properties, errors).

Must never guess: anything unexpected is Malformed.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

OBJECT_TYPES = {
    "analog-input": 0, "analog-output": 1, "analog-value": 2,
    "binary-input": 3, "binary-output": 4, "binary-value": 5,
    "device": 8, "loop": 12, "multi-state-input": 13, "multi-state-output": 14,
    "multi-state-value": 19, "integer-value": 45, "large-analog-value": 46,
    "positive-integer-value": 48,
}  # fmt: skip
PRESENT_VALUE, PRIORITY_ARRAY = 85, 87
PROPERTIES = {
    "present-value": 85, "priority-array": 87, "relinquish-default": 104, "status-flags": 111,
    "reliability": 103, "out-of-service": 81, "event-state": 36, "high-limit": 45,
    "low-limit": 59, "min-pres-value": 69, "max-pres-value": 65, "resolution": 106,
    "cov-increment": 22, "setpoint": 108, "controlled-variable-value": 21, "units": 117,
}  # fmt: skip

BOOLEAN, UNSIGNED, INTEGER, REAL, DOUBLE, ENUMERATED = 1, 2, 3, 4, 5, 9
_BITS, _OBJECT_ID = 8, 12
# What the present value of an object is made of; other properties may be any number.
VALUE_TAGS = {
    "analog-input": REAL, "analog-output": REAL, "analog-value": REAL, "loop": REAL,
    "binary-input": ENUMERATED, "binary-output": ENUMERATED, "binary-value": ENUMERATED,
    "multi-state-input": UNSIGNED, "multi-state-output": UNSIGNED, "multi-state-value": UNSIGNED,
    "integer-value": INTEGER, "large-analog-value": DOUBLE, "positive-integer-value": UNSIGNED,
}  # fmt: skip

READ_PROPERTY, READ_PROPERTY_MULTIPLE, WRITE_PROPERTY = 12, 14, 15


class Malformed(ValueError):
    """Bytes that are not what the standard says they must be."""


@dataclass(frozen=True, slots=True)
class Ref:
    """One property of one object, by number."""

    type: int
    instance: int
    property: int

    def __str__(self) -> str:
        return (
            f"{_name(OBJECT_TYPES, self.type)}:{self.instance} {_name(PROPERTIES, self.property)}"
        )


@dataclass(frozen=True, slots=True)
class Value:
    """A number with the tag it came under; None as number: Null."""

    tag: int
    number: float | None


@dataclass(frozen=True, slots=True)
class Opaque:
    """A value that is no number (text, a date, a list ...): known to be there, not read."""

    tag: int


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

Item = Value | Opaque
Result = tuple[Ref, tuple[Item, ...] | Failure]


def _name(table: dict[str, int], number: int) -> str:
    return next((k for k, v in table.items() if v == number), str(number))


# Encoding


def _context(number: int, content: bytes) -> bytes:
    return bytes((number << 4 | 8 | len(content),)) + content


def _unsigned(value: int) -> bytes:
    return value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big")


def _object(ref: Ref) -> bytes:
    return _context(0, (ref.type << 22 | ref.instance).to_bytes(4, "big"))


def encode_read(ref: Ref) -> bytes:
    """The service request of ReadProperty."""
    return _object(ref) + _context(1, _unsigned(ref.property))


def encode_read_multiple(refs: tuple[Ref, ...]) -> bytes:
    """The service request of ReadPropertyMultiple: one specification an object."""
    parts: list[bytes] = []
    last: Ref | None = None
    for ref in refs:
        if last is None or (last.type, last.instance) != (ref.type, ref.instance):
            parts.append((b"\x1f" if last else b"") + _object(ref) + b"\x1e")
        parts.append(_context(0, _unsigned(ref.property)))
        last = ref
    return b"".join(parts) + b"\x1f"


def encode_write(ref: Ref, value: bytes, priority: int) -> bytes:
    """The service request of WriteProperty. `value`: from `encode_value`."""
    return encode_read(ref) + b"\x3e" + value + b"\x3f" + _context(4, _unsigned(priority))


def encode_value(tag: int, number: float | None) -> bytes:
    """An application-tagged value; None is Null. Raises ValueError where it doesn't fit."""
    if number is None:
        return b"\x00"
    if tag == REAL:
        return b"\x44" + _pack(">f", number)
    if tag == DOUBLE:
        return b"\x55\x08" + _pack(">d", number)
    if number != int(number) or not -(2**31) <= number < 2**32:
        raise ValueError(f"{number:g} is not a whole number the object can hold")
    whole = int(number)
    if tag == INTEGER:
        content = whole.to_bytes((whole.bit_length() // 8) + 1, "big", signed=True)
    elif whole < 0:
        raise ValueError(f"{number:g} is negative, the object takes 0 or more")
    else:
        content = _unsigned(whole)
    return bytes((tag << 4 | len(content),)) + content


def _pack(format_: str, number: float) -> bytes:
    try:
        return struct.pack(format_, number)
    except OverflowError:
        raise ValueError(f"{number:g} is too large for the object") from None


# Decoding


@dataclass(frozen=True, slots=True)
class _Tag:
    number: int
    kind: str  # application | context | open | close
    content: bytes
    flag: int = 0  # an application-tagged Boolean lives in the tag itself


def _tags(data: bytes) -> Iterator[_Tag]:
    """Cut `data` into tags. Raises Malformed."""
    at = 0
    while at < len(data):
        first = data[at]
        at += 1
        number, length = first >> 4, first & 7
        if number == 15:
            if at >= len(data):
                raise Malformed("cut off in a tag number")
            number, at = data[at], at + 1
        context = bool(first & 8)
        if context and length >= 6:
            yield _Tag(number, "open" if length == 6 else "close", b"")
            continue
        if not context and number == BOOLEAN:
            if length > 1:
                raise Malformed(f"a Boolean of {length}")
            yield _Tag(number, "application", b"", length)
            continue
        if length >= 6:
            raise Malformed("an opening or closing tag without context")
        if length == 5:
            length, at = _extended_length(data, at)
        if at + length > len(data):
            raise Malformed(f"{length} bytes announced, {len(data) - at} there")
        yield _Tag(number, "context" if context else "application", data[at : at + length])
        at += length


def _extended_length(data: bytes, at: int) -> tuple[int, int]:
    if at >= len(data):
        raise Malformed("cut off in a length")
    size = {254: 2, 255: 4}.get(data[at], 0)
    if not size:
        return data[at], at + 1
    if at + 1 + size > len(data):
        raise Malformed("cut off in a length")
    return int.from_bytes(data[at + 1 : at + 1 + size], "big"), at + 1 + size


class _Reader:
    """Takes tags one by one, each as what it must be."""

    def __init__(self, data: bytes) -> None:
        self._tags = list(_tags(data))
        self._at = 0

    @property
    def done(self) -> bool:
        return self._at >= len(self._tags)

    def at(self, kind: str, number: int) -> bool:
        """Is the next tag this one?"""
        if self.done:
            return False
        tag = self._tags[self._at]
        return tag.kind == kind and tag.number == number

    def take(self, kind: str, number: int) -> _Tag:
        if not self.at(kind, number):
            found = (
                "nothing"
                if self.done
                else f"{self._tags[self._at].kind} {self._tags[self._at].number}"
            )
            raise Malformed(f"{kind} tag {number} expected, {found} found")
        self._at += 1
        return self._tags[self._at - 1]

    def whole(self, kind: str, number: int) -> int:
        content = self.take(kind, number).content
        if not 1 <= len(content) <= 4:
            raise Malformed(f"an unsigned of {len(content)} bytes")
        return int.from_bytes(content, "big")

    def object(self) -> tuple[int, int]:
        content = self.take("context", 0).content
        if len(content) != 4:
            raise Malformed(f"an object identifier of {len(content)} bytes")
        number = int.from_bytes(content, "big")
        return number >> 22, number & 0x3FFFFF

    def items(self, number: int) -> tuple[Item, ...]:
        """What stands between opening and closing tag `number`."""
        self.take("open", number)
        items: list[Item] = []
        while not self.at("close", number):
            if self.done:
                raise Malformed(f"closing tag {number} is missing")
            tag = self._tags[self._at]
            self._at += 1
            if tag.kind == "open":
                self._skip(tag.number)
            items.append(_item(tag) if tag.kind == "application" else Opaque(-1))
        self.take("close", number)
        return tuple(items)

    def _skip(self, number: int) -> None:
        """Pass over a constructed value, up to and with its closing tag."""
        open_ = [number]
        while open_:
            if self.done:
                raise Malformed(f"closing tag {open_[-1]} is missing")
            tag = self._tags[self._at]
            self._at += 1
            if tag.kind == "open":
                open_.append(tag.number)
            elif tag.kind == "close" and tag.number != open_.pop():
                raise Malformed(f"closing tag {tag.number} closes nothing")

    def failure(self) -> Failure:
        return Failure(self.whole("application", ENUMERATED), self.whole("application", ENUMERATED))


def _item(tag: _Tag) -> Item:
    size = len(tag.content)
    match tag.number:
        case 0 if size == 0:
            return Value(0, None)
        case 1:
            return Value(BOOLEAN, float(tag.flag))
        case 2 | 9 if 1 <= size <= 8:
            return Value(tag.number, float(int.from_bytes(tag.content, "big")))
        case 3 if 1 <= size <= 8:
            return Value(INTEGER, float(int.from_bytes(tag.content, "big", signed=True)))
        case 4 if size == 4:
            return Value(REAL, float(struct.unpack(">f", tag.content)[0]))
        case 5 if size == 8:
            return Value(DOUBLE, float(struct.unpack(">d", tag.content)[0]))
        case 0 | 2 | 3 | 4 | 5 | 9:
            raise Malformed(f"a value of type {tag.number} with {size} bytes")
        case _:
            return Opaque(tag.number)


def decode_read(data: bytes) -> Result:
    """The acknowledgement of ReadProperty. Raises Malformed."""
    reader = _Reader(data)
    type_, instance = reader.object()
    ref = Ref(type_, instance, reader.whole("context", 1))
    if reader.at("context", 2):
        raise Malformed("an array index that was not asked for")
    items = reader.items(3)
    if not reader.done:
        raise Malformed("bytes after the end")
    return ref, items


def decode_read_multiple(data: bytes) -> list[Result]:
    """The acknowledgement of ReadPropertyMultiple, in its order. Raises Malformed."""
    reader = _Reader(data)
    results: list[Result] = []
    while not reader.done:
        type_, instance = reader.object()
        reader.take("open", 1)
        while not reader.at("close", 1):
            ref = Ref(type_, instance, reader.whole("context", 2))
            if reader.at("context", 3):
                raise Malformed("an array index that was not asked for")
            if reader.at("open", 5):
                reader.take("open", 5)
                results.append((ref, reader.failure()))
                reader.take("close", 5)
            else:
                results.append((ref, reader.items(4)))
        reader.take("close", 1)
    return results


def decode_error(data: bytes) -> Failure:
    """The body of an error PDU. Raises Malformed."""
    reader = _Reader(data)
    failure = reader.failure()
    if not reader.done:
        raise Malformed("bytes after the end")
    return failure
