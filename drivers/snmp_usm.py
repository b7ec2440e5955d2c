"""SNMPv3's user-based security: engine discovery, authentication, encryption.

Decides whether a v3 message is authentic, timely and readable. An unauthenticated report
may teach the engine's id and clock, as RFC 3414 has it, and nothing else; with a password
set, a reply without a right signature is refused. Passwords and keys never reach a message
or a repr.

Facts: RFC 3412 (message), RFC 3414 (USM, MD5 and SHA-1, key localisation in appendix A.2),
RFC 7860 (SHA-2 and its tag lengths). Encryption is drivers.snmp_privacy's.
"""

import asyncio
import hmac
from dataclasses import dataclass

from drivers.contract import Permanent
from drivers.snmp_ber import (
    GET,
    REPORT,
    V3,
    Garbled,
    Oid,
    Reply,
    asked,
    expect,
    integer,
    octets,
    pdu,
    read_integer,
    read_octets,
    read_pdu,
    sequence,
    varbinds,
)
from drivers.snmp_privacy import Privacy, localized_key

TAG_BYTES = {"md5": 12, "sha1": 12, "sha224": 16, "sha256": 24, "sha384": 32, "sha512": 48}
_AUTH, _PRIV, _REPORTABLE = 1, 2, 4
_WINDOW_S = 150  # RFC 3414 section 2.2.3
_MAX_SIZE = 65_507
_STATS: Oid = (1, 3, 6, 1, 6, 3, 15, 1, 1)
_UNKNOWN_ENGINE, _NOT_IN_WINDOW = 4, 2
_REFUSALS = {
    1: "this security level is not supported: check auth_password and priv_password",
    3: "unknown user: check user",
    5: "wrong signature: check auth_password and auth_protocol",
    6: "it can't decrypt: check priv_password and priv_protocol",
}


def _now_s() -> float:
    return asyncio.get_running_loop().time()


@dataclass(frozen=True, slots=True)
class _Envelope:
    """The parts of a v3 message that security needs."""

    flags: int
    engine: bytes
    boots: int
    seconds: int
    user: bytes
    tag: bytes
    tag_at: int
    salt: bytes
    body_at: int


