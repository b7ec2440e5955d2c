"""Skadi on plants it was not made with: odd synthetic ones, and EnergyPlus models changed.

    .venv/bin/python benchmarks/held_out.py [--only REGEX] [--out FOLDER]

Each case is run by the agent, by the fixed baseline and by the best constant in hindsight; a line
says what each week of it saved, of the best constant's, and what `judged` says against it. Changed
models and weather are written below --out. Finished runs of references are kept there too.
"""

import argparse
import asyncio
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent.parent
sys.path[0] = str(HERE)  # the folder of this file holds a control.py of its own

from agent.logs import configure  # noqa: E402
from agent.plants.site import PlantError  # noqa: E402
from agent.references.cache import Cache  # noqa: E402
from agent.references.controllers import run_reference  # noqa: E402
from agent.rehearse import Rehearsal, rehearse  # noqa: E402

ODD: dict[str, dict[str, str]] = {
    "two-zones": {"zones": "2", "shape": "at-21"},
    "forty-rows": {"zones": "40", "step_s": "900"},
    "rows-racks-prompts": {"zones": "3", "racks": "4", "prompts": "1", "shape": "chiller"},
    "native-5s": {"step_s": "5", "days": "3"},
    "native-15min": {"step_s": "900"},
    "native-60min": {"step_s": "3600"},
    "it-and-cooling-only": {"total": "0"},
    "flat": {"shape": "flat"},
    "cold-end": {"shape": "cold"},
    "warm-end": {"shape": "warm"},
    "at-baseline": {"shape": "at-18"},
    "sharp-at-baseline": {"shape": "sharp-18"},
    "at-16": {"shape": "at-16"},
    "season": {"shape": "season"},
    "day-night": {"shape": "day-night"},
    "day-night-unseen": {"shape": "day-night", "weather": "0"},
    "against-weather": {"shape": "against-weather"},
    "ledge-cool": {"shape": "ledge", "out_c": "8"},
    "ledge-mild": {"shape": "ledge", "out_c": "16"},
    "winter-sharp": {"shape": "winter"},
    "chiller-hot": {"shape": "chiller", "out_c": "28"},
    "fan-only": {"knobs": "fan", "shape": "flat"},
    "fan-only-weather": {"knobs": "fan", "shape": "flat", "racks": "4", "zones": "2"},
    "air-and-fan": {"knobs": "air+fan", "shape": "chiller", "zones": "2", "racks": "3"},
    "water-only": {"knobs": "water", "shape": "flat"},
    "air-and-water": {"knobs": "air+water", "shape": "at-21"},
    "lost-readings": {"lost": "0.1", "zones": "3", "racks": "4"},
    "noisy": {"noise": "0.01", "zones": "3", "racks": "4"},
    "big-swing": {"swing": "0.35", "shape": "at-21"},
    "tiny-steps": {"max_step_c": "0.1"},
    "min-is-max": {"low_c": "18", "high_c": "18"},
    "no-baseline": {"baseline_c": "none"},
    "found-at-bound": {"baseline_c": "14"},
    "found-warm": {"baseline_c": "24", "shape": "at-18"},
    "near-limit": {"rise_k": "8.5"},
    "breaks-limit": {"rise_k": "10.5"},
    "dead-crac": {"event": "dead-crac", "zones": "2", "rise_k": "4", "shape": "chiller"},
    "racks-added": {"event": "racks", "shape": "chiller", "rise_k": "5"},
    "ends-early": {"end_h": "50.5"},
}


@dataclass(frozen=True, slots=True)
class Changed:
    """An EnergyPlus case: which of the shared models and weathers, and what is changed."""

    model: str
    weather: str
    start: str
    shift_k: float = 0.0
    load: float = 1.0  # times the IT load
    coils: float = 1.0  # times the cooling capacity and airflow, where it is a number
    arguments: dict[str, str] = field(default_factory=dict)


