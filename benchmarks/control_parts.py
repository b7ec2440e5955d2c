"""Cases, runs, table and plots of benchmarks/control.py: Skadi beside what it is measured against.

Cases: the bundled hall's scenarios; the EnergyPlus models in ../shared/plants (or --plants) in each
weather there, January and July; and what bad sensors cost (`--only faults`), where only Skadi sees by
them (tests/plants/faulty.py), and what counts is what the plant really did. Finished runs are kept: a
run that was stopped goes on where it was, and code that changed is run again. captured =
(fixed - controller) / (fixed - best), best being the oracle on the hall and the best constant on
EnergyPlus, by day or week. IT power curves of the EnergyPlus models are replaced (stock ones are
placeholders): every figure of theirs holds for the replaced ones. It never changes a plant.
"""

import argparse
import asyncio
import hashlib
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agent.commissioning import train_on_plant
from agent.logs import configure
from agent.plants.energyplus_edits import CURVES_NOTE
from agent.plants.site import PlantError
from agent.references.cache import Cache
from agent.references.controllers import run_reference
from agent.rehearse import Rehearsal, rehearse

HERE = Path(__file__).resolve().parent.parent
sys.path.append(str(HERE))  # plants of tests/ are found from anywhere
FAULTS = ("noise", "stuck", "drift", "lost")  # of tests/plants/faulty.py
SCENARIOS = ("default", "heat-spike", "over-cooled", "crac-failure", "heat-wave", "bursty", "winter")  # fmt: skip
STARTS = {"january": "01-01", "july": "07-01"}
CAPTURED = (0.60, 0.90)  # wanted of the oracle's saving on day one, and from day two on
FAULTS_CAPTURED = 0.70  # wanted with bad sensors, over the whole run
CLOSE_PCT, WORSE_PCT = 0.3, 0.2  # of the total: where little is to be had; and below the baseline
WORTH_PCT = 3.0  # below this captured divides by next to nothing: the distance to the best is shown
Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Case:
    """One plant in one weather or scenario. best: the reference that captured is measured by. faults:
    of the sensors that Skadi sees by."""

    name: str
    plan: Rehearsal
    controllers: tuple[str, ...]
    best: str
    part_days: int  # captured is stated for parts of so many days
    faults: str = ""


def cases(options: argparse.Namespace) -> Iterator[Case]:
    """Every case asked for, the bundled hall first."""
    hall = ("fixed", "trim-respond", "pid", "best-constant", "oracle", "skadi")
    for scenario in SCENARIOS:
        for seed in range(1, options.seeds + 1):
            arguments = {"scenario": scenario, "seed": str(seed), "step_s": str(options.step_s)}
            plan = Rehearsal("hall", arguments, options.hall_hours)
            yield Case(f"hall/{scenario}/{seed}", plan, hall, "oracle", 1)
    folder = Path(options.plants)
    for model in sorted(folder.glob("*.epJSON")):
        for weather in sorted(folder.glob("*.epw")):
            for month, start in STARTS.items():
                arguments = {
                    "model": str(model), "weather": str(weather), "start": start,
                    "days": str(options.days),
                }  # fmt: skip
                plan = Rehearsal("energyplus", arguments, 24.0 * options.days)
                name = f"{model.stem[:5]}/{weather.stem}/{month}"
                yield Case(name, plan, tuple(c for c in hall if c != "oracle"), "best-constant", 7)
    yield from _faulty(options)


def _faulty(options: argparse.Namespace) -> Iterator[Case]:
    arguments = {"scenario": "default", "seed": "1", "step_s": str(options.step_s)}
    hall = Rehearsal("hall", arguments, options.hall_hours)
    # Its best level is so warm that a probe that reads too much is in the way of a row.
    chiller = {"zones": "3", "racks": "3", "shape": "chiller"}
    rows = Rehearsal("tests.plants.odd:Odd", chiller, options.hall_hours)
    for faults in (*FAULTS, "+".join(FAULTS)):
        for name, plan, best in (("bundled", hall, "oracle"), ("rows", rows, "best-constant")):
            yield Case(f"faults/{name}/{faults}", plan, ("fixed", best, "skadi"), best, 1, faults)


