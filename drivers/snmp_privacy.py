"""SNMPv3 encryption and the keys behind passwords.

Decides how a scoped PDU is hidden and shown again. Keys stay inside; nothing here is ever
printed. AES with 128, 192 and 256 bits is done here; DES and the AES of Cisco's making go
through pysnmp (drivers.snmp_pysnmp).

Facts: RFC 3414 A.2 (password to key, localisation), RFC 7860 (SHA-2), RFC 3826 (AES-128),
draft-blumenthal-aes-usm-04 (how a short key is lengthened for AES-192 and AES-256).
"""

import hashlib
import os
from functools import lru_cache
from typing import Protocol

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

AES_KEY_BYTES = {"aes128": 16, "aes192": 24, "aes256": 32}


@lru_cache(maxsize=64)
def _master_key(signing: str, password: bytes) -> bytes:
    """One megabyte of the password, hashed. Slow on purpose, so kept."""
    megabyte = (password * (1_048_576 // len(password) + 1))[:1_048_576]
    return hashlib.new(signing, megabyte).digest()


def localized_key(signing: str, password: bytes, engine: bytes) -> bytes:
    """The key of a password on one engine; `signing` is a hash name of hashlib."""
    master = _master_key(signing, password)
    return hashlib.new(signing, master + engine + master).digest()


class Privacy(Protocol):
    """One user's encryption towards one engine. `padding`: bytes that may follow a PDU."""

    padding: int

    def localize(self, signing: str, engine: bytes) -> None:
        """Make the key for this engine."""
        ...

    def hide(self, boots: int, seconds: int, data: bytes) -> tuple[bytes, bytes]:
        """Encrypt: (8 bytes of salt, hidden data)."""
        ...

    def show(self, boots: int, seconds: int, salt: bytes, hidden: bytes) -> bytes:
        """Decrypt. Raises Garbled for what can't be."""
        ...


class Aes:
    """AES in CFB mode, with an own salt for each message."""

    padding = 0

    def __init__(self, variant: str, password: bytes) -> None:
        self._size = AES_KEY_BYTES[variant]
        self._password = password
        self._key = b""
        self._salt = int.from_bytes(os.urandom(8), "big")

    def localize(self, signing: str, engine: bytes) -> None:
        key = localized_key(signing, self._password, engine)
        while len(key) < self._size:
            key += hashlib.new(signing, key).digest()
        self._key = key[: self._size]

    def hide(self, boots: int, seconds: int, data: bytes) -> tuple[bytes, bytes]:
        self._salt = (self._salt + 1) & 0xFFFF_FFFF_FFFF_FFFF
        salt = self._salt.to_bytes(8, "big")
        worker = self._cipher(boots, seconds, salt).encryptor()
        return salt, worker.update(data) + worker.finalize()

    def show(self, boots: int, seconds: int, salt: bytes, hidden: bytes) -> bytes:
        worker = self._cipher(boots, seconds, salt).decryptor()
        return worker.update(hidden) + worker.finalize()

    def _cipher(self, boots: int, seconds: int, salt: bytes) -> Cipher[CFB]:
        vector = boots.to_bytes(4, "big") + seconds.to_bytes(4, "big") + salt
        return Cipher(algorithms.AES(self._key), CFB(vector))
