"""BACnet tags and the values under them, between bytes and numbers. Pure, no library.

Facts: ANSI/ASHRAE 135, clause 20.2 (encoding of tags and of application data).

Must never guess: anything that isn't as the standard says is Malformed.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

BOOLEAN, UNSIGNED, INTEGER, REAL, DOUBLE, ENUMERATED = 1, 2, 3, 4, 5, 9


class Malformed(ValueError):
    """Bytes that are not what the standard says they must be."""


@dataclass(frozen=True, slots=True)
class Value:
    """A number with the tag it came under; None as number: Null."""

    tag: int
    number: float | None


@dataclass(frozen=True, slots=True)
class Opaque:
    """A value that is no number (text, a date, a list ...); tag -1 is a constructed one."""

    tag: int
    content: bytes = b""


Item = Value | Opaque

_CHARACTER_STRING, _BIT_STRING, _OBJECT_ID = 7, 8, 12
_CHARSETS = {0: "utf-8", 4: "utf-16-be", 5: "iso-8859-1"}


def text_of(item: Item) -> str:
    """The text of a character string, or nothing for anything else."""
    if not isinstance(item, Opaque) or item.tag != _CHARACTER_STRING or not item.content:
        return ""
    charset = _CHARSETS.get(item.content[0], "ascii")
    return item.content[1:].decode(charset, errors="replace")


def bits_of(item: Item) -> tuple[bool, ...] | None:
    """The bits of a bit string, first one first, or None for anything else."""
    if not isinstance(item, Opaque) or item.tag != _BIT_STRING or not item.content:
        return None
    unused, data = item.content[0], item.content[1:]
    if unused > 7 or (unused and not data):
        return None
    bits = [bool(byte >> i & 1) for byte in data for i in range(7, -1, -1)]
    return tuple(bits[: len(bits) - unused])


def object_of(item: Item) -> tuple[int, int] | None:
    """(type, instance) of an object identifier, or None for anything else."""
    if not isinstance(item, Opaque) or item.tag != _OBJECT_ID or len(item.content) != 4:
        return None
    number = int.from_bytes(item.content, "big")
    return number >> 22, number & 0x3FFFFF


def context_tag(number: int, content: bytes) -> bytes:
    """A primitive context tag of up to four bytes."""
    return bytes((number << 4 | 8 | len(content),)) + content


def unsigned(value: int) -> bytes:
    """The fewest bytes that hold a whole number."""
    return value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big")


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
        content = unsigned(whole)
    return bytes((tag << 4 | len(content),)) + content


def _pack(format_: str, number: float) -> bytes:
    try:
        return struct.pack(format_, number)
    except OverflowError:
        raise ValueError(f"{number:g} is too large for the object") from None


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


class TagReader:
    """Takes tags one by one, each as what it must be."""

    def __init__(self, data: bytes) -> None:
        self._tags = list(_tags(data))
        self._at = 0

    @property
    def done(self) -> bool:
        """Nothing is left."""
        return self._at >= len(self._tags)

    def at(self, kind: str, number: int) -> bool:
        """Is the next tag this one?"""
        if self.done:
            return False
        tag = self._tags[self._at]
        return tag.kind == kind and tag.number == number

    def take(self, kind: str, number: int) -> _Tag:
        """Take the next tag, which must be this one."""
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
        """Take a whole number of up to four bytes under this tag."""
        content = self.take(kind, number).content
        if not 1 <= len(content) <= 4:
            raise Malformed(f"an unsigned of {len(content)} bytes")
        return int.from_bytes(content, "big")

    def object(self) -> tuple[int, int]:
        """Take an object identifier under context tag 0: (type, instance)."""
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
            return Opaque(tag.number, tag.content)
