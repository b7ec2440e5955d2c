"""What the benchmarks of history share: a hall of pushed points, its readings, a control cycle."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np

from agent.clock import WallClock
from agent.history.service import History
from config.secrets import SecretRef
from config.site import Device, Site
from control.types import Sweep
from tests.agent import make
from tests.agent.postgres import PASSWORD, USER, Postgres

Json = dict[str, Any]
DEVICES, TICK_S = 50, 0.1
BLOCK_S = 30.0
T0 = 1_767_225_600.0
DAY = 86_400


def hall(folder: Path, points: int, server: Postgres | None = None, **more: Any) -> Site:
    """A site of pushed points on DEVICES devices."""
    each = points // DEVICES or points
    devices = tuple(
        Device(id=f"d{i}", protocol="push", points=tuple(
            make.point(f"d{i}", f"p{k}", rack=f"R{i}", row="A") for k in range(each)))
        for i in range(points // each)
    )  # fmt: skip
    if server is not None:
        more |= {"url": server.url, "password": SecretRef(env="PG")}
    site = make.site(folder, **more)  # a late tick is not a poll too soon
    history = site.history.model_copy(update={"min_interval_s": 0.0})
    return replace(site, devices=devices, history=history)


def open_history(site: Site) -> History:
    return History(site, WallClock(), {"PG": PASSWORD})


class Control:
    """A cycle every TICK_S, as the control loop has one; how late each began, and how much of that
    was not waiting for a core (which others on the machine cause too)."""

    def __init__(self) -> None:
        self.late_ms: list[float] = []
        self.own_ms: list[float] = []

    async def run(self, seconds: float, each: Callable[[int], object]) -> None:
        begin = time.monotonic()
        for i in range(round(seconds / TICK_S)):
            due, waited_ms = begin + i * TICK_S, _waited_ms()
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            late_ms = (time.monotonic() - due) * 1000
            self.late_ms.append(late_ms)
            self.own_ms.append(max(0.0, late_ms - (_waited_ms() - waited_ms)))
            each(i)

    @property
    def p99_ms(self) -> float:
        return float(np.percentile(self.late_ms, 99))

    @property
    def own_p99_ms(self) -> float:
        return float(np.percentile(self.own_ms, 99))


def _waited_ms() -> float:
    """How long this thread has been ready to run and had no core (Linux's schedstat)."""
    path = f"/proc/self/task/{threading.get_native_id()}/schedstat"
    return int(Path(path).read_text(encoding="ascii").split()[1]) / 1e6


def compared(idle: Sequence[float], busy: Sequence[float]) -> Json:
    """p99 of blocks without and with history."""
    low, high = np.percentile(idle, [10, 90])
    middle = float(np.median(busy))
    return {"idle": round(float(np.median(idle)), 2), "busy": round(middle, 2),
            "idle_80_pct_of_blocks": [round(low, 2), round(high, 2)],
            "median_difference": round(float(np.median(np.subtract(busy, idle))), 2),
            "undisturbed": bool(middle <= high)}  # fmt: skip


def readings_of(site: Site, i: int) -> list[tuple[Device, Sweep]]:
    """A tenth of the devices a tick: each device once a second, as drivers hand a poll on."""
    now_s = time.time()
    return [
        (d, Sweep(tuple(p.key for p in d.points), np.full(len(d.points), 20.0 + (i % 97) / 7), now_s, {}))
        for d in site.devices[i % 10 :: 10]
    ]  # fmt: skip


def size_of(folder: Path, pattern: str) -> int:
    """Bytes of the files that fit."""
    return sum(p.stat().st_size for p in folder.glob(pattern))


async def connect(port: int) -> Any:
    """A client that is not SQLAlchemy's."""
    return await asyncpg.connect(
        host="127.0.0.1", port=port, user=USER, password=PASSWORD, database="postgres"
    )
