"""Thousands of scenarios of tests.safety.chaos, on all cores, counted.

    python -m tests.safety.campaign --scenarios 10000 --ticks 200 --seed 0 [--jobs 2] [--json FILE]

Prints what was tried and every promise that was broken; ends with 1 when one was.
"""

import argparse
import gc
import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import structlog

from tests.safety.chaos import Found, run_one

MOST_SHOWN = 20


@dataclass(slots=True)
class Sum:
    """What a campaign came to."""

    scenarios: int = 0
    ticks: int = 0
    writes: int = 0
    changes: int = 0
    exempt: int = 0
    crashes: int = 0
    broken: int = 0
    wall_s: float = 0.0

    def add(self, found: Found) -> None:
        """Count one scenario."""
        self.scenarios += 1
        self.ticks += found.ticks + 1
        self.writes += found.writes
        self.changes += found.changes
        self.exempt += found.exempt
        self.crashes += found.crashes
        self.broken += bool(found.broken)


def quiet(for_good: bool = False) -> None:
    """Nothing is logged: a campaign's agents live through more than anybody would read."""

    def drop(*_: object) -> None:
        raise structlog.DropEvent

    structlog.configure(
        processors=[drop],  # type: ignore[list-item]
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
        cache_logger_on_first_use=for_good,
    )


@contextmanager
def silence() -> Iterator[None]:
    """Nothing is logged inside, and all as before afterwards."""
    before = structlog.get_config()
    quiet()
    yield
    structlog.configure(**before)


def _worker() -> None:
    quiet(for_good=True)
    gc.collect()
    gc.freeze()  # what was imported stays: not looked through again and again
    gc.set_threshold(50_000)


def memory() -> str | None:
    """A folder in memory, where there is one: what is not about the disk need not wait for it."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _one(task: tuple[int, int, str | None]) -> Found:
    found = run_one(*task)
    found.trace = ""
    return found


def run(
    first: int, scenarios: int, ticks: int, jobs: int, budget_s: float = 1e9
) -> Iterator[Found]:
    """The scenarios of seeds first..first+scenarios-1, as they end, until the time is up."""
    tasks = ((seed, ticks, memory()) for seed in range(first, first + scenarios))
    end_s = time.monotonic() + budget_s
    with get_context("spawn").Pool(jobs, initializer=_worker) as pool:
        while batch := list(islice(tasks, 50 * jobs)):
            yield from pool.imap_unordered(_one, batch, chunksize=5)
            if time.monotonic() > end_s:
                return


def main(argv: list[str] | None = None) -> int:
    """Run from the command line."""
    p = argparse.ArgumentParser(prog="campaign", description=__doc__)
    p.add_argument("--scenarios", type=int, default=10_000)
    p.add_argument("--ticks", type=int, default=200)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    p.add_argument("--json", type=Path, metavar="FILE")
    a = p.parse_args(argv)
    started_s, total, shown = time.monotonic(), Sum(), 0
    for found in run(a.seed, a.scenarios, a.ticks, a.jobs):
        total.add(found)
        for line in found.broken if shown < MOST_SHOWN else ():
            print(line, flush=True)
            shown += 1
        if total.scenarios % 1000 == 0:
            print(f"{total.scenarios} scenarios, {total.broken} broken", flush=True)
    total.wall_s = round(time.monotonic() - started_s, 1)
    print(
        f"campaign: {total.scenarios} scenarios of {a.ticks} ticks from seed {a.seed}:"
        f" {total.writes} writes on the wire, {total.changes} changes, {total.exempt} exempt,"
        f" {total.crashes} crashes, {total.broken} scenarios broke a promise, {total.wall_s} s"
    )
    if a.json is not None:
        a.json.write_text(json.dumps(asdict(total)), encoding="utf-8")
    return 1 if total.broken or total.scenarios < a.scenarios else 0


if __name__ == "__main__":
    sys.exit(main())
