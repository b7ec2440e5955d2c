"""`skadi completion`: what a shell needs to complete commands and options."""

import click
from click.shell_completion import get_completion_class

from agent.cli.exits import print_either
from agent.cli.options import json_option


@click.command()
@json_option
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str, as_json: bool) -> None:
    """Print the completion script of SHELL, for  eval "$(skadi completion bash)"  or a file."""
    from agent.cli import skadi

    found = get_completion_class(shell)
    assert found is not None  # click knows all three
    shown = found(skadi, {}, "skadi", "_SKADI_COMPLETE")
    script = shown.source_template % shown.source_vars()
    print_either(script, {"shell": shell, "script": script}, as_json)
