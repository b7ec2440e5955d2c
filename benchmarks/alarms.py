"""How often the agent calls for a person: in a normal week, and after a CRAC has failed.

    .venv/bin/python benchmarks/alarms.py [--days 7] [--tick-s 15] [--train-hours 4] [--json FILE]

The whole agent in virtual time on the bundled hall, in closed loop, with a model trained on the
same hall. Counted is each moment an alarm begins to call, or calls for something worse; a person acknowledges
within a quarter of an hour. Then, on a hall with the same model, one
CRAC fails: what calls within ten minutes, and which of it is its row's.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog

from agent.alarms import AlarmDesk
from agent.commissioning import train_on_plant
from agent.rehearse import START_S, Rehearsal, Rehearsed
from control.alarms import Severity
from control.causes import Facts
from control.monitor import Trained

GOALS = {"calls_per_10_min": 1.0, "calls_after_failure": 10}
WINDOW_S = 600.0


class Calls:
    """When which alarm began to call."""

    def __init__(self, run: Rehearsed) -> None:
        self.times: list[tuple[float, str]] = []
        self.texts: list[str] = []
        self._run = run
        agent = run.agent
        desk = AlarmDesk(agent, lambda: Facts({}, len(run.site.devices)))
        agent.services.alarms = desk
        agent.listeners += [desk.listen, self._listen]
        self._desk = desk
        self._calling: dict[str, Severity] = {}  # at its worst since it began

    def _listen(self, kind: str, detail: dict[str, Any]) -> None:
        if kind != "alarm":
            return
        name, severity = detail["id"], Severity[detail["severity"].upper()]
        if not detail["calls"]:
            self._calling.pop(name, None)
        elif severity > self._calling.get(name, 0):
            self._calling[name] = severity
            self.times.append((self._run.clock.now_s() - START_S, name))
            self.texts.append(f"{detail['severity']}: {detail['text']}")

    def somebody_looks(self) -> None:
        """What stands unacknowledged for days would hide a return."""
        for name in list(self._calling):
            self._desk.acknowledge(name)

    def most_in_a_window(self) -> int:
        """The most calls in any ten minutes."""
        return max(
            (sum(t <= u < t + WINDOW_S for u, _ in self.times) for t, _ in self.times), default=0
        )


async def week(plan: Rehearsal, folder: Path) -> dict[str, Any]:
    """A normal stretch of time."""
    run = Rehearsed(plan, folder)
    calls = Calls(run)

    def progress(done: float) -> None:
        calls.somebody_looks()
        if sys.stderr.isatty():
            print(f"\r{100 * done:5.1f} %  {len(calls.times)} calls", end="", file=sys.stderr)

    await run.run(plan.hours, progress)
    await asyncio.sleep(0)
    run.close()
    print(file=sys.stderr)
    return {
        "hours": plan.hours, "calls": len(calls.times), "by_cause": dict(Counter(i for _, i in calls.times)),
        "calls_per_10_min": round(len(calls.times) / (plan.hours * 6), 4),
        "most_in_10_min": calls.most_in_a_window(), "first_texts": calls.texts[:12],
    }  # fmt: skip


async def failure(plan: Rehearsal, folder: Path) -> dict[str, Any]:
    """Half an hour as usual, then a CRAC of row C fails."""
    run = Rehearsed(plan, folder)
    calls = Calls(run)
    await run.run(0.5)
    before = len(calls.times)
    plant: Any = run.plant
    plant.overlays.start("crac_failure", plant.now_s, None)
    await run.run(WINDOW_S / 3600.0)
    await asyncio.sleep(0)
    run.close()
    names = [i for _, i in calls.times[before:]]
    return {"calls_after_failure": len(names), "causes": dict(Counter(names)),
            "texts": calls.texts[before:]}  # fmt: skip


async def both(args: argparse.Namespace) -> dict[str, Any]:
    """Train, then the week and the failure."""
    base = Rehearsal("hall", {"seed": "1"}, hours=args.train_hours)
    model: Trained = await train_on_plant(base)
    plan = replace(base, model=model, plant_args={"seed": "2"}, tick_s=args.tick_s)
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        failed = await failure(replace(plan, tick_s=5.0), Path(one))
        print(json.dumps(failed), flush=True)
        hours = 24.0 * args.days
        normal = await week(replace(plan, hours=hours), Path(two)) if hours else {}
    return {"week": normal, "crac_failure": failed, "goals": GOALS}


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--days", type=float, default=7.0)
    parser.add_argument("--tick-s", type=float, default=15.0)
    parser.add_argument("--train-hours", type=float, default=4.0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    result = asyncio.run(both(args))
    print(json.dumps(result, indent=1))
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
