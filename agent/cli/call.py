"""`skadi call`: any operation of the table on a running agent, by its name, with JSON arguments.

What HTTP does with POST /operations/NAME and MQTT with a command: the same call, the same audit.
"""

import json
from pathlib import Path
from typing import Any

import click

from agent.cli.exits import Exit, fail, print_json
from agent.cli.options import config_option, json_option, offering
from agent.local import ask
from config.loader import load_site


def reach(
    config_path: Path,
    operation: str,
    arguments: dict[str, Any],
    as_json: bool = False,
    hint: str = "; is it running? (skadi run)",
) -> dict[str, Any]:
    """Ask the running agent; its answer's detail, printed where JSON is wanted.

    A refusal ends with 77 (its detail is printed too), silence with 75 and the hint.
    """
    folder = Path(load_site(config_path).agent.data_dir)
    try:
        reply = ask(folder, operation, arguments)
    except ConnectionError as error:
        if isinstance(error.__cause__, PermissionError):
            hint = (
                "; ask as the agent's user (sudo -u skadi skadi ...), or as a member of its group"
            )
        fail(f"{error}{hint}", Exit.UNREACHABLE)
    detail: dict[str, Any] = reply["detail"]
    if as_json and (reply["ok"] or reply.get("refused")):
        print_json(detail)
    if not reply["ok"]:
        code = Exit.REFUSED if reply.get("refused") else Exit.FAILURE
        fail(str(detail.get("reason", "refused")), code)
    return detail


def _operations() -> list[str]:
    from agent.operations.table import OPERATIONS

    return list(OPERATIONS)


@click.command()
@config_option
@json_option
@click.argument("operation", required=False, shell_complete=offering(_operations))
@click.argument("arguments", required=False, metavar="[JSON]", default="{}")
def call(config_path: Path, as_json: bool, operation: str | None, arguments: str) -> None:
    """Call OPERATION with arguments as a JSON object; without a name, list what there is."""
    if operation is None:
        _list(as_json)
        return
    try:
        given = json.loads(arguments)
    except (ValueError, RecursionError) as error:
        fail(f"{arguments[:80]!r} is no JSON: {error}", Exit.USAGE)
    if not isinstance(given, dict):
        fail(f"""{arguments[:80]!r}: give an object, as '{{"point": "crac-a1/fan"}}'""", Exit.USAGE)
    detail = reach(config_path, operation, given)
    if as_json:
        print_json(detail)
    else:
        click.echo(json.dumps(detail, indent=2, ensure_ascii=False, default=str))


def _list(as_json: bool) -> None:
    from agent.glossary import described
    from agent.operations.table import OPERATIONS

    operations = OPERATIONS.values()
    if as_json:
        print_json([
            {"operation": o.name, "role": o.role, "changes": o.changes,
             "arguments": described(o.arguments.__name__, o.arguments.model_json_schema())}
            for o in operations
        ])  # fmt: skip
        return
    for o in operations:
        click.echo(f"{o.name:18} {o.role:9} {', '.join(sorted(o.arguments.model_fields))}")
