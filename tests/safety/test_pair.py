"""P16 across hosts: of two agents of a hall one writes, whatever happens to the other."""

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.clock import WallClock
from agent.fence import FENCE_FILE, fence_of
from agent.journal import Journal, copy_path
from agent.pair import Pair
from agent.sealed import read_sealed
from config.errors import ConfigError
from config.loader import load_site
from config.schema import PairSection
from config.secrets import SecretRef
from control.types import Lease
from tests.agent import make
from tests.agent.postgres import Postgres
from tests.e2e.world import CLOSED_LOOP, agent, hall, until
from tests.peers import free_port
from tests.safety.checkers.writers import Write, one_writer, takeover_s
from tests.safety.pair_kills import Campaign, Wire, crac

L = 8.0


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    made = Postgres()
    yield made
    made.remove()


class Host:
    """One side of a pair, with a boot clock that a test may move."""

    def __init__(self, folder: Path, server: Postgres, area: str) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.clock = folder, WallClock()
        self.late_s = 0.0
        boot_s = self.clock.boot_s
        self.clock.boot_s = lambda: boot_s() + self.late_s  # type: ignore[method-assign]
        site = make.site(folder, area=area, url=server.url, password=SecretRef(env="PG"),
                         pair=PairSection(lease_s=L))  # fmt: skip
        self.pair = Pair(site, self.clock, {"PG": server.password})

    async def asks(self) -> bool:
        """One look at the lease."""
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(0.1, stop.set)
        return await self.pair.become_active(stop, lambda: None)


async def hosts(tmp_path: Path, server: Postgres, area: str) -> tuple[Host, Host]:
    return Host(tmp_path / "one", server, area), Host(tmp_path / "two", server, area)


async def test_the_standby_waits_for_a_lease_that_stands_still_by_its_own_clock(
    tmp_path: Path, postgres: Postgres
) -> None:
    one, two = await hosts(tmp_path, postgres, "a")
    assert await one.asks()
    assert (one.pair.valid, one.pair.fenced(), one.pair.epoch) == (True, False, 1)
    assert not await two.asks()
    two.late_s += 1.4 * L
    await one.pair._renew({})
    assert not await two.asks(), "it was renewed meanwhile"
    two.late_s += 1.45 * L
    assert not await two.asks(), "it may still be renewed"
    assert not one.pair.fenced()
    one.late_s += 1.3 * L
    assert (one.pair.valid, one.pair.fenced()) == (False, True)
    two.late_s += 0.2 * L
    assert await two.asks()
    assert (two.pair.epoch, two.pair.valid) == (2, True)
    assert not await one.pair._renew({}), "the old one can't renew what is no longer its own"
    for host in (one, two):
        await host.pair.close()


async def test_what_the_dead_one_held_is_the_other_ones_to_give_back(
    tmp_path: Path, postgres: Postgres
) -> None:
    one, two = await hosts(tmp_path, postgres, "b")
    assert await one.asks()
    held = Lease("crac/1", 200.0, 200.0, 222.0, 5.0, 99.0, "p1", True, 200.0, 5.0, 200.0)
    journal = Journal(one.folder / "journal.db")
    journal.intend(5.0, "c", "test", crac(1), [held])
    journal.close()
    stale = Journal(two.folder / "journal.db")
    stale.intend(1.0, "c", "test", crac(1), [Lease("crac/2", *([201.0] * 3), 1.0, 2.0, "p0")])
    stale.close()
    await one.pair.give_up()
    assert not await two.asks(), "it is held: a clean stop that left something must be waited for"
    assert await one.pair._renew(one.pair._holdings())
    assert not await two.asks()
    two.late_s += 2 * L
    assert await two.asks()
    journal = Journal(two.folder / "journal.db")
    (lease,) = journal.held().values()
    assert (lease.point, lease.baseline, lease.value, lease.certain) == (
        "crac/1",
        200.0,
        222.0,
        False,
    )
    assert list(journal.devices()) == ["crac"]
    assert journal.kept("pair")["epoch"] == 2
    journal.outcome(6.0, 0, [])
    journal.close()
    assert set(read_sealed(copy_path(two.folder / "journal.db"))["held"]) == {"crac/1"}
    one.late_s += 2 * L
    assert await two.pair._renew({"held": {}, "devices": {}})
    await two.pair.close()
    two = Host(tmp_path / "two", postgres, "b")
    two.late_s = one.late_s = 50.0
    assert not await one.asks()
    one.late_s += 2 * L
    assert await one.asks()
    journal = Journal(one.folder / "journal.db")
    assert journal.held() == {}, "what the first one held belongs to an old epoch"
    journal.close()
    await one.pair.give_up()
    assert await two.asks(), "after a clean stop there is nothing to wait for"
    for host in (one, two):
        await host.pair.close()


