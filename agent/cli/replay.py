"""`skadi replay`: what the monitor and the decision path make of a CSV or of a hall's history."""

import json
from pathlib import Path
from typing import Any

import click

from agent.cli.exits import Exit, fail, print_json
from agent.cli.models import with_history
from agent.cli.monitoring import read_model, reported, table_layout, table_options
from agent.cli.options import config_option, json_option
from agent.cli.report import moment
from control.monitor import Trained


@click.command()
@click.option("--csv", "csv_path", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="Replay a table by --model; without it, a hall's history.")  # fmt: skip
@table_options
@click.option("--rows-from", type=click.IntRange(min=0), default=0, help="The CSV's first row.")
@click.option("--model", "model_path", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="A model's file; default for history: the active one.")  # fmt: skip
@click.option("--model-version", type=click.IntRange(min=1), help="A version in history instead.")
@config_option
@click.option(
    "--since", default="6h", show_default=True, help="History from here (90m, 24h, a time)."
)
@click.option("--until", help="To here; default: now.")
@click.option(
    "--plot", type=click.Path(dir_okay=False, path_type=Path), help="A picture: .png or .svg."
)
@click.option("--against", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="Compare with another model's file, or with what another release's --json printed.")  # fmt: skip
@json_option
def replay(
    csv_path: Path | None, rows_from: int, model_path: Path | None, model_version: int | None,
    config_path: Path, since: str, until: str | None, plot: Path | None, against: Path | None,
    as_json: bool, **table: Any,
) -> None:  # fmt: skip
    """Replay a CSV through the monitor, or history through the whole decision path in advisory."""
    if plot is not None and plot.suffix.lower() not in (".png", ".svg"):
        raise click.BadParameter("a picture ends in .png or .svg", param_hint="--plot")
    if csv_path is not None:
        if against is not None:
            raise click.UsageError("--against needs a hall's history, not --csv")
        if model_path is None:
            raise click.UsageError("--csv needs --model FILE")
        track, title = _csv(csv_path, model_path, rows_from, table), csv_path.name
    else:
        track, title = _history(config_path, model_path, model_version, since, until)
    if not track.times_s:
        fail("nothing was measured in this time")
    told = track.told() | {"plot": str(plot) if plot else None}
    if against is not None:
        told["against"] = _against(against, told["saving"], config_path, since, until)
    if plot is not None:
        from agent.replay.plot import draw

        try:
            draw(track, plot, title)
        except OSError as error:
            fail(f"{plot}: {error.strerror}")
    if as_json:
        print_json(told)
        return
    for change in told["changes"]:
        if change["state"] in ("transient", "persistent"):
            click.echo(
                f"{change['at']} {change['unit']} {change['state']}: most from {', '.join(change['top'])}"
            )
    for act in told["actions"]:
        done = "did" if act["done"] else "would have done"
        click.echo(f"{act['at']} {done} {act['move']} in {act['scope']}: {act['reason']}")
    for unit, counts in told["states"].items():
        click.echo(f"{unit}: " + ", ".join(f"{k} {v}" for k, v in counts.items()))
    if (saved := told["saving"]) is not None and csv_path is None:
        click.echo(
            f"would have saved {_span(saved)}, by the model, in {saved['steps']} first steps"
        )
    if against is not None:
        other = told["against"]
        click.echo(
            f"{against.name}: {_span(other['saving'])}; more by {_span(other['difference'])}"
        )
    if plot is not None:
        click.echo(f"wrote {plot}", err=True)


def _span(x: dict[str, Any]) -> str:
    return f"{x['kwh']:.2f} kWh ({x['low']:.2f} to {x['high']:.2f}, 95 %)"


def _against(
    path: Path, ours: dict[str, Any], config_path: Path, since: str, until: str | None
) -> dict[str, Any]:
    """The other's saving on the same history, and the difference."""
    from agent.backtest import difference, earlier

    try:
        theirs = earlier(path)
    except (ValueError, OSError) as error:
        fail(f"{path}: {error}", Exit.CONFIGURATION)
    if theirs is None:
        track, _ = _history(config_path, path, None, since, until)
        theirs = track.told()["saving"]
    return {"file": path.name, "saving": theirs, "difference": difference(ours, theirs)}


def _csv(csv_path: Path, model_path: Path, rows_from: int, table: dict[str, Any]) -> Any:
    from agent import scoring
    from agent.replay.play import replay_rows
    from agent.table import Table

    with reported():
        model = read_model(model_path)
        ignored = tuple(n for n in table.pop("ignore") if n not in model.features)
        layout = table_layout(**table, ignore=ignored, only=model.features)
        with Table(csv_path, layout) as rows:
            return replay_rows(model, scoring.window(rows, rows_from), csv_path.stem)


def _history(
    config_path: Path, model_path: Path | None, version: int | None, since: str, until: str | None
) -> tuple[Any, str]:
    from agent.clock import WallClock, utc
    from agent.models import trained_of
    from agent.replay.play import replay_history

    now_s = WallClock().now_s()
    since_s, until_s = moment(since, now_s), moment(until, now_s) if until else now_s

    given = None
    try:
        if model_path is not None:
            given = Trained.from_dict(json.loads(model_path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, OSError) as error:
        fail(f"{model_path}: {error}", Exit.CONFIGURATION)

    async def use(site: Any, history: Any) -> Any:
        if given is not None:
            model = given
        else:
            kept = await (history.model(version) if version else history.active_model())
            if kept is None:
                fail("no such model in history: skadi models list, or give --model FILE")
            model = trained_of(kept)
        return site.id, await replay_history(site, history, model, since_s, until_s)

    try:
        name, track = with_history(config_path, use)
    except ValueError as error:  # a model of other racks, or of another version
        fail(str(error), Exit.CONFIGURATION)
    return track, f"{name}, {utc(since_s)[:16]} to {utc(until_s)[:16]} UTC"
