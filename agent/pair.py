"""One of two agents of a hall is the writer: a lease in the database both share.

Decides who may write, across hosts. The active renews the lease; the standby watches it, with no
device opened, and takes over when it has not changed for a while by the standby's own boot clock.
No two clocks are compared. With L = lease_s, counted from before a renewal was sent:

    L          the active starts no change any more; it stops and gives back what it holds
    1.25 L     the fence closes: the gate sends nothing at all (drivers/gate.py)
    1.5 L      without a change seen, the standby may take over; it polls every L / 4

What the active holds goes into the lease with each renewal (its journal's second copy); who takes
over books it as its own and gives it back, as after a restart. Each takeover is a new epoch, kept
in the journal: an agent that finds a later epoch than its own forgets what it held. The price: in
a pair, a database that is away for longer than L stops writing.
"""

import asyncio
import json
import signal
import socket
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import Row, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from agent.clock import WallClock
from agent.fence import FENCE_FILE
from agent.history.db import DATABASE_ERRORS, make_engine, migrate, one_line
from agent.history.schema import HALL_LEASE
from agent.history.store import mine
from agent.journal import Journal, copy_path
from agent.logs import Outage
from agent.notify import Notifier
from agent.sealed import read_sealed, replace_durably, seal
from config.site import Site
from control.types import Failed, Outcome

log = structlog.get_logger("skadi")

FENCE, TAKEOVER = 1.25, 1.5  # in leases, see above
_FIRST_S = 10.0  # for the first look, which may make the tables
Json = dict[str, Any]