async def test_without_its_database_the_active_stops_and_is_active_again_later(
    tmp_path: Path, postgres: Postgres
) -> None:
    one, _ = await hosts(tmp_path, postgres, "c")
    assert await one.asks()
    await asyncio.to_thread(postgres.stop, "immediate")
    holding = asyncio.create_task(one.pair.hold())
    await asyncio.sleep(0.05)
    one.late_s += L - 1
    async with asyncio.timeout(10):
        await holding
    assert not one.pair.valid
    assert not await one.asks()
    await asyncio.to_thread(postgres.start)
    assert await one.asks(), "nobody came between: no need to wait"
    assert one.pair.epoch == 2
    await one.pair.close()


def test_release_of_a_dead_agent_stops_at_the_fence(tmp_path: Path) -> None:
    clock = WallClock()
    assert not fence_of(tmp_path, clock)(), "no pair"
    until_s = clock.boot_s() + 100

    def says(**more: object) -> bool:
        (tmp_path / FENCE_FILE).write_text(
            json.dumps({"boot_id": clock.boot_id, "until_s": until_s} | more)
        )
        return fence_of(tmp_path, clock)()

    assert not says()
    assert says(until_s=clock.boot_s() - 0.001)
    assert says(boot_id="another")
    assert says(until_s=None)
    (tmp_path / FENCE_FILE).write_text("{")
    assert fence_of(tmp_path, clock)()


def test_a_pair_needs_one_database(tmp_path: Path) -> None:
    site = tmp_path / "site.toml"
    site.write_text('config_version = 1\n[site]\nid = "x"\n[pair]\nlease_s = 20.0\n')
    with pytest.raises(ConfigError, match=r"site.toml:5: pair.lease_s: needs history.url"):
        load_site(site, {})
    site.write_text(site.read_text() + '[history]\nurl = "postgresql://u@h/d"\n')
    assert load_site(site, {}).pair == PairSection()


def test_the_judge_of_writers_sees_two() -> None:
    fine = [Write(float(i), who) for i, who in enumerate([1, 1, 2, 2, 3])]
    assert one_writer(fine, {}) == []
    back = [*fine, Write(9.0, 1)]
    assert one_writer(back, {}) == ["9.000 s: process 1 writes while 3 is the writer"]
    assert one_writer(back, {3: 8.0}) == [], "it was the standby again, and the other was killed"
    assert len(one_writer(back, {3: 9.5})) == 1
    assert takeover_s(fine, 1, 1.5) == 0.5
    assert takeover_s(fine, 3, 4.0) is None


async def test_the_active_is_killed_and_the_other_takes_over(
    tmp_path: Path, postgres: Postgres
) -> None:
    """Some; python -m tests.safety.pair_kills does 50."""
    made = Campaign(tmp_path, postgres, 2.0)
    await made.run(int(os.environ.get("SKADI_PAIR_KILLS", "2")), freeze=False)
    print(made)
    assert made.broken == []


def test_two_agents_as_they_are_run(tmp_path: Path, postgres: Postgres) -> None:
    """`skadi run` twice: one is the standby, with no device opened, until the other is killed."""
    env = CLOSED_LOOP | {
        "SKADI_HISTORY__URL": postgres.url, "SKADI_PAIR__LEASE_S": "12.0",
        "SKADI_HISTORY__PASSWORD": '{ env = "PG" }', "PG": postgres.password,
    }  # fmt: skip
    with hall(tmp_path, speed=20.0) as at, agent(at, **env) as first:
        site = at.site.read_text()
        (tmp_path / "two").mkdir()
        at.folder, at.site = tmp_path / "two", tmp_path / "two" / "site.toml"
        at.site.write_text(site)
        mine = {
            "SKADI_AGENT__DATA_DIR": str(at.folder / "data"),
            "SKADI_API__LISTEN": "127.0.0.1:0",
        }
        with agent(at, **env | mine, says="standby") as second:
            assert not second.said("running")
            first.kill()
            until(lambda: second.said("running"), "the standby runs", 60.0)
            (taken,) = second.said("this agent is the active one")
            assert taken["epoch"] >= 2
            assert second.stop() == 0


WRITE_ONCE = """
import socket, struct, sys
own, port = map(int, sys.argv[1:])
with socket.socket() as s:
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.bind(("127.0.0.1", own))
    s.connect(("127.0.0.1", port))
    s.sendall(bytes.fromhex("000100000006010600000001"))
    s.recv(12)
"""


async def test_who_wrote_is_asked_of_each_connection() -> None:
    """A local port of a process that is gone is soon another's: who had it says nothing."""
    own, wrote = free_port(), []
    async with Wire() as wire:
        for _ in range(2):
            arguments = (sys.executable, "-c", WRITE_ONCE, str(own), str(wire.port))
            process = await asyncio.create_subprocess_exec(*arguments)
            assert await process.wait() == 0
            wrote.append(process.pid)
        assert [w.who for w in wire.log] == wrote