class Usm:
    """A v3 user on one device. `auth`: hash and password; `privacy` needs it."""

    version = V3

    def __init__(
        self,
        user: str,
        auth: tuple[str, bytes] | None = None,
        privacy: Privacy | None = None,
    ) -> None:
        self._user = user.encode()
        self._auth, self._privacy = auth, privacy
        self._level = (_AUTH if auth else 0) | (_PRIV if privacy else 0)
        self._engine = self._auth_key = b""
        self._boots = self._seconds = 0
        self._learned_s = 0.0
        self._proven = False  # the clock came in a signed message

    def ready(self) -> bool:
        return bool(self._engine)

    def hello(self, request_id: int) -> bytes:
        """An empty request without a user: the device answers with its engine's id."""
        return self._build(0, b"", b"", request_id, pdu(GET, request_id, 0, 0, asked([])))

    def message(self, pdu: bytes, request_id: int) -> bytes:
        return self._build(self._level, self._engine, self._user, request_id, pdu)

    def _now(self) -> int:
        return self._seconds + int(_now_s() - self._learned_s)

    def _build(self, level: int, engine: bytes, user: bytes, msg_id: int, body: bytes) -> bytes:
        boots, seconds = (self._boots, self._now()) if engine else (0, 0)
        data = sequence(octets(engine), octets(b""), body)
        salt = b""
        if level & _PRIV and self._privacy:
            salt, hidden = self._privacy.hide(boots, seconds, data)
            data = octets(hidden)
        size = TAG_BYTES[self._auth[0]] if level & _AUTH and self._auth else 0
        tail = octets(salt)
        security = octets(
            sequence(octets(engine), integer(boots), integer(seconds), octets(user),
                     octets(bytes(size)), tail)
        )  # fmt: skip
        about = sequence(
            integer(msg_id), integer(_MAX_SIZE), octets(bytes([level | _REPORTABLE])), integer(3)
        )
        whole = sequence(integer(V3), about, security, data)
        if not size:
            return whole
        at = len(whole) - len(data) - len(tail) - size
        return whole[:at] + self._tag(whole) + whole[at + size :]

    def _tag(self, whole: bytes) -> bytes:
        assert self._auth is not None
        name = self._auth[0]
        return hmac.new(self._auth_key, whole, name).digest()[: TAG_BYTES[name]]

    def reply(self, data: bytes, request_id: int) -> Reply | None:
        """The PDU of a reply; None when it was a report that taught engine or clock."""
        envelope = _open(data, request_id)
        signed = bool(envelope.flags & _AUTH)
        if signed:
            self._check(data, envelope)
        scoped, at, end = data, envelope.body_at, len(data)
        if envelope.flags & _PRIV:
            if not signed or not self._privacy or len(envelope.salt) != 8:
                raise Garbled("encrypted in a way that was not asked for")
            hidden, stop = read_octets(data, at, end)
            if stop != end:
                raise Garbled("bytes after the message")
            scoped = self._privacy.show(envelope.boots, envelope.seconds, envelope.salt, hidden)
            at, end = 0, len(scoped)
        at, stop = expect(scoped, at, end, 0x30)
        if end - stop > (self._privacy.padding if envelope.flags & _PRIV and self._privacy else 0):
            raise Garbled("bytes after the message, or a wrong privacy key")
        end = stop
        _, at = read_octets(scoped, at, end)
        _, at = read_octets(scoped, at, end)
        found = read_pdu(scoped, at, end)
        if found.kind == REPORT:
            self._learn(envelope, found, signed)
            return None
        if envelope.flags & (_AUTH | _PRIV) != self._level:
            raise Garbled("a reply below the security level asked for")
        return found

    def _check(self, data: bytes, envelope: _Envelope) -> None:
        """The signature, the user and the time window of a signed message."""
        if not self._auth or envelope.engine != self._engine or envelope.user != self._user:
            raise Garbled("signed by another engine or user")
        size = TAG_BYTES[self._auth[0]]
        blank = data[: envelope.tag_at] + bytes(size) + data[envelope.tag_at + len(envelope.tag) :]
        if len(envelope.tag) != size or not hmac.compare_digest(envelope.tag, self._tag(blank)):
            raise Garbled("a wrong signature")
        theirs = (envelope.boots, envelope.seconds)
        if self._proven and theirs < (self._boots, self._now() - _WINDOW_S):
            raise Garbled("older than the time window")
        if not self._proven or theirs > (self._boots, self._seconds):
            self._set_clock(envelope, proven=True)

    def _set_clock(self, envelope: _Envelope, *, proven: bool) -> None:
        self._boots, self._seconds = envelope.boots, envelope.seconds
        self._learned_s, self._proven = _now_s(), proven

    def _learn(self, envelope: _Envelope, report: Reply, signed: bool) -> None:
        """Take the engine's id and clock from a report, or say why it refuses us."""
        names = [name for name, _ in varbinds(report)]
        if len(names) != 1 or names[0][:9] != _STATS or len(names[0]) != 11:
            raise Garbled("a report of unknown meaning")
        what = names[0][9]
        if what in _REFUSALS:
            raise Permanent(f"SNMPv3: the device says: {_REFUSALS[what]}")
        if what == _UNKNOWN_ENGINE and 5 <= len(envelope.engine) <= 32:
            self._engine = envelope.engine
            if self._auth:
                name, password = self._auth
                self._auth_key = localized_key(name, password, self._engine)
                if self._privacy:
                    self._privacy.localize(name, self._engine)
            self._set_clock(envelope, proven=False)
        elif what == _NOT_IN_WINDOW:  # signed ones have set the clock in _check
            if not signed and not self._proven:
                self._set_clock(envelope, proven=False)
            elif signed:
                self._set_clock(envelope, proven=True)
        else:
            raise Garbled("a report that teaches nothing")


def _open(data: bytes, request_id: int) -> _Envelope:
    """Read everything of a v3 message but its body."""
    at, end = expect(data, 0, len(data), 0x30)
    if end != len(data):
        raise Garbled("bytes after the message")
    version, at = read_integer(data, at, end)
    if version != V3:
        raise Garbled("another SNMP version")
    about, after = expect(data, at, end, 0x30)
    msg_id, about = read_integer(data, about, after)
    _, about = read_integer(data, about, after)
    flags, about = read_octets(data, about, after)
    model, _ = read_integer(data, about, after)
    if msg_id != request_id or len(flags) != 1 or model != 3:
        raise Garbled("a message that answers another one")
    at, body_at = expect(data, after, end, 0x04)
    at, stop = expect(data, at, body_at, 0x30)
    engine, at = read_octets(data, at, stop)
    boots, at = read_integer(data, at, stop)
    seconds, at = read_integer(data, at, stop)
    user, at = read_octets(data, at, stop)
    tag, after_tag = read_octets(data, at, stop)
    salt, at = read_octets(data, after_tag, stop)
    if at != stop or boots < 0 or seconds < 0:
        raise Garbled("impossible security parameters")
    return _Envelope(
        flags[0], engine, boots, seconds, user, tag, after_tag - len(tag), salt, body_at
    )
