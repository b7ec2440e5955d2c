"""`skadi models` and `skadi train -c`: a hall's models in history: make, look at, compare, let judge.

Reading needs no agent. Letting a version take over asks the running agent; where none answers, it
is written into history for the next start.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from agent.cli.exits import Exit, fail, print_json
from agent.cli.options import config_option, json_option
from config.loader import load_site, site_environment

R = TypeVar("R")


def with_history(config_path: Path, use: Callable[[Any, Any], Awaitable[R]]) -> R:
    """Open a site's history, `use(site, history)`, close it; a database that is away ends with 75."""
    from agent.clock import WallClock
    from agent.history.service import History, HistoryDown
    from agent.logs import configure

    configure(level="error")
    site = load_site(config_path)

    async def run() -> R:
        history = History(site, WallClock(), dict(site_environment(config_path, os.environ)))
        try:
            return await use(site, history)
        finally:
            await history.close()

    try:
        return asyncio.run(run())
    except HistoryDown as error:
        fail(str(error), Exit.UNREACHABLE)


def train_from(
    config_path: Path, since: str, until: str | None, note: str, trust_alarms: bool, as_json: bool
) -> None:
    """Train from history in a worker and keep the model there, not active."""
    from agent.clock import WallClock
    from agent.operations.models import TrainArguments, asked
    from agent.training import TrainingError
    from agent.training_history import train_from_history

    span = asked(TrainArguments(since=since, until=until), WallClock().now_s())
    if isinstance(span, str):
        fail(span, Exit.USAGE)

    async def use(site: Any, history: Any) -> dict[str, Any]:
        environ = dict(site_environment(config_path, os.environ))
        meant = type(span)(span.since_s, span.until_s, trust_alarms)
        lesson = await train_from_history(site, environ, meant)
        version = await history.save_model(lesson.document(), note or "trained by skadi train")
        return _shown(version, lesson.document())

    try:
        made = with_history(config_path, use)
    except TrainingError as error:
        fail(str(error), Exit.CONFIGURATION)
    if as_json:
        print_json(made)
        return
    _describe(made)
    click.echo(f"not active: skadi models activate {made['version']} after it ran in shadow")


def _shown(version: int, document: dict[str, Any]) -> dict[str, Any]:
    """A version for people: what it is made of and what it was trained on, without its arrays."""
    ims = document["ims"]
    return {
        "version": version, "id": ims["id"], "features": ims["features"], "units": len(ims["units"]),
        "regions": len(ims["support"]), "support": ims["support"], "tau_fast": ims["tau_fast"],
        "tau_persist": ims["tau_persist"], "trained_on": ims["trained_on"],
        "about": document.get("about", {}),
    }  # fmt: skip


def _describe(m: dict[str, Any]) -> None:
    about = m["about"]
    click.echo(
        f"version {m['version']}, model {m['id']}: {m['units']} units, {m['regions']} regions, "
        f"tau_fast {m['tau_fast']:.3g}, tau_persist {m['tau_persist']:.3g}"
    )
    if not about:
        return
    out = ", ".join(f"{k} {v:.1f} %" for k, v in about["left_out_pct"].items()) or "nothing"
    click.echo(
        f"  {about['rows']} rows of {about['step_s']:g} s in {about['stretches']} stretches, "
        f"{about['days']} days, {about['hours_of_day']} of 24 hours of the day; left out: {out}"
    )
    for name, (low, high) in about["trained_range"].items():
        click.echo(f"  {name:14} {low:.6g} to {high:.6g}")
    for name, c in about["coverage"].items():
        click.echo(
            f"  {name}: {c['covered_pct']:.0f} % of the {c['hours']} hours in history lie where it was "
            f"trained ({c['seen'][0]:.4g} to {c['seen'][1]:.4g} seen)"
        )


@click.group()
def models() -> None:
    """The hall's models in history: look at them, compare them, let one judge."""


@models.command(name="list")
@config_option
@json_option
def list_models(config_path: Path, as_json: bool) -> None:
    """Every version, and how a new one does beside the active one."""
    from agent.models import overview

    found = with_history(config_path, lambda _, history: overview(history))
    if as_json:
        print_json(found)
        return
    for m in found["models"]:
        mark = "*" if m["active"] else " "
        click.echo(f"{mark} {m['version']:4} {m['id']} {m['created'][:16]} {m['note']}")
    shadow = found["shadow"]
    if shadow:
        click.echo(_shadow_line(shadow))
    if not found["models"]:
        click.echo("no model yet: skadi train -c FILE")


def _shadow_line(shadow: dict[str, Any]) -> str:
    total = max(sum(shadow["active"].values()), 1)

    def share(counts: dict[str, int]) -> str:
        return ", ".join(f"{k} {100 * v / total:.2f} %" for k, v in counts.items())

    return (
        f"version {shadow['version']} in shadow for {shadow['seconds'] / 3600:.1f} h, agrees "
        f"{100 * shadow['agree'] / total:.2f} %\n  it: {share(shadow['candidate'])}\n"
        f"  active: {share(shadow['active'])}"
    )


@models.command()
@config_option
@json_option
@click.argument("version", type=click.IntRange(min=1))
def show(config_path: Path, as_json: bool, version: int) -> None:
    """What a version was trained on, and what of the hall's operation that covers."""
    found = _shown(version, _document(config_path, version))
    print_json(found) if as_json else _describe(found)


