"""The man page skadi(1), made from the commands themselves: nothing in it is written twice."""

from collections.abc import Iterator

import click

_SECTIONS = r"""
.SH EXIT STATUS
0 success; 1 failure; 2 wrong usage; 75 nobody answers; 77 refused by a limit or a role;
78 the configuration is wrong.
.SH FILES
.TP
.I /etc/skadi/site.toml
The site file, unless
.B \-\-config
or
.B SKADI_CONFIG
names another one. Beside it,
.I .env
may hold variables that secrets refer to.
.TP
.I /var/lib/skadi
The agent's own files (agent.data_dir): the journal, the local socket, history. A file named
.I KILL
in it is the kill switch.
.SH ENVIRONMENT
.TP
.B SKADI_CONFIG
The site file.
.TP
.B SKADI_SECTION__KEY
Overrides one key of the site file, as SKADI_AGENT__MODE=advisory.
.SH SIGNALS
SIGTERM and SIGINT end the agent: it gives every setpoint back first. SIGHUP reads the site file
again. SIGUSR1 is the kill switch.
"""


def page(command: click.Command, version: str) -> str:
    """The page in man's macros, for `command` and everything below it."""
    lines = [
        f'.TH SKADI 1 "" "skadi {_text(version)}" "Skadi"',
        ".SH NAME", r"skadi \- lowers the energy an AI hall spends on each prompt",
        ".SH SYNOPSIS", ".B skadi", r".I command\fR [\fIoptions\fR] [\fIarguments\fR]",
        ".SH DESCRIPTION", _text(command.help or ""), ".SH COMMANDS",
    ]  # fmt: skip
    context = click.Context(command, info_name="skadi")
    for each in below(context):
        lines += _command(each)
    return "\n".join(lines) + _SECTIONS


def below(context: click.Context) -> Iterator[click.Context]:
    """The commands under one, each with its path, groups opened."""
    group = context.command
    assert isinstance(group, click.Group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        child = click.Context(command, info_name=name, parent=context)
        if isinstance(command, click.Group):
            yield from below(child)
        else:
            yield child


def _command(context: click.Context) -> list[str]:
    usage = " ".join(context.command.collect_usage_pieces(context))
    about = (context.command.help or "").replace("\b", "").strip()
    path = context.command_path.removeprefix("skadi ")
    lines = [f".SS {_text(path)} {_text(usage)}", _text(about)]
    for parameter in context.command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and record[1] and not record[0].endswith("--help"):
            lines += [".TP", rf"\fB{_text(record[0])}\fR", _text(record[1])]
    return lines


def _text(text: str) -> str:
    """Running text without what roff would take for a request."""
    text = text.replace("\\", r"\e").replace("-", r"\-")
    lines = (line.strip() for line in text.splitlines())
    return "\n".join(
        rf"\&{line}" if line.startswith((".", "'")) else line or ".PP" for line in lines
    )
