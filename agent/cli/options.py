"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

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