class Shelf:
    """Skadi's own results on disk, by case and by the code that made them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "skadi"
        self.folder.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        for package in ("agent", "config", "control", "drivers", "simulators", "tests/plants"):
            for file in sorted((HERE / package).rglob("*.py")):
                digest.update(file.read_bytes())
        self._code = digest.hexdigest()

    def path(self, case: Case, train_hours: float) -> Path:
        """Where the result of a case is kept."""
        about = [case.name, dict(case.plan.plant_args), case.plan.hours, train_hours, self._code]
        digest = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]
        return self.folder / f"{re.sub(r'[^A-Za-z0-9]+', '-', case.name)}-{digest}.json"


def skadi(case: Case, shelf: Shelf, train_hours: float) -> Result:
    """The agent's result on a case, from the shelf where it is there."""
    path = shelf.path(case, train_hours)
    if path.exists():
        kept: Result = json.loads(path.read_text(encoding="utf-8"))
        return kept
    # On EnergyPlus it starts knowing nothing: the same weather can't be lived twice.
    result = asyncio.run(_rehearsed(case, train_hours if case.plan.plant == "hall" else 0.0))
    path.write_text(json.dumps(result), encoding="utf-8")
    return result


async def _rehearsed(case: Case, train_hours: float) -> Result:
    plan, model = case.plan, None
    if train_hours:
        nominal = {k: v for k, v in plan.plant_args.items() if k != "scenario"}
        if "seed" in nominal:
            nominal["seed"] = str(int(nominal["seed"]) + 1000)  # never trained on what is judged
        model = await train_on_plant(Rehearsal(plan.plant, nominal, train_hours, "fixed"))
    if not case.faults:
        return await rehearse(replace(plan, controller="skadi", model=model))
    seen = {"plant": plan.plant, "faults": case.faults, **plan.plant_args}
    faulty = Rehearsal("tests.plants.faulty:Faulty", seen, plan.hours, model=model)
    result = await rehearse(faulty)
    is_so: Result = result["truth"]
    said, over = result["violation_steps"], is_so["violation_steps"]
    # Over a limit is what is so, and what anybody would read there.
    return {**result, **is_so, "violation_steps": {k: max(n, said[k]) for k, n in over.items()}}


def run(case: Case, options: argparse.Namespace, shelf: Shelf, cache: Cache) -> dict[str, Result]:
    """Every controller's result on a case."""
    results: dict[str, Result] = {}
    for name in case.controllers:
        if name not in options.controllers:
            continue
        print(f"  {case.name}: {name} …", file=sys.stderr, flush=True)
        if name == "skadi":
            results[name] = skadi(case, shelf, options.train_hours)
        else:
            results[name] = run_reference(name, case.plan, cache=cache, workers=options.workers)
    return results


def cost(result: Result) -> float:
    """Wh/prompt where there are prompts, else kWh."""
    per = result["wh_per_prompt"]
    return float(result["total_kwh"] if per is None else per)


def saving_pct(fixed: Result, result: Result) -> float:
    """What is saved of the fixed baseline's cost, in %."""
    return 100.0 * (cost(fixed) - cost(result)) / cost(fixed)


def captured(case: Case, results: dict[str, Result], name: str) -> list[str]:
    """By part of the run: captured where the best saves enough, else the distance to the best."""
    days = {n: r["daily_total_kwh"] for n, r in results.items()}
    said = []
    for first in range(0, len(days["fixed"]), case.part_days):
        part = slice(first, first + case.part_days)
        fixed, best, own = (sum(days[n][part]) for n in ("fixed", case.best, name))
        if fixed and 100.0 * (fixed - best) / fixed >= WORTH_PCT:
            said.append(f"{(fixed - own) / (fixed - best):.2f}")
        elif fixed:
            said.append(f"{100.0 * (own - best) / fixed:+.2f} %")
    return said


