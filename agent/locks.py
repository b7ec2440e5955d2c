"""One writer a site: a lock on the data folder, and one on each device that may be written.

Decides who may write, on this host. The folder's lock keeps two agents from one journal; a
device's keeps an agent with another folder, or another site file, from the same device. The
kernel drops both when the process ends, however it ends: a lock can't become stale. Two
agents on two hosts are told apart at the devices: a slot that is not empty, a value that is
not ours.
"""

import fcntl
import hashlib
import os
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from config.site import Device


class Locked(Exception):
    """Somebody else is the writer. The message says who, as far as it is known, and what to do."""


def lock_folder(folder: Path) -> IO[str]:
    """Be the only agent of this data_dir; closing the file gives it up. Raises Locked."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "skadi.lock").open("a+", encoding="utf-8")
    except OSError as error:
        raise Locked(f"{folder}: {error.strerror}: choose a data_dir you may write to") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.seek(0)
        owner = lock.read(32).strip()
        lock.close()
        who = f" (process {owner})" if owner.isdigit() else ""
        raise Locked(
            f"another agent{who} runs on {folder}: there is one writer a site; stop it,"
            " or let it give everything back with  skadi kill"
        ) from None
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n")
    lock.flush()
    return lock


def lock_holder(folder: Path) -> str | None:
    """The process that holds a data_dir ("?" where it did not say), or None. Takes nothing."""
    try:
        with (folder / "skadi.lock").open(encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return lock.read(32).strip() or "?"
    except FileNotFoundError:
        return None
    return None


class Writers:
    """The locks on devices: abstract sockets (unix(7)), which vanish with the process."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []

    def claim(self, devices: Iterable[Device]) -> None:
        """Be the only writer, on this host, of these devices. Raises Locked, and claims none."""
        for device in devices:
            if not any(p.writable for p in device.points):
                continue
            place = f"{device.protocol}|{device.address}|{device.unit_id}|{device.device_instance}"
            name = hashlib.sha256(place.encode()).hexdigest()
            door = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._sockets.append(door)
            try:
                door.bind(f"\0skadi-writer-{name}")
            except OSError:
                self.free()
                raise Locked(
                    f"device {device.id} at {device.address}: another agent of this host may"
                    " write it; give it to one of them only"
                ) from None

    def free(self) -> None:
        """Give all of them up."""
        for door in self._sockets:
            door.close()
        self._sockets.clear()
