"""The safety run: every promise tried in volume, each with its figures. What .ci/run and `make safety` do.

    python -m tests.safety.run [--ci] [--only STAGE ...] [--seed 0] [--share 1.0] [--json FILE]

A stage tries one thing so many times from a seed; its judges know only the devices' wire. With no
failure in N independent trials the 95 % bound on the rate of failures is 3/N. Ends with 1 when
anything was broken, and says what, with the seed that shows it again.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.safety import campaign, configs, cuts, kills, losses, whole
from tests.safety.tally import Runner, Tally

TICKS = 200
MOST_SHOWN = 15
SIDE = "scenarios"
FIGURES = {  # of a scenario, as they are told
    **{name: name for name in ("ticks", "writes", "changes", "exempt", "crashes")},
    "lies": "lying registers (P8)", "overrides": "setpoints taken by operators (P9)",
    "shut": "ticks with something unarmed (P19)", "wet": "ticks with a leak (P23)",
}  # fmt: skip


@dataclass(frozen=True)
class Stage:
    """One way to try promises. ci: how many in .ci/run (0: all there are); soak: how many a round.

    same: figures of which each run has the same or its own extreme, so that they don't add up.
    """

    name: str
    promises: str
    unit: str
    run: Runner
    ci: int
    soak: int
    same: tuple[str, ...] = ()


def scenarios(first: int, count: int, _folder: Path, jobs: int) -> Tally:
    """Seeded scenarios of the campaign."""
    tally = Tally()
    for found in campaign.run(first, count, TICKS, jobs):
        tally.cases += 1
        tally.broken += found.broken
        for name, said in FIGURES.items():
            tally.count(said, getattr(found, name) + (name == "ticks"))
    if tally.cases and not tally.figures["changes"]:
        tally.broken.append("the rogue got nothing through: this proves nothing")
    return tally


def twice(first: int, count: int, _folder: Path, _jobs: int) -> Tally:
    """The same seed twice: the same writes on the wire at the same times."""
    tally = Tally()
    for seed in range(first, first + count):
        one, two = (campaign.run_one(seed, TICKS, campaign.memory()) for _ in range(2))
        tally.cases += 1
        tally.count("writes", one.writes)
        if one.trace != two.trace:
            tally.broken.append(f"seed {seed}: two runs, two traces")
    return tally


STAGES = (
    Stage(
        "scenarios",
        "P1 P2 P8 P9 P10 P19 P23",
        f"scenarios of {TICKS} ticks",
        scenarios,
        10_000,
        1_000,
    ),
    Stage(
        "kills", "P3 P4", "kill -9 at a line of the write path", kills.run, 0, 200, ("failpoints",)
    ),
    Stage("cuts", "P5", "power cuts", cuts.cut_power, 400, 100, ("records",)),
    Stage(
        "disks", "P3", "writes on a failing or full disk, then a power cut", cuts.fail_disk, 30, 10
    ),
    Stage("whole", "P4 P18", "kill -9 of skadi run", whole.run, 20, 10, ("slowest release, s",)),
    Stage("sensors", "P6", "sets of sensors dropped", losses.drop_sensors, 0, 100),
    Stage("devices", "P7", "sets of failing devices", losses.fail_devices, 0, 100),
    Stage("configs", "P15", "site files made wrong", configs.run, 0, 100),
    Stage("twice", "P20", "seeds run twice", twice, 25, 10),
)


def bound(cases: int) -> str:
    """The 95 % bound on the rate of failures after so many trials without one."""
    return f"{3 / cases:.1e}" if cases else "none"


def report(stage: Stage, tally: Tally, took_s: float) -> str:
    """One line on a stage."""
    figures = ", ".join(f"{v:g} {k}" for k, v in tally.figures.items())
    verdict = f"{len(tally.broken)} BROKEN" if tally.broken else f"0 broken (95 %: < {bound(tally.cases)})"  # fmt: skip
    return f"{stage.name:10} {stage.promises:20} {tally.cases:7} {stage.unit}: {verdict}; {figures}; {took_s:.0f} s"  # fmt: skip


def run_stage(stage: Stage, first: int, count: int, jobs: int) -> tuple[Tally, float]:
    """Run one stage in a folder of its own, in memory where there is room."""
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f"skadi-{stage.name}-", dir=campaign.memory()) as name:
        tally = stage.run(first, count, Path(name) / "x", jobs)
    return tally, time.monotonic() - began_s


def _beside(a: argparse.Namespace, told: Path) -> subprocess.Popen[bytes]:
    """The one stage that uses all processors, in what the others leave of them: they wait a lot."""
    return subprocess.Popen([
        "nice", sys.executable, "-m", "tests.safety.run", "--only", SIDE, "--seed", str(a.seed),
        "--share", str(a.share), "--jobs", str(a.jobs), "--json", str(told),
    ])  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Run from the command line."""
    p = argparse.ArgumentParser(prog="safety", description=__doc__)
    p.add_argument("--ci", action="store_true", help="as .ci/run does (the default)")
    p.add_argument("--only", nargs="*", default=[], choices=[s.name for s in STAGES])
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--share", type=float, default=1.0, help="of the counted stages' number")
    p.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    p.add_argument("--json", type=Path, metavar="FILE")
    a = p.parse_args(argv)
    campaign.quiet()
    broken, told = 0, dict[str, object]()
    chosen = [s for s in STAGES if not a.only or s.name in a.only]
    folder = tempfile.TemporaryDirectory(prefix="skadi-safety-")  # gone when this process is
    told_beside = Path(folder.name) / "beside.json"
    side = _beside(a, told_beside) if len(chosen) == len(STAGES) else None
    for stage in chosen:
        if side and stage.name == SIDE:
            continue
        wanted = max(1, round(stage.ci * a.share)) if stage.ci else 0
        tally, took_s = run_stage(stage, a.seed, wanted, a.jobs)
        if tally.cases < max(wanted, 1):  # every stage has a number that it must reach
            tally.broken.append(f"only {tally.cases} of {wanted} were tried")
        print(report(stage, tally, took_s), flush=True)
        for line in tally.broken[:MOST_SHOWN]:
            print(f"  {line}", flush=True)
        broken += len(tally.broken)
        told[stage.name] = asdict(tally) | {"took_s": round(took_s, 1)}
    if side is not None:
        broken += side.wait() != 0
        told |= json.loads(told_beside.read_text(encoding="utf-8"))
    if a.json is not None:
        a.json.write_text(json.dumps(told), encoding="utf-8")
    print("safety: " + (f"{broken} BROKEN" if broken else "no promise broken"))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