PLUS: dict[str, Changed] = {
    "1z-tucson-april": Changed("1Zone", "Tucson", "04-08"),
    "1z-seattle-october-warmer": Changed("1Zone", "Seattle", "10-10", 4.0),
    "1z-tucson-july-24": Changed("1Zone", "Tucson", "07-10", 0.0, arguments={"supply_c": "24"}),
    "1z-seattle-november-load": Changed("1Zone", "Seattle", "11-05", 0.0, 0.6),
    "2z-tucson-april": Changed("2Zone", "Tucson", "04-08"),
    "2z-tucson-october": Changed("2Zone", "Tucson", "10-10"),
    "2z-seattle-april": Changed("2Zone", "Seattle", "04-08"),
    "2z-seattle-november": Changed("2Zone", "Seattle", "11-05"),
    "2z-tucson-june-cooler": Changed("2Zone", "Tucson", "06-10", -4.0),
    "2z-seattle-august-warmer": Changed("2Zone", "Seattle", "08-10", 4.0),
    "2z-seattle-january-colder": Changed("2Zone", "Seattle", "01-15", -4.0),
    "2z-tucson-july-load-0.6": Changed("2Zone", "Tucson", "07-10", 0.0, 0.6),
    "2z-seattle-july-load-1.3": Changed("2Zone", "Seattle", "07-10", 0.0, 1.3),
    "2z-tucson-july-coils-1.3": Changed("2Zone", "Tucson", "07-10", 0.0, 1.0, 1.3),
    "2z-seattle-july-24": Changed("2Zone", "Seattle", "07-10", arguments={"supply_c": "24"}),
    "2z-tucson-january-24": Changed("2Zone", "Tucson", "01-10", arguments={"supply_c": "24"}),
    "2z-tucson-july-15": Changed("2Zone", "Tucson", "07-10", arguments={"supply_c": "15"}),
    "2z-seattle-september-narrow": Changed("2Zone", "Seattle", "09-05", arguments={"min_c": "16", "max_c": "23"}),
    "2z-tucson-may-900s": Changed("2Zone", "Tucson", "05-05", arguments={"step_s": "900"}),
    "2z-tucson-may-600s-small-steps": Changed("2Zone", "Tucson", "05-05", arguments={"step_s": "600", "max_step_c": "0.25"}),
    "2z-seattle-march-14": Changed("2Zone", "Seattle", "03-05", arguments={"supply_c": "14"}),
}  # fmt: skip


def plans(plants: Path, out: Path, days: int) -> Iterator[tuple[str, Callable[[], Rehearsal]]]:
    """Every case by name, made when it is wanted."""
    for name, arguments in ODD.items():
        own = dict(arguments)
        hours = 24.0 * float(own.pop("days", days))
        yield (
            f"odd/{name}",
            lambda own=own, hours=hours: Rehearsal("tests.plants.odd:Odd", own, hours),
        )
    for name, changed in PLUS.items():
        yield f"plus/{name}", lambda name=name, c=changed: _plus(name, c, plants, out, days)


def _plus(name: str, c: Changed, plants: Path, out: Path, days: int) -> Rehearsal:
    model = json.loads(next(plants.glob(f"{c.model}*.epJSON")).read_text(encoding="utf-8"))
    for equipment in model.get("ElectricEquipment:ITE:AirCooled", {}).values():
        for key in ("watts_per_unit", "watts_per_zone_floor_area"):
            if isinstance(equipment.get(key), int | float):
                equipment[key] *= c.load
    for sizing in model.get("Sizing:Parameters", {}).values():
        sizing["cooling_sizing_factor"] = c.coils * float(sizing.get("cooling_sizing_factor", 1.0))
    for kind, objects in model.items():
        if kind.startswith("Coil:Cooling:DX") and c.coils != 1.0:
            for coil in objects.values():
                for key, value in coil.items():
                    if isinstance(value, int | float) and (
                        "capacity" in key or "rated_air_flow" in key
                    ):
                        coil[key] = value * c.coils
    weather = next(plants.glob(f"*{c.weather}*.epw"))
    changed, shifted = out / f"{name}.epJSON", out / f"{weather.stem}{c.shift_k:+g}.epw"
    changed.write_text(json.dumps(model), encoding="utf-8")
    shifted.write_text("".join(_shifted(weather, c.shift_k)), encoding="latin-1")
    arguments = {
        "model": str(changed),
        "weather": str(shifted),
        "start": c.start,
        "days": str(days),
    }
    return Rehearsal("energyplus", arguments | c.arguments, 24.0 * days)


