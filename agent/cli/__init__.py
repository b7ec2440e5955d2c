"""The `skadi` command: one table of subcommands, each imported only when it is used.

Exit codes: 0 ok, 1 failure, 2 usage, 75 unreachable, 77 refused by a limit, 78 configuration.
"""

import sys
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import click

from agent.cli.exits import Exit, show_problems
from config.errors import ConfigError

# name -> "module:command". The command's own docstring is its help.
COMMANDS: dict[str, str] = {
    "init": "agent.cli.site:init",
    "check": "agent.cli.site:check",
    "schema": "agent.cli.site:schema",
    "once": "agent.cli.site:once",
    "read": "agent.cli.field:read",
    "watch": "agent.cli.field:watch",
    "write": "agent.cli.field:write",
    "commission": "agent.cli.commission:commission",
    "run": "agent.cli.run:run",
    "status": "agent.cli.look:status",
    "top": "agent.cli.look:top",
    "reload": "agent.cli.operate:reload",
    "mode": "agent.cli.operate:mode",
    "arm": "agent.cli.operate:arm",
    "kill": "agent.cli.operate:kill",
    "release": "agent.cli.operate:release",
    "doctor": "agent.cli.doctor:doctor",
    "call": "agent.cli.call:call",
    "alarm": "agent.cli.alarm:alarm",
    "explain": "agent.cli.explain:explain",
    "report": "agent.cli.report:report",
    "log": "agent.cli.log:log",
    "history": "agent.cli.history:history",
    "dataset": "agent.cli.dataset:dataset",
    "fleet": "agent.cli.fleet:fleet",
    "audit": "agent.cli.operate:audit",
    "train": "agent.cli.monitoring:train",
    "score": "agent.cli.monitoring:score",
    "replay": "agent.cli.replay:replay",
    "models": "agent.cli.models:models",
    "scan": "agent.cli.scan:scan",
    "profile": "agent.cli.profile:profile",
    "rehearse": "agent.cli.rehearse:rehearse",
    "demo": "agent.cli.demo:demo",
    "completion": "agent.cli.completion:completion",
    "sim": "agent.cli.sim:sim",
}


class Lazy(click.Group):
    """A group that imports a subcommand when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command behind a name."""
        if cmd_name not in COMMANDS:
            near = get_close_matches(cmd_name, COMMANDS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "skadi --help lists them"
            raise click.UsageError(f"no command {cmd_name!r}; {hint}", ctx)
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command


@click.command(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="skadi", prog_name="skadi")
def skadi() -> None:
    """Skadi lowers the energy an AI hall spends on each prompt, and can be trusted with its setpoints."""


def main(argv: list[str] | None = None) -> Any:
    """Run the command line; every expected failure ends with its exit code and a way out."""
    try:
        # Without standalone mode click answers a command's Exit with its code.
        code = skadi.main(args=argv, prog_name="skadi", standalone_mode=False) or 0
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except click.Abort:
        code = 130
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except ConfigError as error:
        show_problems(error)
        code = Exit.CONFIGURATION
    sys.exit(code)
