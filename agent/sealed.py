"""Values that show when they were changed, and files that are written whole or not at all.

What the journal, its second copy and the audit share: a value with its checksum, entries that
are chained by hashes, a file that is replaced durably. Decides nothing about what is kept.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from agent.plain import strict_json

GENESIS = "0" * 64  # what the first entry of a chain is tied to


def link(previous: str, seq: int, at_s: float, kind: str, body: str) -> str:
    """The hash of an entry, which ties it to the one before."""
    return _sha256(f"{previous}|{seq}|{at_s!r}|{kind}|{body}")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def seal(value: Any, place: str = "") -> str:
    """A value with its checksum before it, bound to its place: SQLite has none of its own."""
    text = strict_json(value)
    return f"{_sha256(place + text)} {text}"


def unseal(sealed: str, place: str = "") -> Any:
    """The value behind a seal. Raises ValueError when it is not what was sealed there."""
    checksum, _, text = str(sealed).partition(" ")
    if _sha256(place + text) != checksum:
        raise ValueError("a stored value does not fit its checksum")
    return json.loads(text)


def read_sealed(path: Path) -> dict[str, Any]:
    """The object in a sealed file, or nothing when there is none or it is not whole."""
    try:
        content: dict[str, Any] = unseal(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return content


def replace_durably(path: Path, text: str) -> None:
    """Replace a file's content: all of it or nothing, whatever is cut off. Raises OSError."""
    new = f"{path}.new"  # a plain name: this comes before every write to a device
    with open(new, "wb") as file:
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def lay_reserve(path: Path, size: int) -> None:
    """Take disk space for later, if there is room: its absence must not stop anything."""
    if path.exists():
        return
    try:
        with path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)
    except OSError:
        path.unlink(missing_ok=True)
