"""`skadi rehearse`: the real agent on a plant in virtual time, or a reference controller."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from agent.cli.exits import Exit, fail, print_json
from agent.cli.options import json_option
from agent.plants.site import PlantError
from agent.references.cache import Cache
from agent.references.controllers import REFERENCES, captured, run_reference
from agent.rehearse import ALIASES, Progress, Rehearsal
from agent.rehearse import rehearse as run_rehearsal
from config.loader import load_site
from control.monitor import Trained


@click.command()
@click.option(
    "--plant",
    default="hall",
    show_default=True,
    help="hall, energyplus, or MODULE:CLASS of your own.",
)
@click.option("--plant-arg", "plant_args", multiple=True, metavar="K=V", help="A plant's argument.")
@click.option("--scenario", help="The bundled hall's scenario.")
@click.option("--hours", type=float, default=24.0, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option(
    "--controller",
    type=click.Choice(["skadi", *REFERENCES]),
    default="skadi",
    show_default=True,
    help="Skadi, or what it is measured against: physics alone.",
)
@click.option(
    "-c",
    "--config",
    "site_path",
    type=click.Path(path_type=Path),
    help="A site file: its limits, cadence, choices and write limits hold on the plant.",
)
@click.option(
    "--report",
    "report_path",
    type=click.Path(path_type=Path),
    help="Write the result here too: FILE.json; FILE.html or FILE.pdf beside references run before.",
)
@click.option("--model", "model_path", type=click.Path(path_type=Path), help="A trained IMS model.")
@click.option(
    "--train-hours", type=float, default=0.0, help="Train IMS first on so many nominal hours."
)
@click.option(
    "--train-to", type=click.Path(path_type=Path), help="Only train; write the model here."
)
@json_option
def rehearse(
    plant: str, plant_args: tuple[str, ...], scenario: str | None, hours: float, seed: int,
    controller: str, site_path: Path | None, report_path: Path | None, model_path: Path | None,
    train_hours: float, train_to: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Run the whole agent against a plant in virtual time: days in seconds, by seed."""
    from agent.logs import configure

    configure(level="warning")
    arguments = _arguments(plant, plant_args, scenario, seed)
    if not 0.0 < hours < float("inf"):
        fail(f"--hours {hours:g}: how many simulated hours to rehearse, above 0", Exit.USAGE)
    try:
        model = _model(model_path) or _train(plant, arguments, train_hours)
        if train_to is not None:
            if model is None:
                fail("--train-to needs --train-hours", Exit.USAGE)
            train_to.write_text(json.dumps(model.to_dict()), encoding="utf-8")
            click.echo(f"wrote {train_to}", err=True)
            return
        site = load_site(site_path) if site_path is not None else None
        plan = Rehearsal(plant, arguments, hours, controller, site, model)
        with _progress("rehearsing", as_json) as progress:
            result = _run(plan, progress)
    except PlantError as error:
        fail(str(error))
    result |= {"scenario": scenario or "default", "seed": seed}
    if report_path is not None:
        _write(report_path, plan, result)
    print_json(result) if as_json else _show(result)
    if any(result["violation_steps"].values()):
        raise click.exceptions.Exit(int(Exit.FAILURE))


def _run(plan: Rehearsal, progress: Progress | None) -> dict[str, Any]:
    # Somebody's own plant may depend on anything: only ours are remembered between calls.
    cache = Cache() if plan.plant in ALIASES else None
    if plan.controller == "skadi":
        result = asyncio.run(run_rehearsal(plan, progress))
        return result | {"captured": captured(plan, result, cache) if cache else None}
    return run_reference(plan.controller, plan, progress, cache=cache, workers=os.cpu_count() or 1)


def _write(path: Path, plan: Rehearsal, result: dict[str, Any]) -> None:
    """The result as JSON; or as a page or PDF, beside the references that this plan was played by."""
    from agent.reports.rehearsal import write_report

    cache, same = Cache(), {"scenario": result["scenario"], "seed": result["seed"]}
    names = [n for n in REFERENCES if n != plan.controller] if plan.plant in ALIASES else []
    others = [r | same for n in names if (r := cache.summary(n, plan)) is not None]
    try:
        if path.suffix == ".json":
            path.write_text(json.dumps(result, indent=1), encoding="utf-8")
        else:
            write_report([*others, result], path)
    except ValueError as error:
        fail(f"--report {error}", Exit.USAGE)
    except OSError as error:
        fail(f"--report {path}: {error.strerror}")


def _arguments(
    plant: str, pairs: tuple[str, ...], scenario: str | None, seed: int
) -> dict[str, str]:
    arguments: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            fail(f"--plant-arg {pair!r}: write KEY=VALUE", Exit.USAGE)
        arguments[key] = value
    if scenario is not None:
        arguments.setdefault("scenario", scenario)
    if plant == "hall":
        arguments.setdefault("seed", str(seed))
    return arguments


def _model(path: Path | None) -> Trained | None:
    if path is None:
        return None
    try:
        return Trained.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError) as error:
        fail(f"{path}: {error}", Exit.CONFIGURATION)


def _train(plant: str, arguments: dict[str, str], hours: float) -> Trained | None:
    """Train on the plant left alone and then walked, in its default scenario with another seed."""
    if hours <= 0:
        return None
    from agent.commissioning import train_on_plant

    nominal = {k: v for k, v in arguments.items() if k != "scenario"}
    if "seed" in nominal:
        nominal["seed"] = str(int(nominal["seed"]) + 1000)
    return asyncio.run(train_on_plant(Rehearsal(plant, nominal, hours, "fixed")))


class _progress:
    """A progress bar on stderr in a terminal; nothing elsewhere."""

    def __init__(self, what: str, quiet: bool) -> None:
        self._show = sys.stderr.isatty() and not quiet
        self._what = what
        self._bar: Any = None

    def __enter__(self) -> Any:
        if not self._show:
            return None
        from rich.console import Console
        from rich.progress import Progress

        self._bar = Progress(console=Console(stderr=True), transient=True)
        self._bar.start()
        task = self._bar.add_task(self._what, total=1.0)
        return lambda share: self._bar.update(task, completed=share)

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()


def _show(result: dict[str, Any]) -> None:
    for key, value in result.items():
        if key in ("daily_total_kwh", "truth", "limits"):
            continue
        text = f"{value:.4f}" if isinstance(value, float) else str(value)
        click.echo(f"{key:24} {text}")
