"""Options that several commands share."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

from agent.cli.exits import Exit, fail

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_CONFIG = Path("/etc/skadi/site.toml")


def config_option(function: F) -> F:
    """-c/--config FILE: the site file."""
    return click.option(
        "-c", "--config", "config_path", type=click.Path(path_type=Path), default=DEFAULT_CONFIG,
        show_default=True, envvar="SKADI_CONFIG", help="The site file.",
    )(function)  # fmt: skip


def json_option(function: F) -> F:
    """--json: one JSON document on stdout; people's lines go to stderr."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")(function)


def offering(names: Callable[[], Iterable[str]]) -> Callable[..., list[str]]:
    """What a shell completes an argument with: those of `names` that begin as it does."""
    return lambda _context, _argument, begun: [n for n in names() if n.startswith(begun)]


UNITS_S = {"s": 1.0, "m": 60.0, "h": 3_600.0}


def seconds_of(text: str, option: str) -> float:
    """A time as people write it (30s, 15m, 2h) in seconds. Ends with 2 for anything else."""
    digits, unit = text[:-1], text[-1:]
    if unit not in UNITS_S or not digits.isascii() or not digits.isdigit() or len(digits) > 6 \
            or not int(digits):  # fmt: skip
        fail(f"{option} {text!r}: write 30s, 15m or 2h", Exit.USAGE)
    return int(digits) * UNITS_S[unit]
