"""Exit codes of the `skadi` command, and how expected failures are shown."""

import json
from enum import IntEnum
from typing import Any, NoReturn

import click

from config.errors import ConfigError


class Exit(IntEnum):
    """What a command ends with (75, 77, 78 as in sysexits.h)."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    UNREACHABLE = 75
    REFUSED = 77
    CONFIGURATION = 78


def show_problems(error: ConfigError, out: bool = False) -> None:
    """Print every problem of a configuration, a line each."""
    for problem in error.problems:
        click.echo(str(problem), err=not out)


def fail(message: str, code: Exit = Exit.FAILURE) -> NoReturn:
    """End with a message on stderr and a code."""
    click.echo(f"skadi: {message}", err=True)
    raise click.exceptions.Exit(int(code))


def print_json(value: Any) -> None:
    """Print one JSON document on stdout."""
    click.echo(json.dumps(value, ensure_ascii=False, allow_nan=False))


def print_either(text: str, value: Any, as_json: bool) -> None:
    """Print a document as it stands, or with --json the JSON value that holds it."""
    if as_json:
        print_json(value)
    else:
        click.echo(text, nl=not text.endswith("\n"))
