"""P4 in the small: `skadi release` with nothing but the journal and the devices."""

import asyncio
import os
from pathlib import Path

import pytest

from agent import release as module
from agent.journal import Journal, copy_path
from agent.release import Released, release
from control.types import Applied
from drivers.contract import DriverError
from drivers.gate import JournalError
from tests.safety.rig import FAN, PUMP, SHARE_A, SUPPLY, WATER, Rig
from tests.safety.world import BridgeDriver

JOURNAL = "journal.db"


class House:
    """A rig whose agent is dead, and `release` on its journal."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.rig, self.closed = folder, Rig(folder), list[str]()
        self.unmakeable: set[str] = set()
        monkeypatch.setattr(module, "make_driver", self._make)
        monkeypatch.setattr(module, "PAUSE_S", 0.001)
        monkeypatch.setattr(module, "DEADLINE_S", 0.4)

    def _make(self, device: object, _environ: object) -> BridgeDriver:
        name = device.id  # type: ignore[attr-defined]
        if name in self.unmakeable:
            raise DriverError(f"{name}: no secret")
        house = self

        class Driver(BridgeDriver):
            async def close(self) -> None:
                house.closed.append(name)

        made = Driver(device, self.rig.world.fields[name])  # type: ignore[arg-type]
        made.pause = self.rig.world.drivers[name].pause
        return made

    async def hold(self, **values: float) -> None:
        for key, value in values.items():
            receipt = await self.rig.one(key.replace("__", "/").replace("_", "-"), value)
            assert isinstance(receipt, Applied), receipt

    async def run(self) -> Released:
        self.rig.journal.close()
        return await release(self.folder / JOURNAL, {}, self.rig.world.clock)

    def held(self) -> set[str]:
        return set(Journal(self.folder / JOURNAL).held())


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    return House(tmp_path, monkeypatch)


async def test_where_nothing_ever_ran_there_is_nothing_to_do(tmp_path: Path) -> None:
    assert await release(tmp_path / JOURNAL, {}) == Released((), (), {})
    assert os.listdir(tmp_path) == []


async def test_everything_is_given_back(house: House) -> None:
    rig = house.rig
    for key, value in ((SUPPLY, 19.8), (WATER, 8.4), (SHARE_A, 60.0)):
        await rig.one(key, value)
    assert await house.run() == Released((WATER, SUPPLY, SHARE_A), (), {})
    assert [rig.cell(k) for k in (SUPPLY, WATER, SHARE_A)] == [18.0, 8.0, 50.0]
    assert rig.wire()[-1] == (SHARE_A, 50.0), "work last"
    assert house.held() == set()
    assert sorted(house.closed) == ["bms", "crac-a1", "router"]
    assert await house.run() == Released((), (), {}), "safe to run twice"


async def test_it_pauses_between_tries_and_not_after_the_last(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.rig.one(SUPPLY, 19.8)
    device, pauses = house.rig.world.fields["crac-a1"], list[float]()
    device.up, real = False, asyncio.sleep

    async def sleep(seconds: float) -> None:
        if seconds:
            pauses.append(seconds)
            device.up = True
        await real(0)

    monkeypatch.setattr(module.asyncio, "sleep", sleep)
    assert await house.run() == Released((SUPPLY,), (), {})
    assert pauses == [0.001]


async def test_a_driver_that_cannot_be_closed_is_no_matter(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was given back is said, and the journal is let go of."""
    await house.rig.one(SUPPLY, 19.8)
    journals, real = list[Journal](), Journal.close

    def closed(journal: Journal) -> None:
        journals.append(journal)
        real(journal)

    async def stuck(_driver: object) -> None:
        raise DriverError("stuck")

    monkeypatch.setattr(BridgeDriver, "close", stuck)
    monkeypatch.setattr(
        module, "make_driver", lambda d, _e: BridgeDriver(d, house.rig.world.fields[d.id])
    )
    house.rig.journal.close()
    monkeypatch.setattr(Journal, "close", closed)
    done = await release(house.folder / JOURNAL, {}, house.rig.world.clock)
    assert done == Released((SUPPLY,), (), {})
    assert len(journals) == 1


async def test_the_real_clock_will_do(house: House) -> None:
    await house.rig.one(SUPPLY, 19.8)
    house.rig.journal.close()
    assert (await release(house.folder / JOURNAL, {})).given_back == (SUPPLY,)


async def test_what_an_operator_holds_is_left_to_them(house: House) -> None:
    await house.rig.one(SUPPLY, 19.8)
    house.rig.world.fields["crac-a1"].operator(SUPPLY, 22.0)
    assert await house.run() == Released((), (SUPPLY,), {})
    assert house.rig.cell(SUPPLY) == 22.0


