"""`skadi profile`: which device models are known, what is known of them, and tests of that."""

from pathlib import Path

import click

from agent.cli.exits import Exit, fail, print_json
from agent.cli.options import json_option, offering
from agent.profile_case import CaseError, read_case, run_case
from config.library import Profile, ProfileError, profile_names, read_profile


@click.group()
def profile() -> None:
    """Device profiles: what Skadi knows of a model, with the source of each fact."""


@profile.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the bundled profiles."""
    profiles = [read_profile(name) for name in profile_names()]
    if as_json:
        print_json([_summary(p) for p in profiles])
        return
    width = max(len(p.name) for p in profiles)
    for p in profiles:
        proven = "" if p.about.verified else "  [document only]"
        click.echo(f"{p.name:{width}}  {p.about.protocol:13}  {p.about.title}{proven}")


def _summary(p: Profile) -> dict[str, object]:
    return {
        "name": p.name, "title": p.about.title, "protocol": p.about.protocol,
        "source": p.about.source, "verified": p.about.verified, "points": len(p.points),
        "tables": len(p.tables), "writable": [r["id"] for r in p.points if r.get("writable")],
    }  # fmt: skip


@profile.command()
@click.argument("name", shell_complete=offering(profile_names))
@json_option
def show(name: str, as_json: bool) -> None:
    """Show what a profile holds."""
    try:
        p = read_profile(name)
    except ProfileError as error:
        fail(str(error), Exit.USAGE)
    if as_json:
        tables = [t.model_dump(mode="json", exclude_defaults=True) for t in p.tables]
        detail = {"point": list(p.points), "table": tables, "deny": list(p.about.deny),
                  "match": p.match.model_dump(mode="json", exclude_defaults=True)}  # fmt: skip
        print_json({**_summary(p), **detail})
        return
    click.echo(f"{p.name}: {p.about.title} ({p.about.protocol})")
    click.echo(f"source: {p.about.source}")
    click.echo("verified on a device" if p.about.verified else "from documents only: commission it")
    for raw in p.points:
        where = (
            raw.get("oid") or raw.get("register") or raw.get("object") or raw.get("metric") or ""
        )
        bounds = f", writable {raw['min']:g}..{raw['max']:g}" if raw.get("writable") else ""
        click.echo(f"  {raw['id']}: {raw['quantity']} at {where}{bounds}")
    for t in p.tables:
        click.echo(f"  {t.id}: {t.quantity} in {t.oid}")
    for oid in p.about.deny:
        click.echo(f"  never written: {oid}")


@profile.command()
@json_option
@click.argument("cases", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
def test(cases: tuple[Path, ...], as_json: bool) -> None:
    """Hold profiles against CASES: files of OIDs and the points that must come out."""
    files = [f for c in cases for f in (sorted(c.glob("*.toml")) if c.is_dir() else [c])]
    results = []
    for file in files:
        try:
            problems = run_case(read_case(file))
        except CaseError as error:
            problems = [str(error)]
        results.append({"file": str(file), "ok": not problems, "problems": problems})
        click.echo(f"{'FAIL' if problems else 'ok  '} {file}", err=True)
        for problem in problems:
            click.echo(f"     {problem}", err=True)
    passed = sum(not r["problems"] for r in results)
    click.echo(f"{passed} of {len(files)} cases pass", err=True)
    if as_json:
        print_json(results)
    if passed < len(files) or not files:
        raise click.exceptions.Exit(int(Exit.FAILURE))
