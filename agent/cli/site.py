"""Commands about a site file: init, check, schema, once. None of them writes to data_dir."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import click

from agent.cli.exits import Exit, fail, print_either, print_json, show_problems
from agent.cli.options import config_option, json_option
from agent.reading_json import reading_json
from config.errors import ConfigError
from config.loader import load_site
from config.show import given_back, show_site
from config.site import NO_RACKS
from config.starter import starter_file


@click.command()
@json_option
@click.argument("file", type=click.Path(path_type=Path), default="site.toml")
@click.option("--force", is_flag=True, help="Overwrite FILE, or the drop-in.")
@click.option("--drop-in", "drop_in_path", type=click.Path(path_type=Path, allow_dash=True), metavar="PATH",
              help="Write the systemd drop-in for the devices of FILE to PATH (- prints it).")  # fmt: skip
def init(as_json: bool, file: Path, force: bool, drop_in_path: Path | None) -> None:
    """Write a commented start file for a site of your own; with --drop-in, what systemd must open for it.

    The units let the agent speak to this host alone. The drop-in belongs at
    /etc/systemd/system/skadi.service.d/10-devices.conf
    """
    if drop_in_path is not None:
        _drop_in(file, drop_in_path, force, as_json)
        return
    _write_new(file, starter_file(), force)
    click.echo(f"wrote {file}; next: edit the devices (skadi scan writes them for you), then"
               f"  skadi check -c {file}", err=True)  # fmt: skip
    if as_json:
        print_json({"wrote": str(file)})


def _drop_in(file: Path, path: Path, force: bool, as_json: bool) -> None:
    from agent.reach import drop_in

    text, left = drop_in(load_site(file))
    for why in left:
        click.echo(f"skadi: {why}", err=True)
    if str(path) == "-":
        print_either(text, {"wrote": None, "text": text, "left_out": left}, as_json)
        return
    target = path / "10-devices.conf" if path.is_dir() else path
    _write_new(target, text, force)
    if as_json:
        print_json({"wrote": str(target), "text": text, "left_out": left})
    click.echo(
        f"wrote {target}; next: ln -sfn skadi.service.d /etc/systemd/system/skadi-release.service.d"
        " && systemctl daemon-reload && systemctl restart skadi", err=True
    )  # fmt: skip


def _write_new(file: Path, text: str, force: bool) -> None:
    """Write a file that was not there, or may be overwritten."""
    if file.exists() and not force:
        fail(f"{file} exists; choose another name, or --force to overwrite it", Exit.USAGE)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        fail(f"{file}: {error.strerror}: choose a folder you may write to")


@click.command()
@config_option
@json_option
@click.option("--show", is_flag=True, help="Print the effective configuration, secrets masked.")
def check(config_path: Path, as_json: bool, show: bool) -> None:
    """Check a site file without touching the network. Every problem with its file, line and key."""
    try:
        site = load_site(config_path)
    except ConfigError as error:
        if as_json:
            print_json([
                {"file": p.file, "line": p.line, "key": p.key, "problem": p.text} for p in error.problems
            ])  # fmt: skip
        else:
            show_problems(error, out=True)
        raise click.exceptions.Exit(int(Exit.CONFIGURATION)) from None
    if as_json:
        print_json(show_site(site) if show else [])
        return
    if show:
        click.echo(json.dumps(show_site(site), indent=2, ensure_ascii=False))
    for line in _summary(site):
        click.echo(line, err=True)
    click.echo(f"next: skadi once -c {config_path}  reads every point; skadi doctor looks further",
               err=True)  # fmt: skip


def _summary(site: Any) -> list[str]:
    writable = site.writable_points.values()
    lines = [
        f"{site.source}: ok: {len(site.devices)} devices, {len(site.points)} points,"
        f" {len(site.writable_points)} writable, {len(site.racks)} racks in {len(site.rows)} rows"
    ]
    if not site.racks and site.of_quantity("inlet_c", "pdu_kw"):
        lines.append(f"  {NO_RACKS}")
    for p in writable:
        w = p.writable
        how = given_back(p, site.device[p.device])
        lines.append(f"  {p.key}: {w.min:g}..{w.max:g} {p.unit}, giving back: {how}")
    lines += [f"  {k}: not commissioned: closed_loop leaves it alone until  skadi commission {k}"
              for k in _untried(site)]  # fmt: skip
    return lines


def _untried(site: Any) -> list[str]:
    """The armed points without a trial, as far as the journal can be read."""
    from agent.audit import read_kept
    from agent.memory import COMMISSIONED, not_commissioned, still_commissioned
    from drivers.gate import JournalError

    path = Path(site.agent.data_dir) / "journal.db"
    try:
        kept = read_kept(path, COMMISSIONED) or {}
    except (JournalError, OSError) as error:
        click.echo(f"skadi: which actuators were commissioned is not known: {error}", err=True)
        kept = {}
    return not_commissioned(site, still_commissioned(site, kept))


@click.command()
@json_option
@click.argument("what", type=click.Choice(["config", "openapi", "mqtt", "man"]), default="config")
def schema(as_json: bool, what: str) -> None:
    """Print the JSON schema of a site file (config), the HTTP API's OpenAPI, MQTT's schemas, or the man page.

    The schemas are JSON as they are; --json makes it one line, and wraps the man page.
    """
    if what == "man":
        from agent.cli import skadi
        from agent.cli.man import page
        from agent.surfaces import own_version

        text = page(skadi, own_version())
        print_either(text, {"man": text}, as_json)
        return
    if what == "openapi":
        from agent.api.app import make_app

        shown = make_app(None).openapi()
    elif what == "mqtt":
        from agent.mqtt.payload import SCHEMA, TOPICS
        from agent.mqtt.schema import SCHEMAS

        shown = {"schema": SCHEMA, "topics": TOPICS, "schemas": SCHEMAS}
    else:
        from config.jsonschema import site_schema

        shown = site_schema()
    print_either(json.dumps(shown, indent=2), shown, as_json)


@click.command()
@config_option
@json_option
def once(config_path: Path, as_json: bool) -> None:
    """Read every point once and print it. Writes nothing anywhere."""
    from agent.logs import configure
    from agent.once import read_all

    configure(level="error")
    site = load_site(config_path)
    readings, failures = asyncio.run(read_all(site))
    rows = [reading_json(site.points[r.point], r) for r in readings]
    if as_json:
        print_json(rows)
    else:
        for row in rows:
            value = "-" if row["value"] is None else f"{row['value']:.6g}"
            name = f"{row['device']}/{row['point']}"
            click.echo(f"{name:40} {value:>12} {row['unit']:5} {row['quality']:8} {row['reason']}")
    for device, reason in failures.items():
        click.echo(f"skadi: {device}: {reason.removeprefix(f'{device}: ')}", err=True)
    sys.stdout.flush()
    if len(failures) == len(site.devices) > 1:
        way_out = "start it (skadi sim)" if site.simulated else "look at this host's network first"
        click.echo(f"skadi: nothing answers at all: {way_out}", err=True)
    if failures:
        raise click.exceptions.Exit(int(Exit.UNREACHABLE))
