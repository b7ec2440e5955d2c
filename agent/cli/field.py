"""`skadi read`, `skadi watch`, `skadi write`: single points, from a terminal.

read and watch ask the running agent, or the devices where none runs. write always goes through
the running agent, hence both rings, the journal and read-back: a setpoint is a lease, and it
takes an agent to end it.
"""

import asyncio
import json
from pathlib import Path
from typing import Any

import click

from agent.cli.call import reach
from agent.cli.exits import Exit, fail, print_json
from agent.cli.options import config_option, json_option, seconds_of
from agent.clock import WallClock
from agent.field import NoSuchPoint, matching, rows
from agent.local import ask
from config.loader import load_site
from config.show import given_back
from config.site import Site

direct_option = click.option(
    "--direct", is_flag=True, help="Read from the devices even where an agent runs."
)


def _read(site: Site, wanted: tuple[str, ...], direct: bool) -> tuple[list[dict[str, Any]], str]:
    """The readings and where they are from. Ends with 2 for a name that means nothing."""
    try:
        points = matching(site, wanted)
    except NoSuchPoint as error:
        fail(str(error), Exit.USAGE)
    if not direct:
        try:
            reply = ask(Path(site.agent.data_dir), "read", {"points": list(wanted)})
        except ConnectionError:
            pass  # none runs: look for ourselves
        else:
            if not reply["ok"]:
                fail(f"the running agent: {reply['detail']['reason']}: it has another site file")
            return reply["detail"]["readings"], "the running agent"
    from agent.logs import configure
    from agent.once import read_all

    configure(level="error")
    found, failures = asyncio.run(read_all(site, points))
    for device, reason in failures.items():
        click.echo(f"skadi: {device}: {reason}", err=True)
    return rows(points, found), "the devices"


def _line(row: dict[str, Any]) -> str:
    value = "-" if row["value"] is None else f"{row['value']:.6g}"
    ours = f"held by Skadi at {row['held']:g}" if row["held"] is not None else ""
    return (
        f"{row['key']:40} {value:>12} {row['unit']:5} {row['quality']:8} {row['reason'] or ours}"
    ).rstrip()


@click.command()
@config_option
@json_option
@direct_option
@click.argument("what", nargs=-1)
def read(config_path: Path, as_json: bool, direct: bool, what: tuple[str, ...]) -> None:
    """Read WHAT now: points, devices, quantities or patterns ("crac-*/supply*"); default all.

    Writes nothing anywhere.
    """
    found, source = _read(load_site(config_path), what, direct)
    if as_json:
        print_json(found)
    else:
        for row in found:
            click.echo(_line(row))
    click.echo(f"{len(found)} points, from {source}", err=True)
    if any(row["quality"] == "unknown" for row in found):
        raise click.exceptions.Exit(int(Exit.UNREACHABLE))


@click.command()
@config_option
@json_option
@direct_option
@click.option("--every", default="5s", show_default=True, help="How often to look: 2s, 1m.")
@click.option("--count", type=click.IntRange(min=1), help="Look this often, then end.")
@click.argument("what", nargs=-1)
def watch(
    config_path: Path, as_json: bool, direct: bool, every: str, count: int | None,
    what: tuple[str, ...],
) -> None:  # fmt: skip
    """Print WHAT (as in `skadi read`) and then each change of it, until Ctrl-C."""
    site, every_s = load_site(config_path), seconds_of(every, "--every")
    shown: dict[str, tuple[Any, ...]] = {}
    looks = 0
    while True:
        found, source = _read(site, what, direct)
        if not looks:
            click.echo(f"{len(found)} points, from {source}, every {every_s:g} s", err=True)
        for row in found:
            look = (row["value"], row["quality"], row["held"])
            if shown.get(row["key"]) == look:
                continue
            shown[row["key"]] = look
            click.echo(json.dumps(row) if as_json else f"{row['ts'][11:19]} {_line(row)}")
        looks += 1
        if looks == count:
            return
        asyncio.run(WallClock().sleep_s(every_s))