def rows(case: Case, results: dict[str, Result]) -> Iterator[list[str]]:
    """A table row for each controller of a case."""
    for name, result in results.items():
        parts = captured(case, results, name) if {"fixed", case.best} <= results.keys() else []
        worst = result["worst_inlet_c"]
        latency = result["worst_latency_p95_ms"]
        yield [
            case.name, name, f"{cost(result):.4g}", f"{saving_pct(results['fixed'], result):+.2f}",
            " ".join(parts), "" if worst is None else f"{worst:.2f}",
            "" if latency is None else f"{latency:.0f}", split(results["fixed"], result),
            str(sum(result["violation_steps"].values())), str(result["writes"]),
        ]  # fmt: skip


HEAD = ["case", "controller", "cost", "saving %", "captured", "inlet degC", "p95 ms", "cooling fans it deferred", "over", "writes"]  # fmt: skip


def split(fixed: Result, result: Result) -> str:
    """Points of the fixed baseline's total saved in cooling, server fans and the rest of IT, and what
    of it is only deferred; nothing where a plant keeps no account."""
    was, now = fixed.get("truth"), result.get("truth")
    if not was or not now or "server_fan_kwh" not in was.keys() & now.keys():
        return ""
    saved = {
        k: was[k] - now[k] for k in ("cooling_kwh", "server_fan_kwh", "it_kwh", "deferred_kwh")
    }
    saved["it_kwh"] -= saved["server_fan_kwh"]
    parts = (saved["cooling_kwh"], saved["server_fan_kwh"], saved["it_kwh"], -saved["deferred_kwh"])
    return " ".join(f"{100.0 * p / was['total_kwh']:+.1f}" for p in parts)


def shortfalls(case: Case, results: dict[str, Result]) -> Iterator[str]:
    """What Skadi misses of its pass line: captured and limits."""
    if not {"fixed", case.best, "skadi"} <= results.keys():
        return
    fixed, own = results["fixed"], results["skadi"]
    for limit, steps in own["violation_steps"].items():
        if steps > fixed["violation_steps"][limit]:
            yield f"{case.name}: {limit} over its limit for {steps} steps"
    if case.faults:
        worth, saved = (saving_pct(fixed, results[n]) for n in (case.best, "skadi"))
        if saved < FAULTS_CAPTURED * worth:
            yield f"{case.name}: captured {saved / worth:.2f}, at least {FAULTS_CAPTURED} wanted"
    elif case.best == "oracle":
        yield from _missed_by_day(case, results)


def _missed_by_day(case: Case, results: dict[str, Result]) -> Iterator[str]:
    days = [results[n]["daily_total_kwh"] for n in ("fixed", "oracle", "skadi")]
    for i, (was, best, now) in enumerate(zip(*days, strict=True)):
        worth_pct, saved_pct = 100.0 * (was - best) / was, 100.0 * (was - now) / was
        least_pct = (
            CAPTURED[min(i, 1)] * worth_pct if worth_pct >= WORTH_PCT else worth_pct - CLOSE_PCT
        )
        if saved_pct < least_pct:
            yield f"{case.name}: day {i + 1} saves {saved_pct:.2f} %, at least {least_pct:.2f} wanted"
        if saved_pct < -WORSE_PCT:
            yield f"{case.name}: day {i + 1} is dearer than the baseline"


def table(lines: list[list[str]]) -> str:
    """The lines as a Markdown table."""
    widths = [max(len(row[i]) for row in [HEAD, *lines]) for i in range(len(HEAD))]
    text = [HEAD, ["-" * w for w in widths], *lines]
    return "\n".join(
        "| " + " | ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) + " |" for r in text
    )


