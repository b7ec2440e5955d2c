"""Row PDUs as SNMP agents: v2c by a small agent of our own, v3 by pysnmp.

pysnmp costs some 0.2 ms a variable; a hall that is polled at forty times real time can't
afford that, so v2c is answered from encoded values kept for one step. Nothing is writable.
"""

import asyncio
import hmac
import socket
from typing import Any, cast

from pysnmp.carrier.asyncio.dgram import udp
from pysnmp.entity import config as snmp_config
from pysnmp.entity.engine import SnmpEngine
from pysnmp.entity.rfc3413 import cmdrsp, context
from pysnmp.proto import rfc1902, rfc1905
from pysnmp.smi import error as smi_error
from pysnmp.smi.instrum import AbstractMibInstrumController

from simulators.devices import ber
from simulators.devices.base import free_port
from simulators.devices.mib import Entry, Mib
from simulators.secrets import Secrets
from simulators.site import SiteDevice
from simulators.world import World

_MAX_BYTES = 1400  # within one Ethernet frame
_NO_SUCH_NAME, _NOT_WRITABLE = 2, 17


def encode(entry: Entry) -> bytes:
    """Return the encoded value of an instance."""
    value = entry.get()
    match entry.type:
        case "str":
            return ber.tlv(ber.OCTETS, str(value).encode())
        case "oid":
            return ber.oid(cast(tuple[int, ...], value))
        case "ticks":
            return ber.integer(cast(int, value), ber.TICKS)
        case _:
            return ber.integer(cast(int, value))


class Agent(asyncio.DatagramProtocol):
    """Answers v1 and v2c from a Mib. Drops what it can't read and wrong communities."""

    def __init__(self, device: SiteDevice, mib: Mib, world: World, community: bytes) -> None:
        self._device, self._mib, self._world = device, mib, world
        self._community = community
        self._transport: asyncio.DatagramTransport | None = None
        self._names = {entry.oid: ber.oid(entry.oid) for entry in mib.entries}
        self._cache: dict[tuple[int, ...], bytes] = {}
        self._cached_tick = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport for answers."""
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Answer one request."""
        try:
            request = ber.read_request(data)
        except ber.BerError:
            return  # as agents do: a datagram that is no request gets no answer
        if not hmac.compare_digest(request.community, self._community):
            return
        if self._transport is not None:
            self._transport.sendto(self.answer(request), addr)

    def answer(self, request: ber.Request) -> bytes:
        """Return the response to a well-formed request."""
        if request.kind == ber.SET:
            address = ".".join(map(str, request.names[0])) if request.names else ""
            self._world.refuse(self._device.id, "snmp", address, "not writable")
            status = _NOT_WRITABLE if request.version else _NO_SUCH_NAME
            return ber.write_response(request, status, 1, request.raw_bindings)
        if request.kind == ber.GET_BULK:
            return ber.write_response(request, 0, 0, self._bulk(request))
        step = self._mib.after if request.kind == ber.GET_NEXT else self._mib.exact
        missing = ber.END_OF_MIB if request.kind == ber.GET_NEXT else ber.NO_SUCH_OBJECT
        bindings = b""
        for i, name in enumerate(request.names, 1):
            entry = step(name)
            if entry is None and request.version == 0:
                return ber.write_response(request, _NO_SUCH_NAME, i, request.raw_bindings)
            bindings += self._binding(entry) if entry else self._missing(name, missing)
        return ber.write_response(request, 0, 0, bindings)

    def _bulk(self, request: ber.Request) -> bytes:
        once, repeat = max(0, request.a), max(0, request.b)
        bindings = b""
        for name in request.names[:once]:
            entry = self._mib.after(name)
            bindings += self._binding(entry) if entry else self._missing(name, ber.END_OF_MIB)
        names = request.names[once:]
        for _ in range(repeat):
            ended = True
            for i, name in enumerate(names):
                entry = self._mib.after(name)
                piece = self._binding(entry) if entry else self._missing(name, ber.END_OF_MIB)
                if len(bindings) + len(piece) > _MAX_BYTES and bindings:
                    return bindings
                bindings += piece
                if entry:
                    names[i] = entry.oid
                    ended = False
            if ended:
                break
        return bindings

    def _binding(self, entry: Entry) -> bytes:
        if self._cached_tick != self._world.tick:
            self._cache.clear()
            self._cached_tick = self._world.tick
        found = self._cache.get(entry.oid)
        if found is None:
            found = ber.tlv(ber.SEQUENCE, self._names[entry.oid] + encode(entry))
            self._cache[entry.oid] = found
        return found

    @staticmethod
    def _missing(name: tuple[int, ...], tag: int) -> bytes:
        return ber.tlv(ber.SEQUENCE, ber.oid(name) + bytes((tag, 0)))


