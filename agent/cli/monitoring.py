"""`skadi train` and `skadi score`: a model from a CSV (or a hall's history), and a CSV judged by one."""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

import click
import numpy as np

from agent import scoring
from agent.cli.exits import Exit, fail, print_json
from agent.cli.options import config_option, json_option
from agent.table import Layout, Table, TableError
from agent.training import TrainingError, TrainOptions
from agent.training import train as train_model
from control import mms
from control.ims_model import ImsModel, ModelError
from control.monitor import Trained

F = TypeVar("F", bound=Callable[..., Any])
MAX_MODEL_BYTES = 64_000_000


def table_options(function: F) -> F:
    """How train and score read a CSV."""
    for option in (
        click.option("--ignore", multiple=True, metavar="COL", help="Leave a column out. Repeatable."),
        click.option("--time-column", default="", metavar="NAME", help="The column of times."),
        click.option("--decimal", default="", type=click.Choice(["", ".", ","]), metavar="CHAR",
                     help="Decimal mark. [default: found in the first row]"),
        click.option("--sep", default="", metavar="CHAR", help="Separator. [default: found in the header]"),
    ):  # fmt: skip
        function = option(function)
    return function


def _csv_option(required: bool) -> Callable[[F], F]:
    kind = click.Path(exists=True, dir_okay=False, path_type=Path)
    return click.option("--csv", "csv_path", required=required, help="The table.", type=kind)


def table_layout(
    sep: str, decimal: str, time_column: str, ignore: tuple[str, ...], only: tuple[str, ...] = ()
) -> Layout:
    sep = "\t" if sep in ("\\t", "tab") else sep
    if len(sep) > 1:
        raise click.BadParameter("must be one character", param_hint="--sep")
    return Layout(sep, decimal, time_column, ignore, only)


@click.command()
@_csv_option(required=False)
@table_options
@click.option("--rows", type=click.IntRange(min=1), help="Train on the first N rows only.")
@click.option("--clusters", type=click.IntRange(1, 64), default=8, show_default=True)
@click.option(
    "--context",
    multiple=True,
    metavar="COL",
    help="A column that explains others and is not judged, such as a setpoint. Repeatable.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the model of a CSV is written (JSON).",
)
@config_option
@click.option(
    "--since",
    default="10d",
    show_default=True,
    help="Without --csv: from history, this far back (24h, 10d), or from a time.",
)
@click.option("--until", help="A time like 2026-01-31T12:00:00Z, or how far back; default: now.")
@click.option("--note", default="", help="A word about the model, kept with it.")
@click.option(
    "--distrust-alarms",
    is_flag=True,
    help="Train on what the active model calls persistent too: it is the model that is wrong.",
)
@json_option
def train(
    csv_path: Path | None, rows: int | None, clusters: int, context: tuple[str, ...],
    output: Path | None, config_path: Path, since: str, until: str | None, note: str,
    distrust_alarms: bool, as_json: bool, **table: Any,
) -> None:  # fmt: skip
    """Learn what nominal looks like: from a CSV into a file, or from a hall's history into history."""
    if csv_path is None:
        from agent.cli.models import train_from

        train_from(config_path, since, until, note, not distrust_alarms, as_json)
        return
    if output is None:
        raise click.UsageError("--csv needs -o FILE for the model")
    _train_on_csv(csv_path, table_layout(**table), rows, clusters, context, output, as_json)


def _train_on_csv(
    csv_path: Path, layout: Layout, rows: int | None, clusters: int, context: tuple[str, ...],
    output: Path, as_json: bool,
) -> None:  # fmt: skip
    with reported(), Table(csv_path, layout) as table:
        columns = table.columns
        taken = list(scoring.window(table, 0, rows))
        for name in context:
            if name not in columns:
                raise click.BadParameter(f"{name}: no such column", param_hint="--context")
        times = [r.time_s for r in taken if r.time_s is not None]
        row_s = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
        options = TrainOptions(
            clusters=clusters, context=context, row_s=max(row_s, 0.0),
            provenance={"source": csv_path.name, "sha256": _sha256(csv_path)},
        )  # fmt: skip
        x = np.array([r.values for r in taken]).reshape(len(taken), len(columns))
        try:
            model = train_model(x, columns, options)
        except ValueError as error:  # TrainingError, and the calibration's own
            raise TrainingError(f"{csv_path}: {error}") from error
        with _replacing(output) as file:
            json.dump(Trained(model).to_dict(), file, allow_nan=False)
    _report_model(model, output, as_json)