def plot(done: dict[str, tuple[Case, dict[str, Result]]], folder: Path) -> list[Path]:
    """Savings of all controllers by case, and each case's energy by day. Returns the files."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    names = list(dict.fromkeys(n for _, r in done.values() for n in r if n != "fixed"))
    figure, axes = pyplot.subplots(figsize=(10, 1.5 + 0.5 * len(done)), layout="constrained")
    height = 0.8 / max(1, len(names))
    for i, name in enumerate(names):
        at = [j for j, (_, r) in enumerate(done.values()) if name in r]
        saved = [saving_pct(r["fixed"], r[name]) for _, r in done.values() if name in r]
        axes.barh([j + i * height for j in at], saved, height, label=name)
    axes.set_yticks([j + 0.4 - height / 2 for j in range(len(done))], list(done))
    axes.invert_yaxis()
    axes.axvline(0.0, color="black", linewidth=0.8)
    axes.set_xlabel("saved against fixed, % of total (Wh/prompt where there are prompts)")
    figure.legend(loc="outside lower center", ncols=max(1, len(names)))
    figure.savefig(folder / "savings.png", dpi=120)
    pyplot.close(figure)
    return [folder / "savings.png", *(_plot_days(c, r, folder) for c, r in done.values())]


def _plot_days(case: Case, results: dict[str, Result], folder: Path) -> Path:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 3.5), layout="constrained")
    for name, result in results.items():
        days = result["daily_total_kwh"]
        axes.plot(range(1, len(days) + 1), days, marker="o", label=name)
    axes.set(title=case.name, xlabel="day", ylabel="kWh a day")
    axes.legend()
    path = folder / f"{re.sub(r'[^A-Za-z0-9]+', '-', case.name)}.png"
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return path


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """What was asked for on the command line."""
    parser = argparse.ArgumentParser(description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    all_controllers = ["fixed", "trim-respond", "pid", "best-constant", "oracle", "skadi"]
    parser.add_argument("--only", default="", help="a regular expression over case names")
    parser.add_argument("--controllers", nargs="+", default=all_controllers, choices=all_controllers)  # fmt: skip
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--hall-hours", type=float, default=48.0)
    parser.add_argument("--step-s", type=float, default=30.0, help="the hall's native step")
    parser.add_argument("--days", type=int, default=14, help="of each EnergyPlus case")
    parser.add_argument("--train-hours", type=float, default=6.0, help="before Skadi on the hall")
    parser.add_argument("--plants", default=str(HERE.parent / "shared" / "plants"))
    parser.add_argument("--out", type=Path, default=HERE / "build" / "control")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--known", type=Path, default=HERE / "benchmarks" / "references.json",
                        help="runs of references that need not be made again")  # fmt: skip
    parser.add_argument("--remember", action="store_true", help="write the references of this run into --known")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="all results as JSON on stdout")
    options = parser.parse_args(argv)
    if "fixed" not in options.controllers:
        parser.error("--controllers: savings are against fixed; name it too")
    return options


def remember(done: dict[str, tuple[Case, dict[str, Result]]], cache: Cache, known: Path) -> None:
    """Keep what the references gave, for those who have not the hours to run them again."""
    runs = dict(
        cache.named(name, case.plan)
        for case, results in done.values()
        for name in results.keys() - {"skadi"}
    )
    known.write_text(json.dumps(runs, indent=0, sort_keys=True) + "\n", encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    """Run, print, plot. 1 when a case could not be run, or Skadi misses its pass line on the hall."""
    options = arguments(argv)
    configure(level="warning")
    options.out.mkdir(parents=True, exist_ok=True)
    shelf, cache = Shelf(options.out), Cache(options.out / "references", options.known)
    done: dict[str, tuple[Case, dict[str, Result]]] = {}
    failed = 0
    for case in cases(options):
        if not re.search(options.only, case.name):
            continue
        try:
            done[case.name] = (case, run(case, options, shelf, cache))
        except PlantError as error:
            failed += 1
            print(f"{case.name}: {error}", file=sys.stderr)
    if options.remember:
        remember(done, cache, options.known)
    lines = [line for case, results in done.values() for line in rows(case, results)]
    text = f"{table(lines)}\n\nEnergyPlus: {CURVES_NOTE}.\n"
    (options.out / "control.md").write_text(text, encoding="utf-8")
    print(json.dumps({n: r for n, (_, r) in done.items()}) if options.json else text)
    for path in plot(done, options.out) if done else []:
        print(path, file=sys.stderr)
    missed = [said for case, results in done.values() for said in shortfalls(case, results)]
    for said in missed:
        print(said, file=sys.stderr)
    return 1 if failed or missed else 0


if __name__ == "__main__":
    sys.exit(main())
