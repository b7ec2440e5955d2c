"""P4 on the whole agent: `skadi sim` in one process, `skadi run` in another, kill -9 at a random moment.

    python -m tests.safety.whole [--kills 50] [--seed 0]

After each kill `skadi release` runs, and the simulated devices themselves are asked: every point
that anybody wrote must hold its baseline, its safe value, or a slot with nothing in it, within a
minute. Writes are seen at the devices' wire, never asked of the agent.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from random import Random

from tests.e2e.world import CLOSED_LOOP, Hall, agent, hall, skadi
from tests.safety.tally import Tally

LIMIT_S = 60.0
TRIES = 5
SAME = 0.06  # half a register of 0.1, and what a float32 loses


def safe_values(site: Path) -> dict[str, float]:
    """What the site file gives as the safe value of each point."""
    devices = tomllib.loads(site.read_text(encoding="utf-8"))["device"]
    return {f"{d['id']}/{p['id']}": float(p["safe_value"])
            for d in devices for p in d.get("point", ()) if "safe_value" in p}  # fmt: skip


def left(at: Hall, before: dict[str, float], safe: dict[str, float]) -> list[str]:
    """What stands on the devices and is neither baseline, nor safe, nor relinquished."""
    now, wrong = at.values(), list[str]()
    last = {w["point"]: w for w in at.wire() if w["outcome"] == "applied"}
    for point, write in last.items():
        if write["protocol"] == "bacnet-ip":
            if write["new"] is not None:
                wrong.append(f"{point}: our slot still holds {write['new']}")
            continue
        fine = [before[point], *([safe[point]] if point in safe else [])]
        if not any(abs(now[point] - v) <= SAME for v in fine):
            wrong.append(f"{point}: holds {now[point]:g}, none of {fine}")
    return wrong


def one(at: Hall, before: dict[str, float], safe: dict[str, float], random: Random) -> Tally:
    """Run an agent, kill it, release."""
    tally, seen = Tally(1), len(at.wire())
    with agent(at, **CLOSED_LOOP) as running:
        # Most of them just after something was written, some at any moment of the first seconds.
        if random.random() < 0.8:
            end_s = time.monotonic() + 25.0
            while len(at.wire()) == seen and time.monotonic() < end_s:
                time.sleep(0.02)
            time.sleep(random.uniform(0.0, 0.3))
        else:
            time.sleep(random.uniform(0.0, 8.0))
        running.kill()
    tally.count("killed with something held", bool(left(at, before, safe)))
    began_s = time.monotonic()
    done = skadi("release", "-c", at.site, "--json", cwd=at.folder)
    took_s = time.monotonic() - began_s
    if done.returncode != 0:
        tally.broken.append(f"release ended with {done.returncode}: {done.stderr[-300:]}")
    if took_s > LIMIT_S:
        tally.broken.append(f"release took {took_s:.0f} s")
    tally.broken += left(at, before, safe)
    tally.count("given back", len(json.loads(done.stdout or "{}").get("given_back", ())))
    tally.count("writes on the wire", len(at.wire()) - seen)
    tally.figures["slowest release, s"] = round(took_s, 1)
    return tally


def _patiently(at: Hall, before: dict[str, float], safe: dict[str, float], random: Random) -> Tally:
    """One kill; an agent that a starved host does not start within its time is started again."""
    for _ in range(TRIES - 1):
        try:
            return one(at, before, safe, random)
        except (AssertionError, subprocess.TimeoutExpired) as error:
            print(f"whole: again: {error}", file=sys.stderr)
            skadi("release", "-c", at.site, cwd=at.folder)
    return one(at, before, safe, random)


def run(first: int, count: int, folder: Path, _jobs: int) -> Tally:
    """`count` kills from one seed."""
    total, random = Tally(), Random(first)
    folder.mkdir(parents=True, exist_ok=True)
    with hall(folder) as at:
        before, safe = at.values(), safe_values(at.site)
        for number in range(count):
            found = _patiently(at, before, safe, random)
            print(f"kill {number}: {found.figures}, {len(found.broken)} broken", file=sys.stderr)
            found.broken = [f"kill {number} of seed {first}: {b}" for b in found.broken]
            slowest = max(total.figures.get("slowest release, s", 0.0), found.figures.pop("slowest release, s"))  # fmt: skip
            total.add(found)
            total.figures["slowest release, s"] = slowest
        audit = skadi("audit", "verify", "-c", at.site, cwd=folder)
        if audit.returncode != 0:
            total.broken.append(f"audit: {audit.stderr}")
    return total


def main(argv: list[str] | None = None) -> int:
    """Run from the command line."""
    p = argparse.ArgumentParser(prog="whole", description=__doc__)
    p.add_argument("--kills", type=int, default=50)
    p.add_argument("--seed", type=int, default=0)
    a = p.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="skadi-whole-") as name:
        total = run(a.seed, a.kills, Path(name), 1)
    for line in total.broken:
        print(line)
    print(
        f"whole: {total.cases} kills -9 of skadi run, {len(total.broken)} broken; {total.figures}"
    )
    return 1 if total.broken or total.cases < a.kills else 0


if __name__ == "__main__":
    sys.exit(main())
