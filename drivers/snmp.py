"""SNMP: reads a device's points by GET, writes by SET. v1, v2c and v3.

Decides what a raw value means for its point: a value in the quantity's unit, or missing,
or bad with its reason. A sentinel, text that is no number, or a value outside the
quantity's plausible band never becomes a good reading. Speaks through drivers.snmp_session.
"""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from config.addresses import SnmpAddress
from config.schema import AuthSection
from config.secrets import SecretError, SecretRef, resolve
from config.site import Device, Point
from control.types import Present, Reading
from drivers.contract import NotSent, Permanent, Refused, Transient
from drivers.judge import Judge, judge_of
from drivers.snmp_batch import BatchSize, Outcome, read_all
from drivers.snmp_ber import V1, V2C, Absent, Garbled, encode_oid, number_of_kind
from drivers.snmp_privacy import AES_KEY_BYTES, Aes, Privacy
from drivers.snmp_session import (
    COMMIT_FAILED,
    UNDO_FAILED,
    Community,
    Session,
    Status,
)
from drivers.snmp_usm import Usm

GEN_ERR = 5
_UNSURE = frozenset({GEN_ERR, COMMIT_FAILED, UNDO_FAILED})
_NUMBER = re.compile(rb"\s*([-+]?\d{1,18}(?:\.\d{1,12})?)\s*\x00*")


Guards = tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is asked for, and where each point's value and guards stand in the answer."""

    oids: tuple[bytes, ...]
    place: tuple[int, ...]
    guards: tuple[Guards, ...]


class SnmpDriver:
    """One SNMP device. See drivers.contract.Driver for the meaning of each call."""

    def __init__(self, device: Device, environ: Mapping[str, str]) -> None:
        self.device = device
        self._environ = environ
        self._plan = _compile(device.points)
        self._judges = [judge_of(point) for point in device.points]
        self._size = BatchSize()
        self._session: Session | None = None
        self._lock = asyncio.Lock()

    async def connect(self) -> None:
        """Open the socket. Raises Permanent for secrets that can't be read, Transient else."""
        if self._session is None:
            self._session = session_of(self.device, self._environ)
        await self._session.open()

    async def close(self) -> None:
        """Close the socket."""
        if self._session is not None:
            self._session.close()
            self._session = None

    async def read(self, now_s: float) -> list[Reading]:
        """Read every point. Raises Transient when the device does not answer at all."""
        async with self._lock:
            found = await read_all(await self._open(), self._plan.oids, self._size)
        plan = zip(self._judges, self._plan.place, self._plan.guards, strict=True)
        return [
            judge.bad(broken, now_s)
            if guards and (broken := _broken(guards, found))
            else reading_of(judge, found[place], now_s)
            for judge, place, guards in plan
        ]

    async def present(self, points: Sequence[Point]) -> dict[str, Present]:
        """Read these points fresh. A point without a number there is a Permanent error."""
        oids = [_encoded(p) for p in points]
        async with self._lock:
            found = await read_all(await self._open(), oids, BatchSize())
        held: dict[str, Present] = {}
        for point, outcome in zip(points, found, strict=True):
            raw = number_in(outcome)
            if isinstance(raw, str):
                raise Permanent(f"{point.key} at {point.address}: {raw}; check the oid")
            held[point.key] = Present(raw * point.scale + point.offset)
        return held

    async def write_raw(self, values: Mapping[str, float | None]) -> None:
        """Write all values in one SET. Raises NotSent, Refused, or Transient (outcome unknown)."""
        by_key = {p.key: p for p in self.device.points}
        points = [by_key[key] for key in values]
        async with self._lock:
            wanted = await self._encode(points, list(values.values()))
            try:
                await (await self._open()).set(wanted)
            except Status as status:
                names = ", ".join(p.key for p in points)
                if status.status in _UNSURE:
                    raise Transient(f"{names}: {status}; it may have changed") from None
                raise Refused(f"{names}: the device refuses: {status}") from None
            except Garbled as error:
                raise Transient(f"{self.device.id}: odd reply to SET: {error}") from None

    async def _encode(
        self, points: Sequence[Point], values: Sequence[float | None]
    ) -> list[tuple[bytes, bytes]]:
        """Each value as the type its object has now, asked from the device."""
        oids = [_encoded(p) for p in points]
        try:
            kinds = await (await self._open()).kinds(oids)
        except (Transient, Garbled, Status) as error:
            raise NotSent(f"{self.device.id}: no write, its objects don't read: {error}") from None
        wanted: list[tuple[bytes, bytes]] = []
        for point, oid, kind, value in zip(points, oids, kinds, values, strict=True):
            if value is None:
                raise Refused(f"{point.key}: SNMP has no priority slot to relinquish")
            raw = (value - point.offset) / point.scale
            try:
                wanted.append((oid, number_of_kind(round(raw), kind)))
            except (ValueError, OverflowError) as error:
                raise Refused(f"{point.key} at {point.address}: {error}") from None
        return wanted

    async def _open(self) -> Session:
        await self.connect()
        assert self._session is not None
        return self._session