class SnmpV2cPdu:
    """A row PDU that speaks v1 and v2c."""

    def __init__(self, device: SiteDevice, world: World, secrets: Secrets) -> None:
        self.device = device
        self._world = world
        self._mib = Mib(device, world)
        self._community = secrets.community.encode()
        self._transport: asyncio.DatagramTransport | None = None

    async def start(self) -> None:
        """Serve on the device's address."""
        loop = asyncio.get_running_loop()
        address = (self.device.host, self.device.port)
        agent = Agent(self.device, self._mib, self._world, self._community)
        transport, _ = await loop.create_datagram_endpoint(lambda: agent, local_addr=address)
        self._transport = transport
        self.device = self.device.at(transport.get_extra_info("sockname")[1])

    async def stop(self) -> None:
        """Close the port."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None


class _Instrumentation(AbstractMibInstrumController):  # type: ignore[misc]
    """A Mib behind pysnmp's responders, with access control called through."""

    def __init__(self, device: SiteDevice, mib: Mib, world: World) -> None:
        self._device, self._mib, self._world = device, mib, world

    def read_variables(self, *bindings: Any, **about: Any) -> list[Any]:
        """GET."""
        return [self._read(i, b, about) for i, b in enumerate(bindings)]

    def _read(self, i: int, binding: Any, about: dict[str, Any]) -> Any:
        name, value = binding
        about["acFun"]("read", (name, value), **{**about, "idx": i})
        entry = self._mib.exact(tuple(name))
        return (name, rfc1905.noSuchInstance if entry is None else _pysnmp_value(entry))

    def read_next_variables(self, *bindings: Any, **about: Any) -> list[Any]:
        """GETNEXT and GETBULK."""
        out = []
        for i, (name, value) in enumerate(bindings):
            about["acFun"]("read", (name, value), **{**about, "idx": i})
            entry = self._mib.after(tuple(name))
            if entry is None:
                out.append((name, rfc1905.endOfMibView))
            else:
                out.append((rfc1902.ObjectName(entry.oid), _pysnmp_value(entry)))
        return out

    def write_variables(self, *bindings: Any, **about: Any) -> list[Any]:
        """SET: refused, and journaled."""
        address = ".".join(map(str, bindings[0][0])) if bindings else ""
        self._world.refuse(self._device.id, "snmp", address, "not writable")
        raise smi_error.NotWritableError(name=bindings[0][0], idx=0)


def _pysnmp_value(entry: Entry) -> Any:
    value = entry.get()
    types = {
        "str": rfc1902.OctetString,
        "oid": rfc1902.ObjectIdentifier,
        "ticks": rfc1902.TimeTicks,
    }
    return types.get(entry.type, rfc1902.Integer32)(value)


class SnmpV3Pdu:
    """A row PDU that speaks v3 only: SHA-256 and AES-128, one user who reads."""

    def __init__(self, device: SiteDevice, world: World, secrets: Secrets) -> None:
        self.device = device
        self._world, self._secrets = world, secrets
        self._mib = Mib(device, world)
        self._engine: SnmpEngine | None = None

    async def start(self) -> None:
        """Serve on the device's address."""
        if not self.device.port:
            self.device = self.device.at(free_port(self.device.host, socket.SOCK_DGRAM))
        engine = SnmpEngine()
        transport = udp.UdpTransport().open_server_mode((self.device.host, self.device.port))
        snmp_config.add_transport(engine, udp.DOMAIN_NAME, transport)
        user = self._secrets.v3_user
        snmp_config.add_v3_user(
            engine,
            user,
            snmp_config.USM_AUTH_HMAC192_SHA256,
            self._secrets.v3_auth,
            snmp_config.USM_PRIV_CFB128_AES,
            self._secrets.v3_priv,
        )
        # An empty write subtree would permit every write: give it one that holds nothing.
        snmp_config.add_vacm_user(engine, 3, user, "authPriv", (1, 3, 6), (1, 3, 6, 1, 6, 3, 999))
        about = context.SnmpContext(engine)
        about.unregister_context_name(b"")
        about.register_context_name(b"", _Instrumentation(self.device, self._mib, self._world))
        for responder in (
            cmdrsp.GetCommandResponder,
            cmdrsp.NextCommandResponder,
            cmdrsp.BulkCommandResponder,
            cmdrsp.SetCommandResponder,
        ):
            responder(engine, about)
        self._engine = engine
        await asyncio.sleep(0)

    async def stop(self) -> None:
        """Close the port."""
        if self._engine is not None:
            self._engine.close_dispatcher()
            self._engine = None
            await asyncio.sleep(0)
