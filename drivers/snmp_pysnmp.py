"""The rare SNMPv3 ciphers, by pysnmp: DES, and AES-192/256 with Cisco's longer keys.

Decides nothing: it lends pysnmp's privacy services to drivers.snmp_usm. Imported only for a
device that is configured for one of them.
"""

from typing import Any

from pysnmp.proto.error import StatusInformation
from pysnmp.proto.rfc1902 import OctetString
from pysnmp.proto.secmod.rfc3414.service import SnmpUSMSecurityModel

from drivers.snmp_ber import Garbled

_PROTOCOLS = (1, 3, 6, 1, 6, 3, 10, 1)  # RFC 3411: snmpAuthProtocols and snmpPrivProtocols
_SIGNING = {
    "md5": (*_PROTOCOLS, 1, 2), "sha1": (*_PROTOCOLS, 1, 3), "sha224": (*_PROTOCOLS, 1, 4),
    "sha256": (*_PROTOCOLS, 1, 5), "sha384": (*_PROTOCOLS, 1, 6), "sha512": (*_PROTOCOLS, 1, 7),
}  # fmt: skip
_CISCO = (1, 3, 6, 1, 4, 1, 9, 12, 6, 1)  # the names pysnmp gives to Reeder's variants
_SERVICES = {"des": (*_PROTOCOLS, 2, 2), "aes192c": (*_CISCO, 101), "aes256c": (*_CISCO, 102)}


class PysnmpPrivacy:
    """One of pysnmp's privacy services as a drivers.snmp_privacy.Privacy."""

    def __init__(self, variant: str, password: bytes) -> None:
        self._service = SnmpUSMSecurityModel.PRIV_SERVICES[_SERVICES[variant]]
        self._password = password
        self._key: Any = None
        self.padding = 8 if variant == "des" else 0  # RFC 3414 8.1.1.2: filled to blocks of 8

    def localize(self, signing: str, engine: bytes) -> None:
        name = _SIGNING[signing]
        master = self._service.hash_passphrase(name, self._password)
        self._key = self._service.localize_key(name, master, OctetString(engine))

    def hide(self, boots: int, seconds: int, data: bytes) -> tuple[bytes, bytes]:
        hidden, salt = self._service.encrypt_data(self._key, (boots, seconds, None), data)
        return bytes(salt), bytes(hidden)

    def show(self, boots: int, seconds: int, salt: bytes, hidden: bytes) -> bytes:
        octets = OctetString(salt)
        try:
            return bytes(
                self._service.decrypt_data(self._key, (boots, seconds, octets), OctetString(hidden))
            )
        except StatusInformation as error:
            raise Garbled(f"can't be decrypted: {error}") from None
