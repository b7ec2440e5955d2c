"""`skadi completion`: what a shell needs to complete commands and options."""

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of SHELL, for  eval "$(skadi completion bash)"  or a file."""
    from agent.cli import skadi

    found = get_completion_class(shell)
    assert found is not None  # click knows all three
    script = found(skadi, {}, "skadi", "_SKADI_COMPLETE")
    click.echo(script.source_template % script.source_vars())