def _encoded(point: Point) -> bytes:
    if not isinstance(point.address, SnmpAddress):
        raise Permanent(f"{point.key} has no OID")
    return encode_oid(point.address.oid)


def _compile(points: Sequence[Point]) -> _Plan:
    """Ask for each OID once, in the order of the points."""
    places: dict[bytes, int] = {}

    def place(oid: bytes) -> int:
        return places.setdefault(oid, len(places))

    values = tuple(place(_encoded(p)) for p in points)
    guards = tuple(
        tuple((place(encode_oid(oid)), wanted) for oid, wanted in p.address.valid_while)
        if isinstance(p.address, SnmpAddress)
        else ()
        for p in points
    )
    return _Plan(tuple(places), values, guards)


def _broken(guards: Guards, found: Sequence[Outcome]) -> str:
    """Say which guard of a point does not hold: its value is not what the site file says."""
    for place, wanted in guards:
        is_ = text_of(found[place])
        if is_ != wanted:
            return f"the device's own description changed ({is_!r}, was {wanted!r}): scan it again"
    return ""


def text_of(outcome: Outcome) -> str:
    """What a device answered, as text: how guards and descriptions are compared."""
    match outcome:
        case bytes():
            try:
                text = outcome.decode("utf-8")
            except UnicodeDecodeError:  # older firmware writes a degree sign in Latin-1
                text = outcome.decode("latin-1")
            return text.strip("\x00 \t\r\n")
        case Absent():
            return ""
        case tuple():
            return ".".join(map(str, outcome))
        case _:
            return str(outcome)


def number_in(outcome: Outcome) -> float | str:
    """The number in what a device answered, or in words why there is none."""
    match outcome:
        case Absent():
            return outcome.value
        case str():
            return outcome
        case int():
            return float(outcome)
        case float():
            return outcome  # NaN and Inf are the judge's
        case bytes():
            match = _NUMBER.fullmatch(outcome)
            return float(match[1]) if match else f"text, not a number: {outcome[:24]!r}"
        case _:
            return "an OID, not a number"


def reading_of(judge: Judge, outcome: Outcome, now_s: float) -> Reading:
    """The reading that an answered value makes."""
    raw = number_in(outcome)
    if isinstance(raw, str):
        return (judge.missing if isinstance(outcome, Absent) else judge.bad)(raw, now_s)
    return judge.read(raw, now_s)


def session_of(device: Device, environ: Mapping[str, str]) -> Session:
    """Make a device's session from its secrets. Raises Permanent naming the secret's place."""
    auth = device.auth
    if auth is None:
        raise Permanent(f'{device.id}: no auth; add auth = {{ version = "2c", ... }}')

    def secret(ref: SecretRef) -> bytes:
        try:
            return resolve(ref, environ).get_secret_value().encode()
        except SecretError as error:
            raise Permanent(f"{device.id}: {error}") from None

    where = (device.host, device.port or 161)
    if auth.version != "3" and auth.community is not None:
        community = Community(V2C if auth.version == "2c" else V1, secret(auth.community))
        return Session(*where, community, device.timeout_s, device.local_address)
    signing = (auth.auth_protocol, secret(auth.auth_password)) if auth.auth_password else None
    usm = Usm(auth.user or "", signing, _privacy(auth, secret))
    return Session(*where, usm, device.timeout_s, device.local_address)


def _privacy(auth: AuthSection, secret: Callable[[SecretRef], bytes]) -> Privacy | None:
    if auth.priv_password is None:
        return None
    password = secret(auth.priv_password)
    if auth.priv_protocol in AES_KEY_BYTES:
        return Aes(auth.priv_protocol, password)
    from drivers.snmp_pysnmp import PysnmpPrivacy  # rare, and costly to import

    return PysnmpPrivacy(auth.priv_protocol, password)