async def test_it_tries_again_until_the_device_answers(house: House) -> None:
    rig = house.rig
    await rig.one(SUPPLY, 19.8)
    field, looks = rig.world.fields["crac-a1"], list[str]()

    def wake(_device: str, act: str) -> None:
        looks.append(act)
        field.up = len(looks) > 3

    field.up = False
    rig.world.drivers["crac-a1"].pause = wake
    assert await house.run() == Released((SUPPLY,), (), {})
    assert len(looks) > 3


async def test_it_is_bounded_in_time_and_says_what_is_left(house: House) -> None:
    rig = house.rig
    await rig.one(SUPPLY, 19.8)
    await rig.one(PUMP, 88.0)
    rig.world.fields["pump"].up = False
    began_s = asyncio.get_running_loop().time()
    done = await house.run()
    assert asyncio.get_running_loop().time() - began_s < 30
    assert done.given_back == (SUPPLY,)
    assert set(done.left) == {PUMP}
    assert "silent" in done.left[PUMP]
    assert house.held() == {PUMP}
    rig.world.fields["pump"].up = True
    assert (await house.run()).given_back == (PUMP,)


async def test_a_device_that_hangs_does_not_hold_the_others_up(house: House) -> None:
    rig = house.rig
    await rig.one(SUPPLY, 19.8)
    await rig.one(PUMP, 88.0)

    async def hang(*_: object) -> None:
        await asyncio.Event().wait()

    real = house._make

    def make(device: object, environ: object) -> BridgeDriver:
        made = real(device, environ)
        if device.id == "pump":  # type: ignore[attr-defined]
            made.present = hang  # type: ignore[method-assign, assignment]
        return made

    module.make_driver = make  # type: ignore[assignment]
    done = await house.run()
    assert done == Released((SUPPLY,), (), {PUMP: "its device did not answer in time"})
    assert rig.cell(SUPPLY) == 18.0


async def test_a_driver_that_cannot_be_made_is_said(house: House) -> None:
    rig = house.rig
    await rig.one(SUPPLY, 19.8)
    await rig.one(PUMP, 88.0)
    house.unmakeable.add("pump")
    assert await house.run() == Released((SUPPLY,), (), {PUMP: "pump: no secret"})
    assert house.held() == {PUMP}


async def test_a_device_that_the_journal_has_lost_is_found_in_the_copy(house: House) -> None:
    await house.rig.one(SUPPLY, 19.8)
    house.rig.journal._db.execute("DELETE FROM device")
    assert await house.run() == Released((SUPPLY,), (), {})


async def test_a_device_that_nothing_knows_is_said(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.rig.one(SUPPLY, 19.8)
    monkeypatch.setattr(Journal, "devices", lambda _self: {})
    done = await house.run()
    assert done == Released((), (), {SUPPLY: "its device is not in the journal"})


async def test_what_an_interlock_holds_stays_as_it_is(house: House) -> None:
    """Nothing moves until a person has looked; the scope and the quantities are the lock's."""
    rig = house.rig
    for key, value in ((SUPPLY, 19.8), (FAN, 78.0), ("crac-b1/supply", 19.8)):
        await rig.one(key, value)
    rig.journal.keep("latches", {"holds": [["fire", "row:A", ["fan_rpm_pct"]]]})
    done = await house.run()
    assert set(done.given_back) == {SUPPLY, "crac-b1/supply"}
    assert done.left == {FAN: "interlock fire holds it"}
    assert rig.cell(FAN) == 78.0
    journal = Journal(house.folder / JOURNAL)
    journal.keep("latches", {"holds": [["fire", "row:B", []]]})
    journal.close()
    assert (await house.run()).given_back == (FAN,)


async def test_a_hold_without_quantities_is_for_all_of_its_scope(house: House) -> None:
    await house.rig.one(SUPPLY, 19.8)
    house.rig.journal.keep("latches", {"holds": [["fire", "hall", []]]})
    assert (await house.run()).left == {SUPPLY: "interlock fire holds it"}


async def test_a_corrupt_journal_is_released_from_its_copy(house: House) -> None:
    await house.rig.one(SUPPLY, 19.8)
    house.rig.journal.close()
    (house.folder / JOURNAL).write_bytes(b"x" * 9000)
    assert (await house.run()).given_back == (SUPPLY,)
    assert house.rig.cell(SUPPLY) == 18.0


async def test_the_copy_alone_is_enough(house: House) -> None:
    await house.rig.one(SUPPLY, 19.8)
    house.rig.journal.close()
    for file in house.folder.glob(f"{JOURNAL}*"):
        file.unlink()
    assert copy_path(house.folder / JOURNAL).exists()
    assert (await house.run()).given_back == (SUPPLY,)


async def test_a_journal_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    (tmp_path / JOURNAL).mkdir()
    with pytest.raises(JournalError):
        await release(tmp_path / JOURNAL, {})
