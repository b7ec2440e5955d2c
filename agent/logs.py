"""How the agent logs: JSON lines under systemd and in pipes, readable lines in a terminal.

Decides the form of log lines and what must not stand in them. Always stderr: stdout belongs to
the command's own output. No secret may pass: neither by value (SecretStr), by key, nor inside a
URL; and no traceback may show local variables.
"""

import json
import logging
import os
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, TextIO

import structlog
from pydantic import SecretBytes, SecretStr

from agent.clock import Clock, WallClock, utc

MASK = "***"
_SECRET_WORDS = {
    "password", "passwd", "passphrase", "secret", "token", "community", "authorization",
    "apikey", "cookie",
}  # fmt: skip
_PASSWORD_IN_URL = re.compile(r"(://[^/\s:@]*:)[^/\s@]+@")
_BEARER = re.compile(r"\b(Bearer|Basic)\s+[\w.~+/=-]+", re.IGNORECASE)
_DEPTH = 4  # nesting of a log value that is looked into; deeper is shown as its repr, masked

# Chatty libraries: their warnings say again, every time, what we say once.
_QUIET = {
    "apscheduler": logging.ERROR,
    "aiosqlite": logging.ERROR,
    "sqlalchemy.pool": logging.CRITICAL,
    "alembic": logging.WARNING,
    "asyncio": logging.WARNING,
    "amqtt": logging.ERROR,
    "transitions": logging.ERROR,
    "pymodbus": logging.CRITICAL,
    "aiohttp.access": logging.WARNING,
}
# sd-daemon(3): journald reads "<N>" at the start of a line as its priority.
_PRIORITY = {"critical": 2, "error": 3, "exception": 3, "warning": 4, "info": 6, "debug": 7}


def configure(
    level: str = "info",
    clock: Clock | None = None,
    stream: TextIO | None = None,
    as_json: bool | None = None,
) -> None:
    """Set up structlog and the standard library's logging, once a process, on `stream` (stderr).

    as_json: None chooses: readable lines in a terminal, JSON otherwise. Lines are stamped with
    the agent's own time, in UTC. Raises ValueError for an unknown level.
    """
    out = sys.stderr if stream is None else stream
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"log level {level!r}: use debug, info, warning, error or critical")
    readable = out.isatty() if as_json is None else not as_json
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        _Stamp(clock or WallClock()),
    ]
    # Tracebacks become text before masking: messages of exceptions carry URLs.
    last: list[Any] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        mask,
    ]
    if readable:
        colors = out.isatty() and "NO_COLOR" not in os.environ
        plain = structlog.dev.plain_traceback
        last.append(structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain))
    else:
        last.append(_Lines(_is_journal(out)))
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=last)
    )
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(number)
    for name, lowest in _QUIET.items():
        logging.getLogger(name).setLevel(max(lowest, number))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


class _Stamp:
    """Adds `ts`, the agent's time in UTC."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def __call__(
        self, _logger: Any, _name: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        event["ts"] = utc(self._clock.now_s())
        return event


class _Lines:
    """One JSON object a line, what matters first; with journald's priority where it listens."""

    def __init__(self, journal: bool) -> None:
        self._journal = journal

    def __call__(self, _logger: Any, _name: str, event: MutableMapping[str, Any]) -> str:
        first = {key: event.pop(key) for key in ("ts", "level", "event", "logger") if key in event}
        line = json.dumps(first | dict(event), default=repr)
        if not self._journal:
            return line
        return f"<{_PRIORITY.get(str(first.get('level')), 6)}>{line}"


def mask(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The processor that keeps secrets out: by type, by key, and in the text of URLs."""
    for key, value in event.items():
        event[key] = MASK if _names_secret(key) else masked(value)
    return event


def masked(value: Any, depth: int = _DEPTH) -> Any:
    """`value` as plain data for a log line or a page, with every secret in it replaced."""
    match value:
        case SecretStr() | SecretBytes():
            return MASK
        case str():
            return _BEARER.sub(rf"\1 {MASK}", _PASSWORD_IN_URL.sub(rf"\1{MASK}@", value))
        case bool() | int() | float() | None:
            return value
        case Mapping() if depth > 0:
            return {
                str(k): MASK if _names_secret(str(k)) else masked(v, depth - 1)
                for k, v in value.items()
            }
        case list() | tuple() | set() | frozenset() if depth > 0:
            return [masked(item, depth - 1) for item in value]
        case _:
            return masked(repr(value))


def _names_secret(key: str) -> bool:
    words = re.split(r"[^a-z]+", key.lower())
    return not _SECRET_WORDS.isdisjoint(words)


def _is_journal(out: TextIO) -> bool:
    """True when `out` is the very stream systemd connected to its journal (systemd.exec(5))."""
    try:
        device, inode = os.environ["JOURNAL_STREAM"].split(":")
        about = os.fstat(out.fileno())
        return (about.st_dev, about.st_ino) == (int(device), int(inode))
    except (KeyError, ValueError, OSError):
        return False  # no journal, or no file behind the stream


class Outage:
    """Says once that something is lost and once that it is back, however often it is tried."""

    def __init__(self, what: str, **context: object) -> None:
        self._log = structlog.get_logger(__name__).bind(**context)
        self._what = what
        self.failures = 0
        self.reason = ""

    @property
    def lost(self) -> bool:
        """True between the first failure and the recovery."""
        return self.failures > 0

    def failed(self, reason: str, **details: object) -> None:
        """Note a failure; only the first since all was well is logged."""
        self.failures += 1
        self.reason = reason
        if self.failures == 1:
            self._log.warning(f"{self._what} lost", reason=reason, **details)

    def worked(self, **details: object) -> None:
        """Note a success; logged only when it ends an outage."""
        if self.failures:
            self._log.info(f"{self._what} back", after_failures=self.failures, **details)
        self.failures = 0
        self.reason = ""
