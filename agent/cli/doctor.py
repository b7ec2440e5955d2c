"""`skadi doctor`: what keeps a site from working or from being safe, each with its way out."""

import asyncio
import os
from dataclasses import asdict
from pathlib import Path

import click

from agent.cli.exits import Exit, print_json
from agent.cli.options import config_option, json_option
from agent.local import ask
from config.loader import load_site, site_environment

_COLOUR = {"ok": "green", "note": "cyan", "bad": "red", "silent": "red"}


@click.command()
@config_option
@json_option
@click.option(
    "--matrix", is_flag=True, help="Show every device with its quantities, not only gaps."
)
@click.option("--units", "units", type=click.Path(path_type=Path), multiple=True, metavar="FOLDER",
              help="Where systemd units lie, if not where systemd has them.")  # fmt: skip
def doctor(config_path: Path, as_json: bool, matrix: bool, units: tuple[Path, ...]) -> None:
    """Look at host, journal, network, devices and every writable point. Changes nothing.

    Exit code: 0 nothing is wrong, 75 a device is silent, 1 something else is wrong.
    """
    from agent.doctor import examine as looks
    from agent.doctor import field as devices
    from agent.logs import configure
    from agent.reach import UNIT_ROOTS

    configure(level="critical")
    site = load_site(config_path)
    environ = site_environment(config_path, os.environ)
    try:
        reply = ask(Path(site.agent.data_dir), "overview")
        overview = reply["detail"] if reply["ok"] else {}
    except ConnectionError:
        overview = {}
    running = overview.get("devices")
    seen = asyncio.run(devices.look(site, running))
    table = devices.knobs(site, devices.now_s())
    notes = [
        *looks.host(site, environ, units or UNIT_ROOTS),
        *looks.services(overview),
        *devices.field(site, seen),
        *devices.writing(site, seen, table),
    ]
    if as_json:
        print_json({"notes": [asdict(n) for n in notes], "capability": seen.offers, "writable": {k: asdict(v) for k, v in table.items()},
                    "source": seen.source, "silent": dict(seen.silent)})  # fmt: skip
    else:
        for note in notes:
            mark = click.style(f"{note.level:6}", fg=_COLOUR[note.level])
            click.echo(f"{mark} {note.about:13} {note.text}")
            if note.way_out:
                click.echo(f"{'':21}→ {note.way_out}")
        for device, offers in seen.offers.items() if matrix else ():
            click.echo(f"{device:20} " + ", ".join(
                f"{q} {r['found']}/{sum(r.values())}" for q, r in offers.items()))  # fmt: skip
    levels = {n.level for n in notes}
    if "bad" in levels:
        raise click.exceptions.Exit(int(Exit.FAILURE))
    if "silent" in levels:
        raise click.exceptions.Exit(int(Exit.UNREACHABLE))
