"""Commands to a running agent: mode, arm, kill, release, audit.

They speak over the local socket in data_dir. kill and release also work when nobody answers.
"""

import asyncio
import os
from contextlib import nullcontext
from pathlib import Path

import click

from agent.audit import verify
from agent.cli.call import reach
from agent.cli.exits import Exit, fail, print_json
from agent.cli.options import config_option, json_option
from agent.local import KILL_FILE
from config.loader import load_site, site_environment
from drivers.gate import JournalError


def _folder(config_path: Path) -> Path:
    return Path(load_site(config_path).agent.data_dir)


@click.command()
@config_option
@json_option
@click.argument("wanted", type=click.Choice(["advisory", "closed_loop"]))
def mode(config_path: Path, as_json: bool, wanted: str) -> None:
    """Lower the running mode, or raise it up to what the site file allows."""
    operation = "mode.lower" if wanted == "advisory" else "mode.raise"
    detail = reach(config_path, operation, {}, as_json)
    if not as_json:
        click.echo(f"mode {detail['mode']}, armed: {', '.join(detail['armed']) or 'nothing'}")


@click.command()
@config_option
@json_option
@click.argument("scope", required=False)
@click.option("--off", is_flag=True, help="Disarm SCOPE instead.")
@click.option("--resume", metavar="POINT", help="Take up a point again that an operator has left.")
@click.option("--baseline", metavar="POINT",
              help="Approve what stood there before Skadi, however old: giving back writes it.")  # fmt: skip
@click.option("--reset", metavar="INTERLOCK", help="Reset a tripped interlock.")
def arm(
    config_path: Path,
    as_json: bool,
    scope: str | None,
    off: bool,
    resume: str | None,
    baseline: str | None,
    reset: str | None,
) -> None:
    """Arm SCOPE (row:A, zone:Z, equipment:E, hall), as far as the site file allows."""
    asked = {
        "disarm" if off else "arm": ("scope", scope), "resume": ("point", resume),
        "baseline.approve": ("point", baseline), "interlock.reset": ("id", reset),
    }  # fmt: skip
    wanted = [(o, {name: value}) for o, (name, value) in asked.items() if value is not None]
    if len(wanted) != 1:
        fail("give one of SCOPE, --resume POINT, --baseline POINT or --reset INTERLOCK", Exit.USAGE)
    operation, arguments = wanted[0]
    detail = reach(config_path, operation, arguments, as_json)
    if not as_json:
        click.echo(f"{operation}: {detail}")


@click.command()
@config_option
@json_option
def reload(config_path: Path, as_json: bool) -> None:
    """Let the running agent take over its edited site file: all of it, or nothing."""
    detail = reach(config_path, "reload", {}, as_json)
    if not as_json:
        for line in detail["changed"] or ["nothing has changed"]:
            click.echo(line)


@click.command()
@config_option
@json_option
@click.option("--clear", is_flag=True, help="Clear the kill switch (host and engineer only).")
def kill(config_path: Path, as_json: bool, clear: bool) -> None:
    """Stop all writing and give everything back. Works without network and broker."""
    folder = _folder(config_path)
    kill_file = folder / KILL_FILE
    try:
        if clear:
            kill_file.unlink(missing_ok=True)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            kill_file.write_text("killed\n", encoding="utf-8")  # seen even if nobody answers
    except OSError as error:
        fail(f"{kill_file}: {error.strerror}: run as the agent's user")
    hint = (
        "; if it was killed while it ran, start it (skadi run) and clear it then"
        if clear
        else f"; {kill_file} is there: an agent that starts writes nothing; what a dead one has left"
        " is given back by  skadi release"
    )
    reach(config_path, "kill.clear" if clear else "kill", {}, as_json, hint)
    if not as_json:
        click.echo(
            "kill switch cleared; mode is advisory" if clear else "killed: giving everything back"
        )


@click.command()
@config_option
@json_option
@click.option("--journal", "journal_path", type=click.Path(path_type=Path),
              help="The journal's file; with it no site file is needed.")  # fmt: skip
@click.option("--point", help="Only this one; the running agent gives it back.")
@click.option("--alone", is_flag=True,
              help="In a pair: the other agent is stopped, so that this one may write.")  # fmt: skip
def release(
    config_path: Path, as_json: bool, journal_path: Path | None, point: str | None, alone: bool
) -> None:
    """Give every held setpoint back to its device. Needs only the journal and the devices."""
    if point is not None:
        reach(config_path, "actions.give_back", {"point": point}, as_json)
        if not as_json:
            click.echo(f"{point} is given back")
        return
    from agent.clock import WallClock
    from agent.fence import fence_of
    from agent.locks import Locked, lock_folder
    from agent.logs import configure
    from agent.release import release as give_back

    configure(level="warning")  # on stderr: stdout is the answer's
    path, clock = journal_path or _journal(config_path), WallClock()
    fenced = bool if alone else fence_of(path.parent, clock)
    env = site_environment(config_path, os.environ)
    try:
        with lock_folder(path.parent) if path.parent.is_dir() else nullcontext():
            done = asyncio.run(give_back(path, env, clock, fenced))
    except Locked as error:
        fail(str(error), Exit.REFUSED)
    except JournalError as error:
        fail(str(error))
    if as_json:
        print_json(
            {"given_back": done.given_back, "yielded": done.yielded, "left": dict(done.left)}
        )
    else:
        click.echo(f"given back: {len(done.given_back)}, an operator holds: {len(done.yielded)}")
    for point, why in done.left.items():
        click.echo(f"skadi: still held: {point}: {why}", err=True)
    if done.left:
        raise click.exceptions.Exit(int(Exit.UNREACHABLE))


def _journal(config_path: Path) -> Path:
    return _folder(config_path) / "journal.db"


@click.command()
@config_option
@json_option
@click.argument("action", type=click.Choice(["verify"]))
def audit(config_path: Path, as_json: bool, action: str) -> None:
    """Follow the hash chain of the journal; any changed byte shows."""
    path = _journal(config_path)
    if not path.exists():
        fail(f"{path} does not exist; has the agent run?")
    broken = verify(path)
    if as_json:
        print_json({"ok": broken is None, "problem": broken})
    elif broken is None:
        click.echo("the log is whole")
    if broken is not None:
        fail(f"{path}: {broken}")
    assert action == "verify"