def _shifted(weather: Path, shift_k: float) -> Iterator[str]:
    """Dry bulb and dew point of every hour warmer by so much."""
    for line in weather.read_text(encoding="latin-1").splitlines(keepends=True):
        fields = line.split(",")
        if len(fields) > 30 and shift_k:
            fields[6:8] = [f"{float(v) + shift_k:.1f}" for v in fields[6:8]]
        yield ",".join(fields)


def judged(
    fixed: dict[str, Any], best: dict[str, Any], own: dict[str, Any]
) -> tuple[list[str], list[str]]:
    """(what each week and all captured, what is against it)."""
    days = [r["daily_total_kwh"] for r in (fixed, best, own)]
    n = len(days[0])
    weeks = [slice(0, min(7, n)), slice(7, n)] if n > 7 else [slice(0, n)]
    said, against = [], []
    for i, part in enumerate([*weeks, slice(0, n)]):
        f, b, o = (sum(d[part]) for d in days)
        if not f:
            continue
        least = None if i < len(weeks) - 1 else 0.75 if i == len(weeks) else 0.90
        if 100.0 * (f - b) / f >= 3.0:
            share = (f - o) / (f - b)
            said.append(f"{share:.2f}")
            if least is not None and share < least:
                against.append(f"captured {share:.2f} < {least}")
        else:
            said.append(f"{100.0 * (o - b) / f:+.2f}%")
            if least is not None and 100.0 * (o - b) / f > 0.3:
                against.append(f"{100.0 * (o - b) / f:+.2f} % of best")
        if i < len(weeks) and o > 1.002 * f:
            against.append(f"week {i + 1} {100.0 * (o / f - 1.0):+.2f} % of fixed")
    for what, steps in own["violation_steps"].items():
        if steps > fixed["violation_steps"][what]:
            against.append(f"{what} over in {steps} steps, fixed {fixed['violation_steps'][what]}")
    return said, against


def _best(plan: Rehearsal, cache: Cache) -> dict[str, Any] | None:
    """The best constant; None where no setpoint has a level to come back to, so that nothing is set."""
    try:
        return run_reference("best-constant", plan, cache=cache)
    except PlantError:
        return None


def main() -> int:
    """Run, print a line each. 1 when something is against one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="a regular expression over case names")
    parser.add_argument("--days", type=int, default=14)
    parser.add_argument("--plants", type=Path, default=HERE.parent / "shared" / "plants")
    parser.add_argument("--out", type=Path, default=HERE / "build" / "held-out")
    options = parser.parse_args()
    configure(level="error")
    options.out.mkdir(parents=True, exist_ok=True)
    cache, bad = Cache(options.out / "references"), 0
    print(
        "| case | best constant % | Skadi % | captured | inlet degC | over (fixed) | writes | s | against |\n|---|---|---|---|---|---|---|---|---|"
    )
    for name, make in plans(options.plants, options.out, options.days):
        if not re.search(options.only, name):
            continue
        plan = make()
        fixed = run_reference("fixed", plan, cache=cache)
        best = _best(plan, cache) or fixed
        own = asyncio.run(rehearse(plan))
        (options.out / f"{name.replace('/', '-')}.json").write_text(json.dumps([fixed, best, own]))
        said, against = judged(fixed, best, own)
        saved = [100.0 * (1.0 - r["total_kwh"] / fixed["total_kwh"]) for r in (best, own)]
        over = [sum(r["violation_steps"].values()) for r in (own, fixed)]
        at = "/".join(f"{v:g}" for v in dict.fromkeys(best.get("settings", {}).values()))
        print(
            f"| {name} | {saved[0]:.2f} ({at}) | {saved[1]:.2f} | {', '.join(said)} | {own['worst_inlet_c']:.1f} | {over[0]} ({over[1]}) | {own['writes']} | {own['wall_s']:.0f} | {'; '.join(against)} |",
            flush=True,
        )
        bad += bool(against)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
