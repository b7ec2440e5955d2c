"""`skadi report`: a stretch of time as JSON, one HTML file or a PDF. Reads history; needs no agent."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import click

from agent.cli.exits import Exit, fail
from agent.cli.options import config_option
from config.loader import load_site, site_environment
from config.site import NO_RACKS, Site

NOTHING = (
    "  nothing of this time is in history: a minute is kept when it is over; is the agent running"
    " (skadi status), and is --since right?"
)


@click.command()
@config_option
@click.option("--since", default="24h", show_default=True,
              help="How far back (90m, 24h, 7d), or a time like 2026-01-31T12:00:00Z.")  # fmt: skip
@click.option("--until", help="A time like 2026-01-31T12:00:00Z, or how far back; default: now.")
@click.option("--html", "html_path", type=click.Path(path_type=Path), help="Write a page.")
@click.option("--pdf", "pdf_path", type=click.Path(path_type=Path), help="Write a PDF.")
@click.option("--json", "json_path", type=click.Path(path_type=Path, allow_dash=True), is_flag=False,
              flag_value=Path("-"), help="Write JSON; without a file, or with -, on stdout.")  # fmt: skip
@click.option("--rehearsal", "rehearsals", multiple=True, metavar="FILE",
              type=click.Path(path_type=Path),
              help="What  skadi rehearse --json  (or demo --json) has printed; can be repeated."
                   " What lies in DATA_DIR/rehearsals is taken by itself.")  # fmt: skip
def report(
    config_path: Path, since: str, until: str | None, html_path: Path | None, pdf_path: Path | None,
    json_path: Path | None, rehearsals: tuple[Path, ...],
) -> None:  # fmt: skip
    """What a stretch of time was like: energy, limits, actions. One file, no network to open it."""
    from agent.clock import WallClock
    from agent.history.service import HistoryDown
    from agent.logs import configure
    from agent.reports.rehearsal import kept

    configure(level="error")
    site = load_site(config_path)
    now_s = WallClock().now_s()
    until_s = moment(until, now_s) if until else now_s
    environ = dict(site_environment(config_path, os.environ))
    runs, wrong = kept(Path(site.agent.data_dir))
    for why in wrong:
        click.echo(f"skadi: {why}", err=True)
    runs += [run for path in rehearsals for run in _runs(path)]
    try:
        found = asyncio.run(_collect(site, environ, moment(since, now_s), until_s, now_s, runs))
    except HistoryDown as error:
        fail(str(error), Exit.UNREACHABLE)
    except ValueError as error:
        fail(str(error), Exit.USAGE)
    _write(found, html_path, pdf_path, json_path)


def _runs(path: Path) -> list[dict[str, Any]]:
    from agent.reports.rehearsal import read_results

    try:
        return read_results(path)
    except (OSError, ValueError) as error:
        fail(f"--rehearsal {path}: {error}", Exit.USAGE)


def moment(text: str, now_s: float) -> float:
    """POSIX seconds of "24h" (before now) or of a time in ISO 8601; ends with usage otherwise."""
    from agent.clock import moment as meant

    at_s = meant(text, now_s)
    if at_s is None:
        fail(f"{text!r}: write 90m, 24h, 7d, or a time like 2026-01-31T12:00:00Z", Exit.USAGE)
    return at_s


async def _collect(
    site: Site, environ: dict[str, str], since_s: float, until_s: float, now_s: float,
    runs: list[dict[str, Any]],
) -> dict[str, Any]:  # fmt: skip
    from agent.clock import WallClock
    from agent.history.service import History
    from agent.reports.gather import report as collect

    history = History(site, WallClock(), environ)
    try:
        return await collect(history, site, since_s, until_s, now_s, runs)
    finally:
        await history.close()


def _write(
    found: dict[str, Any], html_path: Path | None, pdf_path: Path | None, json_path: Path | None
) -> None:
    try:
        if html_path is not None:
            from agent.reports.html import render

            html_path.write_text(render(found), encoding="utf-8")
        if pdf_path is not None:
            from agent.reports.pdf import render_pdf

            pdf_path.write_bytes(render_pdf(found))
        if json_path is not None and str(json_path) != "-":
            json_path.write_text(json.dumps(found, allow_nan=False), encoding="utf-8")
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}: choose a folder you may write to")
    for path in (html_path, pdf_path, json_path):
        if path is not None and str(path) != "-":
            click.echo(f"wrote {path}", err=True)
    if json_path is not None and str(json_path) == "-":
        click.echo(json.dumps(found, allow_nan=False))
    if html_path is None and pdf_path is None and json_path is None:
        for line in summary(found):
            click.echo(line)


def summary(found: dict[str, Any]) -> list[str]:
    """The report in some lines, for a terminal."""
    kpi, terms, saved = found["kpi"], found["energy"]["terms"], found["saving"]
    wh = kpi["wh_per_prompt"]
    span = "" if wh["low"] is None else f" ({wh['low']:.3f} to {wh['high']:.3f}, 95 %)"
    energy = ", ".join(
        f"{name} missing" if t["kwh"] is None else f"{name} {t['kwh']:.1f} kWh {t['source']}"
        for name, t in terms.items()
    )
    made = any(m["made"] for m in found["actions"]["moves"])
    kwh = f"{saved['kwh']:.1f} kWh, modelled ({saved['low']:.1f} to {saved['high']:.1f}, 95 %)"
    lines = [
        f"{found['site']} {found['area']}: {found['since'][:16]} to {found['until'][:16]} UTC",
        f"  Wh/prompt      {_n(wh['value'], 3)}{span}",
        f"  energy         {energy}; known {terms['it']['known_pct']:.1f} % of the time",
        f"  saved          {kwh if made else 'nothing was changed'}",
        f"  PUE            {_n(kpi['pue']['value'], 3)}",
    ]
    if all(t["kwh"] is None for t in terms.values()):
        lines.append(NOTHING)
    elif not found["racks"]:
        lines.append(f"  limits         {NO_RACKS}")
    for c in found["compliance"]:
        kept = "not measured" if c["kept_pct"] is None else (
            f"kept {c['kept_pct']:.2f} %, worst {c['worst']:.1f} {c['unit']} at {c['at']}, limit {c['max']:g}"
        )  # fmt: skip
        lines.append(f"  {c['limit']:14} {kept}")
    for m in found["actions"]["moves"]:
        lines.append(
            f"  {m['loop']} {m['move']}: made {m['made']}, undone {m['undone']}, refused {m['refused']}"
        )
    return lines


def _n(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
