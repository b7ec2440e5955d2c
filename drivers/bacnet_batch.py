"""Reads many BACnet properties in few requests, and learns what the device can take.

ReadPropertyMultiple as large as the device takes: halved when it breaks off, remembered;
a device that does not know the service is read one property at a time from then on.

Must never take a result for another property than the one in its place.
"""

from collections.abc import Awaitable, Callable

from config.addresses import BacnetAddress
from drivers.bacnet_codec import (
    OBJECT_TYPES,
    PROPERTIES,
    READ_PROPERTY,
    READ_PROPERTY_MULTIPLE,
    Failure,
    Ref,
    decode_read,
    decode_read_multiple,
    encode_read,
    encode_read_multiple,
)
from drivers.bacnet_net import Abort, Ack, Outcome, Reject
from drivers.bacnet_tags import Item, Malformed
from drivers.contract import Permanent, Transient

Ask = Callable[[int, bytes], Awaitable[Outcome]]
Result = tuple[Item, ...] | Failure | str

MAX_BODIES = 500  # with COV the sets that are asked for change
FIRST_CHUNK = 100  # properties; with status flags about 1200 bytes of the 1476 of BACnet/IP
GROW_AFTER_READS = 200
UNKNOWN_SERVICE = 9  # reject reason


def ref_of(address: BacnetAddress) -> Ref:
    """The numbers behind an address. Raises Permanent for a property we have no number for."""
    property_ = PROPERTIES.get(address.property)
    if property_ is None and address.property.isdigit():
        property_ = int(address.property)
    if property_ is None:
        raise Permanent(
            f"{address.object_type}:{address.instance}: unknown property {address.property!r};"
            f" use one of {', '.join(PROPERTIES)} or its number"
        )
    return Ref(OBJECT_TYPES[address.object_type], address.instance, property_)


class BacnetBatch:
    """The properties of one device, read together."""

    def __init__(self, refs: tuple[Ref, ...], chunk: int = FIRST_CHUNK) -> None:
        self._refs = refs
        self._bodies: dict[tuple[Ref, ...], bytes] = {}
        self.chunk = self._most = chunk
        self.multiple = True
        self._reads = 0

    async def read(self, ask: Ask, some: tuple[Ref, ...] | None = None) -> list[Result]:
        """One result for each ref (or for `some`), in order: values, a failure, or why not."""
        wanted = self._refs if some is None else some
        results: list[Result] = []
        while len(results) < len(wanted):
            refs = wanted[len(results) : len(results) + self.chunk]
            if not self.multiple or len(refs) == 1:
                results.append(await self._single(refs[0], ask))
            else:
                results += await self._several(refs, ask)
        self._grow()
        return results

    def _grow(self) -> None:
        """Try larger requests again after a while: one bad moment must not cost for ever."""
        self._reads += 1
        if self.chunk < self._most and self._reads % GROW_AFTER_READS == 0:
            self.chunk = min(self.chunk * 2, self._most)
            self._bodies.clear()

    async def _several(self, refs: tuple[Ref, ...], ask: Ask) -> list[Result]:
        """The results of `refs`, or none and a smaller chunk or single reads from now on."""
        body = self._bodies.get(refs)
        if body is None:
            if len(self._bodies) > MAX_BODIES:
                self._bodies.clear()
            body = self._bodies[refs] = encode_read_multiple(refs)
        match await ask(READ_PROPERTY_MULTIPLE, body):
            case Ack(body):
                return _matched(refs, body)
            case Abort() | Failure():
                self.chunk = len(refs) // 2
                self._bodies.clear()
            case Reject(reason):
                if reason == UNKNOWN_SERVICE:
                    self.multiple = False
                self.chunk = max(1, len(refs) // 2)
                self._bodies.clear()
        return []

    async def _single(self, ref: Ref, ask: Ask) -> Result:
        match await ask(READ_PROPERTY, encode_read(ref)):
            case Ack(body):
                try:
                    found, items = decode_read(body)
                except Malformed as error:
                    raise Transient(f"malformed reply: {error}") from error
                if found != ref:
                    raise Transient(f"reply names {found}, asked {ref}")
                return items
            case Failure() as failure:
                return failure
            case Abort(reason):
                return f"aborted, reason {reason}"
            case Reject(reason):
                return f"rejected, reason {reason}"


def _matched(refs: tuple[Ref, ...], body: bytes) -> list[Result]:
    """The results in the order asked for. Raises Transient unless each is in its place."""
    try:
        results = decode_read_multiple(body)
    except Malformed as error:
        raise Transient(f"malformed reply: {error}") from error
    if len(results) != len(refs):
        raise Transient(f"reply has {len(results)} results, asked for {len(refs)}")
    for ref, (found, _) in zip(refs, results, strict=True):
        if found != ref:
            raise Transient(f"reply names {found}, asked {ref}")
    return [result for _, result in results]