@click.command()
@click.option(
    "--model",
    "model_path",
    required=True,
    help="A model that `skadi train` wrote.",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@_csv_option(required=True)
@table_options
@click.option(
    "--rows-from",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="The first data row to score; rows count from 0.",
)
@click.option("--rows", type=click.IntRange(min=1), help="Score at most N rows.")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the result is written (CSV, one row for each row scored).",
)
@json_option
def score(
    model_path: Path, csv_path: Path, sep: str, decimal: str, time_column: str, ignore: tuple[str, ...],
    rows_from: int, rows: int | None, output: Path, as_json: bool,
) -> None:  # fmt: skip
    """Judge a CSV by a model, row by row, as it would have been judged live."""
    counts: dict[str, int] = {}
    with reported():
        model = read_model(model_path)
        ignored = tuple(name for name in ignore if name not in model.features)
        if len(ignored) < len(ignore):
            lost = ", ".join(sorted(set(ignore) - set(ignored)))
            raise click.BadParameter(f"the model needs {lost}", param_hint="--ignore")
        layout = table_layout(sep, decimal, time_column, ignored, model.features)
        with Table(csv_path, layout) as table, _replacing(output) as file:
            file.write(scoring.HEADER + "\n")
            chosen = scoring.window(table, rows_from, rows)
            for scored in scoring.score_rows(model, chosen, mms.MmsParams()):
                file.write(scoring.as_csv(scored) + "\n")
                scoring.tally(counts, scored)
    total = sum(counts.values())
    if as_json:
        print_json({"model": model.id, "rows": total, "states": counts, "output": str(output)})
    shares = ", ".join(f"{name} {counts.get(name, 0)}" for name in mms.STATE_NAMES)
    click.echo(f"{total} rows scored by model {model.id}: {shares}; wrote {output}", err=True)


def read_model(path: Path) -> ImsModel:
    """A model file. Raises ModelError naming the file; OSError when it can't be read."""
    with path.open("rb") as file:
        text = file.read(MAX_MODEL_BYTES + 1)
    if len(text) > MAX_MODEL_BYTES:
        raise ModelError(f"{path}: over {MAX_MODEL_BYTES} bytes: this is no model")
    try:
        trained = Trained.from_dict(json.loads(text))
    except RecursionError as error:
        raise ModelError(f"{path}: nested too deeply: this is no model") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: {error}: was it made by `skadi train`?") from error
    if trained.context is not None:
        raise ModelError(f"{path}: made for a hall and its commands; a CSV has none to judge it by")
    return trained.ims


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """Expected failures end with one line and their exit code."""
    try:
        yield
    except (TableError, TrainingError, ModelError) as error:
        fail(str(error), Exit.CONFIGURATION)
    except OSError as error:
        fail(f"{error.filename or ''}: {error.strerror or error}", Exit.FAILURE)


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[IO[str]]:
    """A file that appears under its name only when it is complete."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            yield file
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _report_model(model: ImsModel, output: Path, as_json: bool) -> None:
    facts = dict(model.trained_on)
    if as_json:
        print_json(
            {
                "model": model.id, "output": str(output), "features": list(model.features),
                "regions": len(model.support), "tau_fast": model.tau_fast,
                "tau_persist": model.tau_persist, "trained_on": facts,
                "coverage": {
                    name: [float(low), float(high)]
                    for name, low, high in zip(model.features, model.low, model.high, strict=True)
                },
            }
        )  # fmt: skip
    click.echo(
        f"model {model.id}: {len(model.features)} features, {len(model.support)} regions, "
        f"tau_fast {model.tau_fast:.3g}, tau_persist {model.tau_persist:.3g}", err=True,
    )  # fmt: skip
    click.echo(
        f"{facts['rows']} rows used, {facts['gross']} gross and {facts['trimmed']} others left out"
        + (f"; columns left out: {facts['dropped']}" if facts["dropped"] else ""), err=True,
    )  # fmt: skip
    for name, low, high in zip(model.features, model.low, model.high, strict=True):
        role = " (context)" if name in model.context else ""
        click.echo(f"  {name}{role}: {low:.6g} to {high:.6g}", err=True)
    click.echo(f"wrote {output}", err=True)