class Pair:
    """This agent's side of the lease."""

    def __init__(self, site: Site, clock: WallClock, environ: Mapping[str, str]) -> None:
        assert site.pair is not None
        self._me, self._clock = (site.id, site.area), clock
        self._folder, self._lease_s = Path(site.agent.data_dir), site.pair.lease_s
        self._engine = make_engine(site, environ)
        self._holder = f"{socket.gethostname()}/{uuid.uuid4().hex[:12]}"
        self._key = int.from_bytes(
            sha256(f"skadi {self._me}".encode()).digest()[:8], "big", signed=True
        )
        self._sent_s = -float("inf")  # when the renewal was sent that still counts
        self._seen: tuple[tuple[int, int], float] | None = None  # (epoch, beat), since when
        self._nudge = asyncio.Event()
        self._outage = Outage("lease of the pair")
        self.epoch = 0

    def _now_s(self) -> float:
        return self._clock.boot_s() / self._clock.speed

    @property
    def valid(self) -> bool:
        """True while this agent may start changes."""
        return self._now_s() < self._sent_s + self._lease_s

    def fenced(self) -> bool:
        """True when this agent must not send anything to a device."""
        return self._now_s() >= self._sent_s + FENCE * self._lease_s

    def nudge(self, kind: str, _detail: Json) -> None:
        """A listener of the agent's: what is held has changed, so that the other side must know."""
        if kind in ("action", "ending"):
            self._nudge.set()

    async def become_active(self, stop: asyncio.Event, alive: Callable[[], None]) -> bool:
        """Wait for the lease; False when `stop` was set first. Raises JournalError."""
        said = False
        while not stop.is_set():
            alive()
            try:
                async with asyncio.timeout(_FIRST_S if self._seen is None else self._lease_s / 4):
                    sent_s = self._now_s()
                    row, epoch = await self._try(sent_s)
                self._outage.worked()
                if epoch:
                    before = row.holder if row is not None else ""
                    await asyncio.to_thread(self._book, row, epoch)
                    self.epoch, self._seen = epoch, None
                    self._renewed(sent_s)
                    log.warning("this agent is the active one", epoch=epoch, before=before)
                    return True
                if row is not None and not said:
                    log.info("standby", active=row.holder)
                    said = True
            except DATABASE_ERRORS as error:
                self._outage.failed(one_line(error))
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), self._lease_s / 4)
        return False

    async def _try(self, now_s: float) -> tuple[Row[Any] | None, int]:
        """Take the lease if it may be taken: as it was, and the new epoch (0: not taken)."""
        if self._seen is None:
            await migrate(self._engine)
        async with self._engine.begin() as connection:
            row = await self._locked(connection)
            if row is None:
                first = (*self._me, self._holder, 1, 1, "{}")
                await connection.execute(insert(HALL_LEASE).values(first))
                return None, 1
            if not self._may_take(row, now_s):
                return row, 0
            to = {"holder": self._holder, "epoch": row.epoch + 1, "beat": row.beat + 1}
            ours = update(HALL_LEASE).where(*mine(HALL_LEASE, self._me))
            await connection.execute(ours.values(to))
            return row, row.epoch + 1

    async def _locked(self, connection: AsyncConnection) -> Row[Any] | None:
        await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": self._key})
        found = await connection.execute(select(HALL_LEASE).where(*mine(HALL_LEASE, self._me)))
        return found.first()

    def _may_take(self, row: Row[Any], now_s: float) -> bool:
        if row.holder in ("", self._holder):  # given up, or ours and nobody came between
            return True
        if self._seen is None or self._seen[0] != (row.epoch, row.beat):
            self._seen = (row.epoch, row.beat), now_s
        return now_s - self._seen[1] >= TAKEOVER * self._lease_s

    def _book(self, row: Row[Any] | None, epoch: int) -> None:
        """Make the journal say what stands on the devices now, and under which epoch."""
        path, now_s = self._folder / "journal.db", self._clock.now_s()
        journal = Journal(path)
        ours = journal.kept("pair")
        if row is not None and (not ours or ours["epoch"] != row.epoch):
            void = [Outcome(Failed(k, "another agent took over"), None) for k in journal.held()]
            journal.outcome(now_s, 0, void)
            seq = journal.note(now_s, "takeover", {"epoch": epoch, "before": row.holder})
            journal.close()
            # The journal takes over what its second copy holds and it does not.
            replace_durably(copy_path(path), seal({"seq": seq + 1} | json.loads(row.held)))
            journal = Journal(path)
            journal.outcome(now_s, 0, [])
        journal.keep("pair", {"epoch": epoch, "holder": self._holder})
        journal.close()

    def _renewed(self, sent_s: float) -> None:
        self._sent_s = sent_s
        until_s = sent_s + FENCE * self._lease_s
        new = (self._folder / FENCE_FILE).with_suffix(".new")
        new.write_text(json.dumps({"boot_id": self._clock.boot_id, "until_s": until_s}), "utf-8")
        new.replace(self._folder / FENCE_FILE)

    async def hold(self) -> None:
        """Renew until the lease is lost; then return. No renewal waits for more than L / 4."""
        while self.valid:
            sent_s, held = self._now_s(), self._holdings()
            self._nudge.clear()
            try:
                async with asyncio.timeout(self._lease_s / 4):
                    if not await self._renew(held):
                        log.critical("another agent has taken the lease", epoch=self.epoch)
                        return
                self._renewed(sent_s)
                self._outage.worked()
            except (*DATABASE_ERRORS, ValueError) as error:
                self._outage.failed(one_line(error))
            left_s = self._sent_s + self._lease_s - self._now_s()
            with suppress(TimeoutError):
                pause_s = min(self._lease_s / 4, max(left_s, 0.0))
                await asyncio.wait_for(self._nudge.wait(), pause_s)
        log.critical("the lease could not be renewed: no more writing", reason=self._outage.reason)

    def _holdings(self) -> Json:
        found = read_sealed(copy_path(self._folder / "journal.db"))
        return {name: found.get(name, {}) for name in ("held", "devices")}

    async def _renew(self, held: Json) -> bool:
        c = HALL_LEASE.c
        ours = update(HALL_LEASE).where(
            *mine(HALL_LEASE, self._me), c.holder == self._holder, c.epoch == self.epoch
        )
        async with self._engine.begin() as connection:
            await self._locked(connection)
            done = await connection.execute(ours.values(beat=c.beat + 1, held=json.dumps(held)))
        return done.rowcount == 1

    async def give_up(self) -> None:
        """A clean stop: the other side need not wait. Not when something is still held."""
        if self._holdings()["held"]:
            return
        try:
            async with asyncio.timeout(self._lease_s / 4), self._engine.begin() as connection:
                await self._locked(connection)
                c = HALL_LEASE.c
                ours = (*mine(HALL_LEASE, self._me), c.holder == self._holder)
                await connection.execute(
                    update(HALL_LEASE).where(*ours).values(holder="", held="{}")
                )
        except DATABASE_ERRORS as error:
            self._outage.failed(one_line(error))

    async def close(self) -> None:
        """Let go of the database."""
        await self._engine.dispose()


async def run_in_pair(
    pair: Pair, notifier: Notifier, run: Callable[[Pair, asyncio.Event], Awaitable[None]]
) -> None:
    """Wait for the lease, run for as long as it is held, again, until a signal. `run` ends when
    its event is set."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    lapsed = asyncio.Event()

    def told() -> None:
        stop.set()
        lapsed.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told)
    try:
        while True:
            notifier.ready("standby")
            if not await pair.become_active(stop, notifier.watchdog):
                return
            holding = asyncio.create_task(pair.hold(), name="pair: lease")
            holding.add_done_callback(lambda _: lapsed.set())
            try:
                await run(pair, lapsed)
            finally:
                holding.cancel()
                await asyncio.gather(holding, return_exceptions=True)
            if stop.is_set():
                await pair.give_up()
                return
            lapsed.clear()
    finally:
        await pair.close()