@models.command()
@config_option
@json_option
@click.argument("before", type=click.IntRange(min=1))
@click.argument("after", type=click.IntRange(min=1))
def diff(config_path: Path, as_json: bool, before: int, after: int) -> None:
    """What changed from one version to another: thresholds, usual places, ranges."""
    found = difference(_document(config_path, before), _document(config_path, after))
    if as_json:
        print_json({"before": before, "after": after, **found})
        return
    for key in ("tau_fast", "tau_persist", "regions"):
        click.echo(f"{key:14} {found[key][0]:.4g} -> {found[key][1]:.4g}")
    for what in ("features_gone", "features_new", "units_gone", "units_new"):
        if found[what]:
            click.echo(f"{what:14} {', '.join(found[what])}")
    for name, m in found["moved"].items():
        click.echo(f"{name:14} usual {m['usual'][0]:.5g} -> {m['usual'][1]:.5g} "
                   f"({m['scales']:+.2f} scales), one scale {m['scale'][0]:.3g} -> {m['scale'][1]:.3g}")  # fmt: skip


def difference(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    """Two documents compared. `moved`: each common feature's usual place and scale, in its unit."""
    import numpy as np

    def facts(ims: dict[str, Any]) -> dict[str, tuple[float, float]]:
        width = np.linalg.norm(np.array(ims["transform"]), axis=1)
        scales = np.where(width > 0, 1 / np.where(width > 0, width, 1.0), 0.0)
        return {
            n: (o, float(s)) for n, o, s in zip(ims["features"], ims["offset"], scales, strict=True)
        }

    x, y = a["ims"], b["ims"]
    old, new = facts(x), facts(y)
    return {
        "tau_fast": [x["tau_fast"], y["tau_fast"]], "tau_persist": [x["tau_persist"], y["tau_persist"]],
        "regions": [len(x["support"]), len(y["support"])],
        "features_gone": sorted(set(old) - set(new)), "features_new": sorted(set(new) - set(old)),
        "units_gone": sorted(set(x["units"]) - set(y["units"])),
        "units_new": sorted(set(y["units"]) - set(x["units"])),
        "moved": {
            n: {"usual": [old[n][0], new[n][0]], "scale": [old[n][1], new[n][1]],
                "scales": (new[n][0] - old[n][0]) / old[n][1] if old[n][1] > 0 else 0.0}
            for n in old if n in new
        },
    }  # fmt: skip


def _document(config_path: Path, version: int) -> dict[str, Any]:
    stored = with_history(config_path, lambda _, history: history.model(version))
    if stored is None or stored.document is None:
        fail(f"no version {version}: skadi models list")
    return dict(stored.document)


@models.command()
@config_option
@json_option
@click.argument("scope")
@click.option(
    "--since", required=True, help="From a time like 2026-01-31T12:00:00Z, or 90m, 24h ago."
)
@click.option("--until", required=True, help="To a time like 2026-01-31T14:00:00Z, or 10m ago.")
@click.option("--note", required=True, help="Why.")
def exclude(
    config_path: Path, as_json: bool, scope: str, since: str, until: str, note: str
) -> None:
    """Mark a stretch of SCOPE (hall, row:A, rack:A01) that no model may learn from."""
    from pydantic import ValidationError

    from agent.clock import WallClock
    from agent.operations.models import ExcludeArguments, stretch

    try:
        arguments = ExcludeArguments(scope=scope, since=since, until=until, note=note)
    except ValidationError as error:
        fail("; ".join(f"{e['loc'][0]}: {e['msg']}" for e in error.errors()), Exit.USAGE)
    record = stretch(arguments, WallClock().now_s(), os.environ.get("USER") or "local")
    if isinstance(record, str):
        fail(record, Exit.USAGE)

    async def use(_: Any, history: Any) -> bool:
        await history.start()
        history.add_action(record)
        kept: bool = await history.flush()
        return kept

    if not with_history(config_path, use):
        fail("history did not take it", Exit.UNREACHABLE)
    if as_json:
        print_json(record)
    else:
        click.echo(f"{scope} is not trained on until {record['until']}")


@models.command()
@config_option
@json_option
@click.argument("version", type=click.IntRange(min=1))
@click.option("--force", is_flag=True, help="Although it has not run in shadow for an hour.")
def activate(config_path: Path, as_json: bool, version: int, force: bool) -> None:
    """Approve a version: it judges from now on. An older one that judged before may come back."""
    from agent.clock import WallClock
    from agent.local import ask
    from agent.models import take_over

    site = load_site(config_path)
    try:
        folder = Path(site.agent.data_dir)
        reply = ask(folder, "models.activate", {"version": version, "force": force})
        ok, detail, refused = reply["ok"], reply["detail"], reply.get("refused", False)
    except ConnectionError:
        if site.ims.model is not None:
            fail("ims.model in the site file names the model: remove it first", Exit.REFUSED)
        who = os.environ.get("SUDO_USER") or os.environ.get("USER") or "local"
        ok, detail, refused = with_history(
            config_path, lambda _, h: take_over(h, version, force, who, WallClock().now_s())
        )
        if ok:
            click.echo("no agent answers: it takes effect when one starts", err=True)
    if not ok:
        _refuse(detail, refused)
    if as_json:
        print_json(detail)
    else:
        before = detail["before"]
        back = f"; skadi models activate {before} returns to the one before" if before else ""
        click.echo(f"version {version} judges from now on{back}")


def _refuse(detail: dict[str, Any], refused: bool) -> NoReturn:
    fail(str(detail["reason"]), Exit.REFUSED if refused else Exit.FAILURE)