@click.command()
@config_option
@json_option
@click.argument("point")
@click.argument("value", type=float)
@click.option("--yes", is_flag=True, help="Do it without asking.")
@click.option(
    "--for",
    "for_",
    metavar="TIME",
    help="Give it back after TIME (15m, 2h); default: limits.lease_s.",
)
@click.option("--reason", default="skadi write", show_default=True, help="Why; it is audited.")
def write(
    config_path: Path, as_json: bool, point: str, value: float, yes: bool, for_: str | None,
    reason: str,
) -> None:  # fmt: skip
    """Write VALUE to POINT, as a lease, through both rings; then read it back.

    Refused by a limit: exit 77, with the rule and its numbers. In advisory mode nothing is written.
    """
    site = load_site(config_path)
    body: dict[str, Any] = {"changes": [{"point": point, "value": value}], "reason": reason[:200]}
    if for_ is not None:
        body["hold_s"] = seconds_of(for_, "--for")
    _refuse_early(site, point, value, as_json)
    hint = f"; a setpoint is a lease and takes an agent to end it: skadi run -c {config_path}"
    plan = reach(config_path, "actions.apply", body | {"dry_run": True}, hint=hint)
    p = site.points[point]
    old, new = plan["changes"][point]
    unit = f" {p.about.unit}".rstrip()
    was = "unknown" if old is None else f"{old:g}"
    click.echo(f"{point}: {was} -> {new:g}{unit}", err=as_json)
    click.echo(f"  giving back: {given_back(p, site.device[p.device])}", err=as_json)
    if plan["objections"]:
        _refused(plan, plan["objections"][0].partition(": "), as_json)
    if not yes and not consent("write it?"):
        fail("not written: say yes, or add --yes", Exit.USAGE)
    done = reach(config_path, "actions.apply", body, hint=hint, as_json=as_json)
    if not as_json:
        ours = done["held"][point]
        click.echo(
            f"  written and read back: {ours['value']:g}{unit}; held until {ours['expires'][:19]}Z"
            f" ({ours['expires_s'] / 60:.0f} min)"
            + (f" at priority {ours['priority']}" if ours["priority"] is not None else "")
        )
        click.echo(f"  earlier: skadi release --point {point}")


def _refuse_early(site: Site, point: str, value: float, as_json: bool) -> None:
    """What the site file alone forbids needs no agent to be refused."""
    try:
        found = matching(site, [point])
    except NoSuchPoint as error:
        fail(str(error), Exit.USAGE)
    if [p.key for p in found] != [point]:
        fail(f"{point} is no single point: {', '.join(p.key for p in found[:5])}", Exit.USAGE)
    bounds = found[0].writable
    if bounds is None:
        rule = ("known", ": ", f"{point} is not writable in the site file (writable = true)")
        _refused({}, rule, as_json)
    elif not bounds.min <= value <= bounds.max:
        rule = ("envelope", ": ", f"{point}: {value:g} outside {bounds.min:g}..{bounds.max:g}")
        _refused({}, rule, as_json)


def _refused(plan: dict[str, Any], rule: tuple[str, str, str], as_json: bool) -> None:
    """End with 77: nothing was written, by which rule and numbers, and the way out."""
    name, _, numbers = rule
    if as_json:
        print_json(plan | {"applied": False, "rule": name, "numbers": numbers})
    others = [o for o in plan.get("objections", ()) if not o.startswith(f"{name}: ")]
    for objection in others:
        click.echo(f"  it would also meet {objection}", err=True)
    fail(f"nothing written; refused by {name}: {numbers}{WAY_OUT.get(name, '')}", Exit.REFUSED)


WAY_OUT = {
    "mode": "; agent.mode and agent.armed in the site file are the ceiling, skadi mode and skadi arm"
    " raise up to it",
    "rate": "; wait, or give back what is held",
    "step": "; go there in smaller steps",
    "interlock": "; look at the plant, then  skadi arm --reset ID",
}  # fmt: skip


def consent(question: str) -> bool:
    """Ask a person; no terminal, no consent."""
    try:
        return click.confirm(question, default=False, err=True)
    except click.Abort:
        return False
