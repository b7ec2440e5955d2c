"""kill -9 during ingest, rollup and migration, many times; the history is looked at after each.

    python -m tests.agent.history_kills --kills 100 --database sqlite|postgresql [--seed 0]

`make test` does a few of each; .ci/run does 100. Ends with 1 when anything was lost that had been
acknowledged, doubled, or does not add up.
"""

import argparse
import asyncio
import random
import subprocess
import sys
import tempfile
import time
from bisect import bisect_left
from collections import Counter
from operator import itemgetter
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from agent.clock import VirtualClock
from agent.history import writer as history_writer
from agent.history.care import check
from agent.history.db import NEWEST, for_writing, make_engine, migrate
from agent.history.schema import TELEMETRY_RAW
from agent.history.service import History
from config.secrets import SecretRef
from config.site import Site
from tests.agent import make
from tests.agent.postgres import Lent, Postgres, database

ROOT = Path(__file__).parents[2]
T0 = 1_700_000_040.0
RUN_S = 1e5  # between the times of two runs: all of them within keep_days
INLET = "rack-a01/inlet_c"
WHAT = ("ingest", "rollup", "migration")
ME = ("ber1", "hall-a")


def site_of(folder: str, url: str) -> Site:
    """The site on its database; the password is in SKADI_TEST_PG."""
    more = {"url": url, "password": SecretRef(env="SKADI_TEST_PG")} if url else {}
    return make.site(folder, **more)


async def child(what: str, folder: str, url: str, start_s: float) -> None:
    """What is killed. Says on stdout how many rows are acknowledged, or that it begins."""
    site = site_of(folder, url)
    if what == "migration":
        print(0, flush=True)
        await migrate(make_engine(site))
        await asyncio.sleep(60)
    history_writer.FLUSH_S = 0.001
    history = History(site, VirtualClock(0))
    await history.start()
    print(0, flush=True)
    for i in range(0, 10**9, 40):
        rows = [make.reading(INLET, float(k), start_s + k * 7) for k in range(i, i + 40)]
        history.add_readings(site.device["rack-a01"], rows)
        await history.flush()
        print(i + 40, flush=True)
        if what == "rollup" or i % 400 == 0:
            await history.rollup(start_s + i * 7 + 600)


def kill_one(
    what: str, folder: Path, url: str, password: str, start_s: float, wait_s: float
) -> int:
    """Run a child, kill it after a while; the rows it had acknowledged."""
    arguments = ["--child", what, str(folder), url, str(start_s)]
    command = [sys.executable, "-m", "tests.agent.history_kills", *arguments]
    env = {"SKADI_TEST_PG": password, "PATH": "/usr/bin:/bin"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, env=env) as process:
        assert process.stdout is not None
        assert process.stdout.readline(), "the child did not start"
        time.sleep(wait_s)
        process.kill()
        said = process.stdout.read().split()
    return int(said[-1]) if said else 0


class Campaign:
    """Kills on one database, and what is known to be in it."""

    def __init__(self, folder: Path, server: Postgres | Lent | None, seed: int) -> None:
        self.folder, self.random = folder, random.Random(seed)
        self.url = server.url if server else ""
        self.password = server.password if server else "none"
        self.site = site_of(str(folder), self.url)
        self.acknowledged: list[tuple[float, int]] = []
        self.kills: Counter[str] = Counter()

    async def kill(self, what: str) -> list[str]:
        """One kill; what is wrong after it."""
        if what == "migration":
            await self._with_engine(_downgrade)
        start_s = T0 + len(self.acknowledged) * RUN_S
        # How long each is under way: an upgrade takes some tens of milliseconds.
        wait_s = self.random.uniform(0, 0.08 if what == "migration" else 0.5)
        args = (what, self.folder, self.url, self.password, start_s, wait_s)
        count = await asyncio.to_thread(kill_one, *args)
        self.kills[what] += 1
        if what != "migration":
            self.acknowledged.append((start_s, count))
        return await self._with_engine(self._wrong)

    async def _with_engine(self, act: Any) -> Any:
        engine = make_engine(self.site, {"SKADI_TEST_PG": self.password})
        try:
            return await act(engine)
        finally:
            await engine.dispose()

    async def _wrong(self, engine: AsyncEngine) -> list[str]:
        wrong = []
        async with engine.connect() as connection:
            version = await connection.scalar(text("SELECT version_num FROM alembic_version"))
            there = await connection.run_sync(lambda c: engine.dialect.has_table(c, "rollups_1h"))
        if (version, there) not in (("0001", False), (NEWEST, True)):
            wrong.append(f"half a migration: revision {version}, rollups_1h {there}")
        await migrate(engine)
        found = await check(engine, ME, 0, 4e9)
        wrong += found["problems"]
        async with engine.connect() as connection:
            c = TELEMETRY_RAW.c
            rows = (await connection.execute(select(c.ts, c.value).order_by(c.ts))).all()
        for start_s, acknowledged in self.acknowledged:
            low, high = (
                bisect_left(rows, at, key=itemgetter(0)) for at in (start_s, start_s + RUN_S)
            )
            kept = [value for _, value in rows[low:high]]
            if kept != [float(i) for i in range(len(kept))]:
                wrong.append(f"{start_s:.0f}: a row in the middle is missing")
            if len(kept) < acknowledged:
                wrong.append(f"{start_s:.0f}: {acknowledged} rows acknowledged, {len(kept)} there")
        return wrong


async def _downgrade(engine: AsyncEngine) -> None:
    def run(sync: Any) -> None:
        config = Config()
        config.set_main_option("script_location", str(ROOT / "agent" / "history" / "migrations"))
        config.attributes["connection"] = sync
        command.downgrade(config, "0001")

    async with for_writing(engine).begin() as connection:
        await connection.run_sync(run)


async def campaign(
    folder: Path, server: Postgres | Lent | None, kills: int, seed: int
) -> list[str]:
    """So many kills, each kind in turn; everything that was wrong."""
    made, wrong = Campaign(folder, server, seed), []
    for i in range(kills):
        what = WHAT[i % len(WHAT)]
        wrong += [f"kill {i + 1} ({what}): {w}" for w in await made.kill(what)]
    rows = sum(n for _, n in made.acknowledged)
    counts = ", ".join(f"{n} during {what}" for what, n in made.kills.items())
    print(f"{kills} kills ({counts}), {rows} rows acknowledged, {len(wrong)} faults")
    return wrong


def main() -> int:
    """Run from the command line."""
    p = argparse.ArgumentParser(prog="history_kills", description=__doc__)
    p.add_argument("--kills", type=int, default=100)
    p.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.child:
        what, folder, url, start_s = a.child
        asyncio.run(child(what, folder, url, float(start_s)))
        return 0
    server = database() if a.database == "postgresql" else None
    try:
        with tempfile.TemporaryDirectory() as folder:
            wrong = asyncio.run(campaign(Path(folder), server, a.kills, a.seed))
    finally:
        if server is not None:
            server.remove()
    print("\n".join(wrong[:20]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
