"""`skadi commission POINT`: one step of one actuator, with a person's consent, and what it showed."""

import asyncio
from pathlib import Path
from typing import Any

import click

from agent.cli.call import reach
from agent.cli.exits import Exit, fail
from agent.cli.field import consent
from agent.cli.options import config_option, json_option, seconds_of
from agent.clock import WallClock
from config.loader import load_site

LOOK_S = 1.0
SHOWN = 12  # responses


@click.command()
@config_option
@json_option
@click.argument("point")
@click.option("--yes", is_flag=True, help="Do it without asking.")
@click.option(
    "--step", type=float, help="How far, signed; default: max_step, towards the safe side."
)
@click.option(
    "--settle", metavar="TIME", help="How long to watch (90s, 10m); default: its settle_s."
)
@click.option("--accept", metavar="WHY", default="",
              help="Pass it even if no sensor shows the effect; never with a wrong sign.")  # fmt: skip
def commission(
    config_path: Path, as_json: bool, point: str, yes: bool, step: float | None,
    settle: str | None, accept: str,
) -> None:  # fmt: skip
    """Try POINT: one step inside its envelope, watch the effect, give it back, store the result.

    closed_loop writes no point that has not passed (simulated sites excepted). Needs the running
    agent in closed_loop with the point's scope armed; its loops leave the point alone until then.
    """
    site = load_site(config_path)
    if point not in site.writable_points:
        known = ", ".join(site.writable_points) or "none"
        fail(f"{point!r} is no writable point of this site; there are: {known}", Exit.USAGE)
    body: dict[str, Any] = {"point": point, "accept": accept[:200]}
    if step is not None:
        body["step"] = step
    if settle is not None:
        body["settle_s"] = seconds_of(settle, "--settle")
    plan = reach(config_path, "commission", body | {"dry_run": True})
    unit = f" {plan['unit']}".rstrip()
    click.echo(
        f"{point}: {plan['old']:g} -> {plan['new']:g}{unit}, then back. {plan['before_s']:g} s to look"
        f" at {plan['sensors']} sensors, {plan['settle_s']:g} s to watch the effect.", err=as_json
    )  # fmt: skip
    if not yes and not consent("Somebody watches the equipment. Make the step?"):
        fail("not begun: say yes, or add --yes", Exit.USAGE)
    reach(config_path, "commission", body)
    result = _follow(config_path)
    if as_json:
        from agent.cli.exits import print_json

        print_json(result)
    else:
        _show(result, unit)
    for why in (*result["problems"], *result["unclear"]):
        click.echo(f"skadi: {point}: {why}", err=True)
    if result["ok"]:
        click.echo(f"{point} is commissioned", err=True)
        return
    if "rule" in result:
        raise click.exceptions.Exit(int(Exit.REFUSED))
    hint = '; look at the plant; --accept "WHY" if you know why' if not result["problems"] else ""
    fail(f"{point} is not commissioned{hint}")


def _follow(config_path: Path) -> dict[str, Any]:
    """Ask until it is over, saying each new stage. It goes on if nobody asks."""
    stage = ""
    while True:
        view = reach(config_path, "commission.status", {})
        if view["stage"] != stage and view["running"]:
            stage = view["stage"]
            click.echo(f"  {stage} …", err=True)
        if not view["running"]:
            return view
        asyncio.run(WallClock().sleep_s(LOOK_S))


def _show(result: dict[str, Any], unit: str) -> None:
    """old -> new -> effect."""
    if "read_back" not in result:
        return
    click.echo(f"  {result['old']:g} -> {result['read_back']:g}{unit}, read back, given back")
    found = sorted(result.get("responses", ()), key=lambda r: (r["right"] is None, r["delay_s"]))
    for r in found[:SHOWN]:
        sign = {True: "right sign", False: "WRONG SIGN", None: ""}[r["right"]]
        click.echo(
            f"  {r['sensor']:40} {r['before']:.4g} -> {r['after']:.4g} after {r['delay_s']:.0f} s  {sign}"
        )
    if len(found) > SHOWN:
        click.echo(f"  … and {len(found) - SHOWN} more sensors responded")
