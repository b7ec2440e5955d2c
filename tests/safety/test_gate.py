"""Ring two: what it checks on its own, what it makes of a device's answer, and giving back."""

import asyncio
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from config.site import Point
from control.types import (
    Applied,
    Change,
    Failed,
    Kind,
    Lease,
    Mismatch,
    Overridden,
    Present,
    Target,
    Unknown,
)
from drivers.contract import NotSent
from drivers.gate import FENCED, Gate, JournalError, ending_value
from tests.safety.rig import (
    FAN,
    PERMIT_S,
    PUMP,
    SHARE_A,
    SHARE_B,
    SUPPLY,
    WATER,
    Rig,
    Scripted,
)
from tests.safety.world import START_S


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def why(receipt: object) -> str:
    assert isinstance(receipt, Failed | Unknown | Overridden), receipt
    return receipt.reason


async def refused(rig: Rig, key: str, value: float, word: str, **more: object) -> None:
    """The write is refused for this reason, and nothing reaches a device or the journal."""
    before, held = rig.wire(), rig.held()
    receipt = await rig.one(key, value, **more)  # type: ignore[arg-type]
    assert isinstance(receipt, Failed)
    assert word in receipt.reason
    assert rig.wire() == before
    assert rig.held() == held


# -- what is permitted


async def test_a_permitted_write_is_journaled_written_and_read_back(rig: Rig) -> None:
    outcomes = await rig.apply({SUPPLY: 19.8})
    assert [o.receipt for o in outcomes] == [Applied(SUPPLY, 19.8)]
    assert rig.wire() == [(SUPPLY, 19.8)]
    assert rig.held()[SUPPLY] == outcomes[0].lease == Lease(
        SUPPLY, 19.0, 19.0, 19.8, START_S, START_S + 900.0, "p1", True, 19.0, START_S, 19.0
    )  # fmt: skip
    assert [e["move"] for e in rig.journal.latest("intent", 9)] == ["test"]


async def test_the_intent_is_durable_before_the_wire_is_touched(rig: Rig) -> None:
    """P3, at the instant of the write: a second connection sees the intent and the doubt."""
    seen: list[tuple[int, bool]] = []

    def at_write() -> None:
        seen.append((len(rig.journal.latest("intent", 9)), rig.journal.held()[SUPPLY].certain))

    rig.world.fields["crac-a1"].on_write = at_write
    await rig.one(SUPPLY, 19.8)
    assert seen == [(1, False)]


async def test_a_second_write_keeps_the_first_baseline(rig: Rig) -> None:
    await rig.one(SUPPLY, 19.8)
    rig.world.clock.advance(5.0)
    await rig.one(SUPPLY, 20.5)
    lease = rig.held()[SUPPLY]
    assert (lease.baseline, lease.previous, lease.value, lease.instead) == (19.0, 19.8, 20.5, 19.8)
    assert (lease.taken_s, lease.baseline_s, lease.proposal) == (START_S + 5.0, START_S, "p2")
    assert lease.stood == 19.0


async def test_a_slot_that_was_empty_has_no_baseline(rig: Rig) -> None:
    assert await rig.one(WATER, 8.4) == Applied(WATER, 8.4)
    lease = rig.held()[WATER]
    assert (lease.baseline, lease.previous, lease.stood) == (None, None, 8.0)


async def test_several_devices_stop_at_the_first_that_fails(rig: Rig) -> None:
    rig.world.fields["pump"].refuses = True
    outcomes = await rig.apply({SUPPLY: 19.5, PUMP: 88.0, WATER: 8.4})
    assert [type(o.receipt) for o in outcomes] == [Applied, Failed]
    assert rig.wire() == [(SUPPLY, 19.5)]


async def test_points_of_one_device_are_one_request(rig: Rig) -> None:
    outcomes = await rig.apply({SUPPLY: 19.5, FAN: 78.0})
    assert all(isinstance(o.receipt, Applied) for o in outcomes)
    assert rig.world.fields["crac-a1"].writes == 1


# -- what is not


@pytest.mark.parametrize("late_s", [-0.001, PERMIT_S + 0.001])
async def test_a_permit_is_void_before_and_after_its_time(rig: Rig, late_s: float) -> None:
    permit = rig.permit({SUPPLY: 19.5})
    outcomes = await rig.gate.apply(permit, lambda: permit.issued_s + late_s)
    assert "not valid now" in why(outcomes[0].receipt)
    assert rig.wire() == []


@pytest.mark.parametrize("late_s", [0.0, PERMIT_S])
async def test_a_permit_is_good_to_its_edges(rig: Rig, late_s: float) -> None:
    permit = rig.permit({SUPPLY: 19.5})
    (outcome,) = await rig.gate.apply(permit, lambda: permit.issued_s + late_s)
    assert isinstance(outcome.receipt, Applied)


async def test_a_permit_says_how_old_it_is(rig: Rig) -> None:
    permit = rig.permit({SUPPLY: 19.5})
    (outcome,) = await rig.gate.apply(permit, lambda: permit.issued_s + 33.0)
    assert why(outcome.receipt) == "the permit is not valid now (33 s old)"


async def test_a_permit_is_used_once(rig: Rig) -> None:
    assert isinstance(await rig.one(SUPPLY, 19.5, id="same"), Applied)
    await refused(rig, SUPPLY, 19.6, "used before", id="same")
    assert isinstance(await rig.one(SUPPLY, 19.6, id="same", cycle="c2"), Applied)


async def test_what_was_given_back_while_a_permit_waited_stays_so(rig: Rig) -> None:
    assert isinstance(await rig.one(SUPPLY, 19.5), Applied)
    await rig.back(SUPPLY)  # by another task, in the instant the next permit is made
    await refused(rig, SUPPLY, 19.0, "was given back meanwhile", id="late")
    assert await rig.one(SUPPLY, 17.0, Kind.PROTECTIVE, id="safe") == Applied(SUPPLY, 17.0)
    rig.world.clock.advance(0.1)
    assert isinstance(await rig.one(SUPPLY, 17.5, id="new"), Applied)


async def test_used_permits_are_forgotten_once_they_are_void(rig: Rig) -> None:
    await rig.one(SUPPLY, 19.5, id="same")
    rig.world.clock.advance(PERMIT_S)
    await refused(rig, SUPPLY, 19.6, "used before", id="same")
    rig.world.clock.advance(PERMIT_S + 0.1)
    assert isinstance(await rig.one(SUPPLY, 19.6, id="same"), Applied)


async def test_a_point_twice_in_one_change(rig: Rig) -> None:
    twice = (Change(SUPPLY, 19.0, 19.5), Change(SUPPLY, 19.0, 19.6))
    outcomes = await rig.apply({SUPPLY: 19.5}, changes=twice)
    assert {why(o.receipt) for o in outcomes} == {"a point stands twice in one change"}
    assert rig.wire() == []


async def test_only_the_allow_list(rig: Rig) -> None:
    await refused(rig, "crac-a1/secret", 1.0, "not on the allow-list")
    await refused(rig, "rack-a1/inlet1", 20.0, "not on the allow-list")
    del rig.world.drivers["pump"]
    await refused(rig, PUMP, 88.0, "not on the allow-list")


@pytest.mark.parametrize("value", [15.999, 27.001, math.nan, math.inf, -math.inf])
async def test_the_envelope_is_hard(rig: Rig, value: float) -> None:
    await refused(rig, SUPPLY, value, "outside 16..27", kind=Kind.PROTECTIVE)


@pytest.mark.parametrize(("before", "edge"), [(16.5, 16.0), (26.5, 27.0)])
async def test_the_envelopes_edges_are_inside(rig: Rig, before: float, edge: float) -> None:
    rig.world.fields["crac-a1"].cells[SUPPLY].value = before
    assert await rig.one(SUPPLY, edge) == Applied(SUPPLY, edge)


async def test_not_armed(rig: Rig) -> None:
    rig.armed.discard(SUPPLY)
    await refused(rig, SUPPLY, 19.5, "not armed")


@pytest.mark.parametrize(("priority", "fine"), [(8, False), (9, True), (15, True), (16, False)])
async def test_priorities_9_to_15_are_an_optimizers(rig: Rig, priority: int, fine: bool) -> None:
    driver = rig.world.drivers["bms"]
    driver.device = replace(driver.device, write_priority=priority)
    if fine:
        assert isinstance(await rig.one(WATER, 8.4), Applied)
    else:
        await refused(rig, WATER, 8.4, "priority 9..15 only")


async def test_a_device_that_cannot_be_read_is_not_written(rig: Rig) -> None:
    rig.world.fields["crac-a1"].reads_nothing = True
    await refused(rig, SUPPLY, 19.5, "can't be read before writing")


@pytest.mark.parametrize(("value", "fine"), [(20.0, True), (18.0, True), (20.01, False), (17.9, False)])  # fmt: skip
async def test_the_step_is_from_what_the_device_holds(rig: Rig, value: float, fine: bool) -> None:
    if fine:
        assert await rig.one(SUPPLY, value) == Applied(SUPPLY, value)
    else:
        await refused(rig, SUPPLY, value, f"a step of {abs(value - 19.0):g} from 19 is over 1")


async def test_a_step_may_be_off_by_half_a_register(rig: Rig) -> None:
    """What an integer register holds is not what was asked for, by up to half its scale."""
    address = replace(rig.points[SUPPLY].address, type="int16")  # type: ignore[call-arg]
    rig.points[SUPPLY] = replace(rig.points[SUPPLY], address=address, scale=0.1)
    rig.gate = rig.new_gate()
    rig.world.fields["crac-a1"].lies = -0.04
    assert await rig.one(SUPPLY, 20.04) == Applied(SUPPLY, 20.04), (
        "what was asked for is what stands"
    )
    await refused(rig, SUPPLY, 21.11, "is over 1")


async def test_a_protective_move_goes_as_far_as_it_likes_towards_safety(rig: Rig) -> None:
    assert await rig.one(SUPPLY, 16.0, Kind.PROTECTIVE) == Applied(SUPPLY, 16.0)
    assert await rig.one(PUMP, 100.0, Kind.PROTECTIVE) == Applied(PUMP, 100.0)
    assert [e["move"] for e in rig.journal.latest("intent", 9)] == ["protective:test"] * 2
    await refused(rig, SUPPLY, 16.2, "not towards safety", kind=Kind.PROTECTIVE)


async def test_a_protective_move_to_what_stands_writes_nothing(rig: Rig) -> None:
    """A write that asks for no change is one more chance for a device to lie."""
    assert await rig.one(SUPPLY, 18.0) == Applied(SUPPLY, 18.0)
    wire, held = rig.wire(), rig.held()
    assert await rig.one(SUPPLY, 18.0, Kind.PROTECTIVE) == Applied(SUPPLY, 18.0)
    assert (rig.wire(), rig.held()) == (wire, held)
    assert await rig.apply({SUPPLY: 18.0, FAN: 100.0}, Kind.PROTECTIVE)
    assert rig.cell(FAN) == 100.0, "one part of it is a change"


async def test_what_is_in_doubt_is_written_again(rig: Rig) -> None:
    """It may read as wanted, and a late write of ours land after that."""
    field = rig.world.fields["crac-a1"]
    field.on_write = lambda: setattr(field, "reads_nothing", True)
    assert isinstance(await rig.one(SUPPLY, 18.0), Unknown)
    field.on_write, field.reads_nothing = None, False
    assert rig.cell(SUPPLY) == 18.0
    assert await rig.one(SUPPLY, 18.0, Kind.PROTECTIVE) == Applied(SUPPLY, 18.0)
    assert rig.wire() == [(SUPPLY, 18.0)] * 2


async def test_work_has_no_safe_direction(rig: Rig) -> None:
    await refused(rig, SHARE_A, 90.0, "not towards safety", kind=Kind.PROTECTIVE)


async def test_a_value_that_cannot_be_read(rig: Rig) -> None:
    Scripted(rig, "crac-a1", Present(None))
    await refused(rig, SUPPLY, 19.5, "present value can't be read")


async def test_what_has_no_priority_array_is_not_relinquished(rig: Rig) -> None:
    Scripted(rig, "bms", Present(8.0, None, None, slots=False))
    await refused(rig, WATER, 8.4, "relinquish = false")


async def test_our_slot_filled_by_somebody_else(rig: Rig) -> None:
    rig.world.fields["bms"].operator(WATER, 9.0, priority=12)
    await refused(rig, WATER, 8.9, "our slot of the priority array is not empty")


async def test_time_goes_by_while_looking(rig: Rig) -> None:
    """Armed, expiry and all: once more after the device was read."""

    def disarm(_device: str, _act: str) -> None:
        rig.armed.clear()

    rig.world.drivers["crac-a1"].pause = disarm
    await refused(rig, SUPPLY, 19.5, "not armed")

    def dawdle(_device: str, _act: str) -> None:
        rig.world.clock.advance(PERMIT_S + 1.0)

    rig.armed.add(PUMP)
    rig.world.drivers["pump"].pause = dawdle
    await refused(rig, PUMP, 88.0, "not valid now")


# -- operators


@pytest.mark.parametrize("priority", [1, 8, 11])
async def test_a_higher_priority_is_yielded_to(rig: Rig, priority: int) -> None:
    rig.world.fields["bms"].operator(WATER, 9.0, priority)
    (outcome,) = await rig.apply({WATER: 8.9})
    assert outcome.receipt == Overridden(WATER, priority, 9.0, "an operator's priority rules")
    assert outcome.lease is None
    assert rig.wire() == []


async def test_a_lower_priority_is_not(rig: Rig) -> None:
    rig.world.fields["bms"].operator(WATER, 9.0, 14)
    assert await rig.one(WATER, 9.4) == Applied(WATER, 9.4)


async def test_a_value_changed_by_another_hand_is_yielded_to(rig: Rig) -> None:
    await rig.one(SUPPLY, 19.5)
    rig.world.fields["crac-a1"].operator(SUPPLY, 21.0)
    (outcome,) = await rig.apply({SUPPLY: 20.5})
    assert outcome.receipt == Overridden(SUPPLY, None, 21.0, "changed by another hand")
    assert outcome.lease == rig.held()[SUPPLY]  # the executor ends it
    assert rig.wire() == [(SUPPLY, 19.5)]


async def test_an_operator_on_one_point_of_an_equipment_has_all_of_it(rig: Rig) -> None:
    """Otherwise a share of ours would stay beside one of theirs, and belong to nobody."""
    await rig.one(FAN, 78.0)
    await rig.one("crac-a2/supply", 17.0)
    rig.world.fields["crac-a1"].operator(FAN, 60.0)
    (outcome,) = await rig.apply({SUPPLY: 19.5})
    assert outcome.receipt == Overridden(FAN, None, 60.0, "changed by another hand")
    assert rig.cell(SUPPLY) == 19.0
    assert await rig.one("crac-a2/supply", 17.4) == Applied("crac-a2/supply", 17.4)


async def test_a_device_that_lost_its_slots_is_not_rewritten(rig: Rig) -> None:
    await rig.one(WATER, 8.4)
    rig.world.fields["bms"].reboot()
    assert why(await rig.one(WATER, 8.3)) == "our slot was emptied"
    assert rig.wire() == [(WATER, 8.4)]


async def test_an_operator_between_write_and_read_back(rig: Rig) -> None:
    def operate(_device: str, act: str) -> None:
        if act == "written":
            rig.world.fields["bms"].operator(WATER, 10.0)

    rig.world.drivers["bms"].pause = operate
    (outcome,) = await rig.apply({WATER: 8.4})
    assert outcome.receipt == Overridden(WATER, 8, 10.0, "an operator's priority rules")
    assert outcome.lease is not None
    assert rig.held()[WATER].certain is False
    assert set(rig.journal.latched()) == {WATER}


# -- devices that fail and lie


async def test_a_refusal_leaves_nothing(rig: Rig) -> None:
    rig.world.fields["crac-a1"].refuses = True
    assert "refuses" in why(await rig.one(SUPPLY, 19.5))
    assert rig.held() == {}


async def test_a_refusal_leaves_the_earlier_lease(rig: Rig) -> None:
    await rig.one(SUPPLY, 19.5)
    before = rig.held()
    rig.world.fields["crac-a1"].refuses = True
    await rig.one(SUPPLY, 19.9)
    assert rig.held() == before


async def test_what_was_never_sent_is_not_held(rig: Rig) -> None:
    driver = rig.world.drivers["crac-a1"]

    async def not_sent(_values: object) -> None:
        raise NotSent("the socket is gone")

    driver.write_raw = not_sent  # type: ignore[method-assign]
    assert why(await rig.one(SUPPLY, 19.5)) == "the socket is gone"
    assert rig.held() == {}


async def test_a_lost_answer_is_settled_by_reading_back(rig: Rig) -> None:
    rig.world.fields["crac-a1"].loses_answer = True
    assert await rig.one(SUPPLY, 19.5) == Applied(SUPPLY, 19.5)


async def test_a_lost_request_counts_as_possibly_applied(rig: Rig) -> None:
    rig.world.fields["crac-a1"].loses_request = True
    assert "silent" in why(await rig.one(SUPPLY, 19.5))
    lease = rig.held()[SUPPLY]
    assert (lease.value, lease.instead, lease.certain) == (19.5, 19.0, False)


@pytest.mark.parametrize("answers", [True, False])
async def test_what_cannot_be_read_back_counts_as_possibly_applied(rig: Rig, answers: bool) -> None:
    field = rig.world.fields["crac-a1"]
    field.loses_answer = not answers
    field.on_write = lambda: setattr(field, "reads_nothing", True)
    said = why(await rig.one(SUPPLY, 19.5))
    assert said.startswith("sent" if answers else "crac-a1 did it and is silent")
    assert "can't be read back" in said
    assert rig.held()[SUPPLY].certain is False


async def test_a_device_that_lies_is_a_mismatch_and_ours_to_take_back(rig: Rig) -> None:
    rig.world.fields["crac-a1"].lies = 0.7
    (outcome,) = await rig.apply({SUPPLY: 19.5})
    assert outcome.receipt == Mismatch(SUPPLY, 19.5, 20.2)
    assert rig.held()[SUPPLY].value == 20.2
    assert rig.held()[SUPPLY].certain is False
    assert rig.journal.latched()[SUPPLY]["found"] == 20.2


async def test_a_device_that_ignores_is_a_mismatch(rig: Rig) -> None:
    rig.world.fields["crac-a1"].ignores = True
    assert await rig.one(SUPPLY, 19.5) == Mismatch(SUPPLY, 19.5, 19.0)


async def test_a_silent_device_that_made_something_else_of_it(rig: Rig) -> None:
    field = rig.world.fields["crac-a1"]
    field.lies, field.loses_answer = 0.7, True
    assert await rig.one(SUPPLY, 19.5) == Mismatch(SUPPLY, 19.5, 20.2)


async def test_a_read_back_without_a_value(rig: Rig) -> None:
    Scripted(rig, "crac-a1", Present(19.0), Present(None))
    (outcome,) = await rig.apply({SUPPLY: 19.5})
    assert outcome.receipt == Mismatch(SUPPLY, 19.5, None)
    assert outcome.lease is not None
    assert (outcome.lease.value, outcome.lease.certain) == (19.5, False)


async def test_our_slot_is_right_and_the_present_value_is_not(rig: Rig) -> None:
    """P8: slot, present value and active priority, all three."""
    Scripted(rig, "bms", Present(8.0, None, None, slots=True), Present(11.0, 12, 8.4, slots=True))
    assert await rig.one(WATER, 8.4) == Mismatch(WATER, 8.4, 11.0)


# -- the journal


def _fail(*_: object, **__: object) -> int:
    raise JournalError("disk full")


async def test_no_intent_no_write(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rig.journal, "intend", _fail)
    await refused(rig, SUPPLY, 19.5, "journal: disk full")


async def test_an_outcome_that_is_lost_does_not_stay(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rig.journal, "outcome", _fail)
    outcomes = await rig.apply({SUPPLY: 19.5, FAN: 78.0})
    assert {type(o.receipt) for o in outcomes} == {Unknown}
    assert {why(o.receipt)[:19] for o in outcomes} == {"the journal is lost"}
    assert {o.receipt.point for o in outcomes} == rig.gate.held.keys()


async def test_a_lost_outcome_of_a_failure_is_still_a_failure(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rig.journal, "outcome", _fail)
    rig.world.fields["crac-a1"].lies = 0.7
    assert isinstance(await rig.one(SUPPLY, 19.5), Mismatch)


@pytest.mark.parametrize("refused", [True, False])
async def test_a_giving_back_that_fails_says_whom_it_has_seen(rig: Rig, refused: bool) -> None:
    """The next look may find nobody; and what is ours there is still to be taken out."""
    await rig.one(WATER, 8.4)
    bms = rig.world.fields["bms"]
    bms.operator(WATER, 9.5)
    bms.refuses, bms.loses_request = refused, not refused
    bms.on_write = lambda: setattr(bms, "reads_nothing", not refused)
    (outcome,) = await rig.back(WATER)
    assert outcome.receipt == Overridden(WATER, 8, 9.5, "an operator's priority rules")
    assert outcome.lease is not None
    assert rig.held()[WATER] == outcome.lease
    assert rig.journal.latched()[WATER]["priority"] == 8
    bms.refuses = bms.loses_request = bms.reads_nothing = False
    bms.on_write = None
    await rig.back(WATER)
    assert rig.held() == {}


@pytest.mark.parametrize("refused", [True, False])
async def test_a_giving_back_that_fails_with_nobody_there_is_a_failure(
    rig: Rig, refused: bool
) -> None:
    await rig.one(WATER, 8.4)
    bms = rig.world.fields["bms"]
    bms.refuses, bms.loses_request = refused, not refused
    (outcome,) = await rig.back(WATER)
    assert isinstance(outcome.receipt, Failed if refused else Unknown)
    assert rig.journal.latched() == {}


async def test_prolonging_changes_the_expiry_of_what_stands_and_the_age_of_its_baseline(
    rig: Rig,
) -> None:
    await rig.one(SUPPLY, 19.5)
    lease = rig.held()[SUPPLY]
    longer = replace(lease, expires_s=lease.expires_s + 60.0, value=99.0)
    rig.gate.prolong([longer, replace(longer, point=PUMP)], rig.now())
    assert rig.held() == {SUPPLY: replace(lease, expires_s=lease.expires_s + 60.0)}
    rig.gate.prolong([replace(rig.held()[SUPPLY], baseline_s=rig.now() + 7.0)], rig.now())
    assert rig.held()[SUPPLY].baseline_s == rig.now() + 7.0


async def test_what_cannot_be_recorded_is_not_prolonged(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rig.one(SUPPLY, 19.5)
    before = rig.held()
    monkeypatch.setattr(rig.journal, "renew", _fail)
    with pytest.raises(JournalError):
        rig.gate.prolong([replace(before[SUPPLY], expires_s=9e9)], rig.now())
    assert rig.held() == before


async def test_points_that_the_site_no_longer_has_are_not_the_gates(rig: Rig) -> None:
    await rig.one(SUPPLY, 19.5)
    del rig.points[SUPPLY]
    assert rig.new_gate().held == {}


# -- giving back


async def test_nothing_held_nothing_given_back(rig: Rig) -> None:
    assert await rig.back(SUPPLY) == []
    assert rig.wire() == []


@pytest.mark.parametrize(("first", "target", "expected"), [
    (19.8, Target.BASELINE, 18.0),  # safer than what stood: 18 is its safe value
    (19.8, Target.SAFE, 18.0),
    (19.8, Target.PREVIOUS, 19.0),
])  # fmt: skip
async def test_a_register_is_given_back(
    rig: Rig, first: float, target: Target, expected: float
) -> None:
    await rig.one(SUPPLY, first)
    (outcome,) = await rig.back(SUPPLY, target=target)
    assert outcome.receipt == Applied(SUPPLY, expected)
    assert rig.cell(SUPPLY) == expected
    assert rig.held() == {}
    assert [e["move"] for e in rig.journal.latest("intent", 1)] == [f"give_back:{target}"]


async def test_a_slot_is_relinquished(rig: Rig) -> None:
    await rig.one(WATER, 8.4)
    (outcome,) = await rig.back(WATER, target=Target.SAFE)
    assert outcome.receipt == Applied(WATER, 8.0)
    assert rig.wire() == [(WATER, 8.4), (WATER, None)]
    assert rig.held() == {}


async def test_undoing_goes_one_write_back_and_keeps_the_lease(rig: Rig) -> None:
    await rig.one(SUPPLY, 19.8)
    await rig.one(SUPPLY, 20.5)
    (outcome,) = await rig.back(SUPPLY, target=Target.PREVIOUS)
    assert outcome.receipt == Applied(SUPPLY, 19.8)
    lease = rig.held()[SUPPLY]
    assert (lease.value, lease.previous, lease.baseline, lease.certain) == (19.8, 19.0, 19.0, True)
    await rig.back(SUPPLY, target=Target.PREVIOUS)
    assert (rig.cell(SUPPLY), rig.held()) == (19.0, {})


async def test_giving_back_is_never_blocked_by_arming_or_envelope(rig: Rig) -> None:
    rig.world.fields["crac-a1"].cells[SUPPLY].value = 28.0
    safeless = replace(rig.points[SUPPLY].limits, safe_value=None)
    rig.points[SUPPLY] = replace(rig.points[SUPPLY], writable=safeless)
    await rig.one(SUPPLY, 27.0)
    rig.armed.clear()
    await rig.back(SUPPLY)
    assert rig.cell(SUPPLY) == 28.0  # what stood before us


async def test_shares_are_given_back_as_one_change(rig: Rig) -> None:
    await rig.apply({SHARE_A: 40.0, SHARE_B: 60.0})
    outcomes = await rig.back(SHARE_A, SHARE_B)
    assert [o.receipt for o in outcomes] == [Applied(SHARE_A, 50.0), Applied(SHARE_B, 50.0)]
    assert rig.world.fields["router"].writes == 2


async def test_a_change_by_another_hand_stays(rig: Rig) -> None:
    await rig.one(SUPPLY, 19.8)
    rig.world.fields["crac-a1"].operator(SUPPLY, 22.0)
    (outcome,) = await rig.back(SUPPLY)
    assert outcome.receipt == Overridden(SUPPLY, None, 22.0, "changed by another hand")
    assert (rig.cell(SUPPLY), rig.held()) == (22.0, {})
    assert rig.wire() == [(SUPPLY, 19.8)]
    assert set(rig.journal.latched()) == {SUPPLY}
    assert booked_for(rig) == 0


def booked_for(rig: Rig) -> int:
    """The intent that the last outcome belongs to; 0: there was none, so no budget counts it."""
    found: int = rig.journal.latest("outcome", 1)[0]["intent"]
    return found


async def test_one_changed_share_is_everybodys(rig: Rig) -> None:
    await rig.apply({SHARE_A: 40.0, SHARE_B: 60.0})
    rig.world.fields["router"].operator(SHARE_A, 70.0)
    outcomes = await rig.back(SHARE_A, SHARE_B)
    assert {type(o.receipt) for o in outcomes} == {Overridden}
    assert len(rig.wire()) == 2


async def test_what_is_there_already_is_not_written(rig: Rig) -> None:
    await rig.one(SUPPLY, 18.0)
    (outcome,) = await rig.back(SUPPLY)
    assert outcome.receipt == Applied(SUPPLY, 18.0)
    assert rig.wire() == [(SUPPLY, 18.0)]
    assert rig.held() == {}
    assert booked_for(rig) == 0


async def test_after_a_doubt_it_is_written_all_the_same(rig: Rig) -> None:
    """A write that was thought lost could still land."""
    rig.world.fields["crac-a1"].loses_request = True
    await rig.one(SUPPLY, 18.0)
    rig.world.fields["crac-a1"].loses_request = False
    rig.world.fields["crac-a1"].cells[SUPPLY].value = 18.0
    await rig.back(SUPPLY)
    assert rig.wire() == [(SUPPLY, 18.0)]


async def test_a_doubt_is_ours_whichever_of_the_two_values_it_holds(rig: Rig) -> None:
    rig.world.fields["crac-a1"].loses_request = True
    await rig.one(SUPPLY, 19.8)
    rig.world.fields["crac-a1"].loses_request = False
    (outcome,) = await rig.back(SUPPLY)  # 19.0, what it held instead
    assert outcome.receipt == Applied(SUPPLY, 18.0)
    assert rig.held() == {}


async def test_a_device_that_cannot_be_read_keeps_its_lease(rig: Rig) -> None:
    await rig.one(SUPPLY, 19.8)
    before = rig.held()
    rig.world.fields["crac-a1"].reads_nothing = True
    (outcome,) = await rig.back(SUPPLY)
    assert "can't be read before giving back" in why(outcome.receipt)
    assert rig.held() == before


async def test_a_value_that_cannot_be_read_is_not_taken_for_an_operators(rig: Rig) -> None:
    await rig.one(SUPPLY, 19.8)
    before = rig.held()
    Scripted(rig, "crac-a1", Present(None))
    (outcome,) = await rig.back(SUPPLY)
    assert why(outcome.receipt) == "its present value can't be read"
    assert rig.held() == before
    assert not rig.journal.latched()


async def test_a_refused_giving_back_stays_owed_as_a_doubt(rig: Rig) -> None:
    await rig.one(SUPPLY, 19.8)
    rig.world.fields["crac-a1"].refuses = True
    (outcome,) = await rig.back(SUPPLY)
    assert isinstance(outcome.receipt, Failed)
    lease = rig.held()[SUPPLY]
    assert (lease.value, lease.instead, lease.certain) == (18.0, 19.8, False)
    assert lease.taken_s == rig.now()
    rig.world.fields["crac-a1"].refuses = False
    await rig.back(SUPPLY)
    assert (rig.cell(SUPPLY), rig.held()) == (18.0, {})


async def test_a_lost_relinquish_keeps_what_we_wrote(rig: Rig) -> None:
    await rig.one(WATER, 8.4)
    rig.world.fields["bms"].loses_request = True
    (outcome,) = await rig.back(WATER)
    assert isinstance(outcome.receipt, Unknown)
    lease = rig.held()[WATER]
    assert (lease.value, lease.instead, lease.certain) == (8.4, 8.4, False)


async def test_giving_back_does_without_a_dying_journal(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rig.one(SUPPLY, 19.8)
    monkeypatch.setattr(rig.journal, "intend", _fail)
    monkeypatch.setattr(rig.journal, "outcome", _fail)
    (outcome,) = await rig.back(SUPPLY)
    assert outcome.receipt == Applied(SUPPLY, 18.0)
    assert (rig.cell(SUPPLY), rig.gate.held) == (18.0, {})


async def test_giving_back_without_an_intent_is_booked_for_none(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rig.one(SUPPLY, 19.8)
    monkeypatch.setattr(rig.journal, "intend", _fail)
    await rig.back(SUPPLY)
    assert booked_for(rig) == 0
    assert rig.held() == {}


async def test_undoing_without_a_record_goes_all_the_way_back(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later run could not tell our earlier value from an operator's."""
    await rig.one(SUPPLY, 19.8)
    await rig.one(SUPPLY, 20.5)
    monkeypatch.setattr(rig.journal, "intend", _fail)
    monkeypatch.setattr(rig.journal, "outcome", _fail)
    (outcome,) = await rig.back(SUPPLY, target=Target.PREVIOUS)
    assert outcome.receipt == Applied(SUPPLY, 18.0)
    assert (rig.cell(SUPPLY), rig.gate.held) == (18.0, {})


async def test_an_operators_priority_is_left_and_our_slot_is_emptied(rig: Rig) -> None:
    await rig.one(WATER, 8.4)
    rig.world.fields["bms"].operator(WATER, 10.0)
    (outcome,) = await rig.back(WATER)
    assert outcome.receipt == Overridden(WATER, 8, 10.0, "an operator's priority rules")
    assert rig.world.fields["bms"].cells[WATER].slots == {8: 10.0}
    assert rig.held() == {}


async def test_an_operator_who_was_seen_is_yielded_to_though_gone_again(rig: Rig) -> None:
    await rig.one(WATER, 8.4)
    rig.world.fields["bms"].operator(WATER, 10.0)

    def let_go(_device: str, act: str) -> None:
        if act == "written":
            rig.world.fields["bms"].operator(WATER, None)

    rig.world.drivers["bms"].pause = let_go
    (outcome,) = await rig.back(WATER)
    assert outcome.receipt == Overridden(WATER, 8, 10.0, "an operator's priority rules")
    assert set(rig.journal.latched()) == {WATER}


async def test_undoing_under_an_operator_keeps_the_doubt(rig: Rig) -> None:
    """Our earlier value is in our slot: it is still to be taken out."""
    await rig.one(WATER, 8.4)
    await rig.one(WATER, 8.8)
    rig.world.fields["bms"].operator(WATER, 10.0)
    (outcome,) = await rig.back(WATER, target=Target.PREVIOUS)
    assert isinstance(outcome.receipt, Overridden)
    assert outcome.lease is not None
    assert (outcome.lease.value, outcome.lease.certain) == (8.4, False)


async def test_a_mismatch_on_giving_back_is_taken_back_again(rig: Rig) -> None:
    await rig.one(SUPPLY, 19.8)
    rig.world.fields["crac-a1"].lies = -2.0
    (outcome,) = await rig.back(SUPPLY)
    assert outcome.receipt == Mismatch(SUPPLY, 18.0, 16.0)
    assert (rig.held()[SUPPLY].value, rig.held()[SUPPLY].certain) == (16.0, False)


async def test_a_relinquish_that_is_ignored_is_a_mismatch(rig: Rig) -> None:
    await rig.one(WATER, 8.4)
    rig.world.fields["bms"].ignores = True
    (outcome,) = await rig.back(WATER)
    assert isinstance(outcome.receipt, Mismatch)
    assert math.isnan(outcome.receipt.wanted)
    assert outcome.receipt.found == 8.4


async def test_a_second_write_is_a_doubt_too_until_it_is_read_back(rig: Rig) -> None:
    await rig.one(SUPPLY, 19.8)
    seen: list[bool] = []
    rig.world.fields["crac-a1"].on_write = lambda: seen.append(rig.journal.held()[SUPPLY].certain)
    await rig.one(SUPPLY, 20.5)
    assert (seen, rig.held()[SUPPLY].certain) == ([False], True)


async def test_two_at_once_give_back_once(rig: Rig) -> None:
    """The second comes when the lease is gone: it looks again under the device's lock."""
    await rig.one(SUPPLY, 19.8)
    rig.world.drivers["crac-a1"].turns = 3
    both = await asyncio.gather(rig.back(SUPPLY), rig.back(SUPPLY))
    assert [len(outcomes) for outcomes in both] == [1, 0]
    assert all(o["receipts"] for o in rig.journal.latest("outcome", 9)), "the second books nothing"
    assert rig.wire() == [(SUPPLY, 19.8), (SUPPLY, 18.0)]


async def test_a_write_waits_for_the_devices_lock(rig: Rig) -> None:
    rig.world.drivers["crac-a1"].turns = 3
    await asyncio.gather(rig.one(SUPPLY, 19.8), rig.one(SUPPLY, 20.5))
    lease = rig.held()[SUPPLY]
    assert (lease.previous, lease.value, lease.baseline) == (19.8, 20.5, 19.0)


# -- what giving back writes

LEASE = Lease(SUPPLY, 19.0, 18.5, 20.0, 0.0, 0.0, "p", True, 19.0, 0.0)
DAY_S = 86_400.0


def _without_safe(point: Point) -> Point:
    return replace(point, writable=replace(point.limits, safe_value=None))


def _as_it_is(point: Point) -> Point:
    return point


@pytest.mark.parametrize(("key", "change", "lease", "target", "age_s", "expected"), [
    (SUPPLY, _as_it_is, LEASE, Target.PREVIOUS, 0.0, 18.5),
    (SUPPLY, _as_it_is, LEASE, Target.SAFE, 0.0, 18.0),
    (SUPPLY, _as_it_is, LEASE, Target.BASELINE, 0.0, 18.0),  # colder is safer
    (SUPPLY, _as_it_is, replace(LEASE, baseline=17.0), Target.BASELINE, 0.0, 17.0),
    (SUPPLY, _as_it_is, replace(LEASE, baseline=17.0), Target.BASELINE, DAY_S, 17.0),
    (SUPPLY, _as_it_is, replace(LEASE, baseline=17.0), Target.BASELINE, DAY_S + 1, 18.0),  # too old
    (SUPPLY, _as_it_is, replace(LEASE, baseline=17.0, baseline_s=None), Target.BASELINE, 0.0, 18.0),
    (SUPPLY, _as_it_is, replace(LEASE, baseline=17.0, baseline_s=DAY_S), Target.BASELINE, 1.5 * DAY_S, 17.0),
    (SUPPLY, _as_it_is, replace(LEASE, baseline=None), Target.BASELINE, 0.0, 18.0),
    (SUPPLY, _as_it_is, replace(LEASE, baseline=15.9), Target.BASELINE, 0.0, 18.0),  # outside
    (SUPPLY, _as_it_is, replace(LEASE, baseline=16.0), Target.BASELINE, 0.0, 16.0),
    (FAN, _as_it_is, replace(LEASE, point=FAN, baseline=100.1), Target.BASELINE, 0.0, 100.0),
    (SUPPLY, _without_safe, LEASE, Target.SAFE, 9e9, 19.0),
    (FAN, _as_it_is, replace(LEASE, point=FAN, baseline=80.0), Target.BASELINE, 0.0, 100.0),
    (WATER, _as_it_is, replace(LEASE, point=WATER), Target.SAFE, 0.0, None),
    (WATER, _as_it_is, replace(LEASE, point=WATER), Target.PREVIOUS, 0.0, 18.5),
])  # fmt: skip
def test_what_giving_back_writes(
    rig: Rig, key: str, change: Callable[[Point], Point], lease: Lease, target: Target,
    age_s: float, expected: float | None,
) -> None:  # fmt: skip
    point = change(rig.points[key])
    assert point.limits.baseline_max_age_s == DAY_S
    assert ending_value(point, lease, target, age_s) == expected


def test_work_with_a_safe_value_goes_to_its_baseline_unless_told(rig: Rig) -> None:
    point = rig.points[SHARE_A]
    for safe in (25.0, 75.0):
        point = replace(point, writable=replace(point.limits, safe_value=safe))
        for baseline in (0.0, 50.0, 100.0):
            lease = replace(LEASE, point=SHARE_A, baseline=baseline)
            assert ending_value(point, lease, Target.BASELINE, 0.0) == baseline
        assert ending_value(point, lease, Target.SAFE, 0.0) == safe


async def test_every_write_on_the_wire_has_its_entry(rig: Rig) -> None:
    """P18, in the small: intents and outcomes tell the wire's story."""
    await rig.apply({SUPPLY: 19.8, FAN: 78.0})
    await rig.back(SUPPLY)
    entries = rig.journal._query("SELECT kind, body FROM entry ORDER BY seq")
    assert [k for k, _ in entries] == ["intent", "outcome"] * 2
    told = [(x["point"], x["value"]) for k, b in entries if k == "intent"
            for x in json.loads(b)["leases"]]  # fmt: skip
    assert told == rig.wire()


async def test_a_closed_fence_lets_nothing_through_not_even_giving_back(rig: Rig) -> None:
    """Of a pair, whoever lost the lease is silent; what it held is the other's to give back."""
    closed = False
    rig.gate = Gate(rig.points, rig.world.drivers, rig.journal, lambda _point: True, lambda: closed)
    assert await rig.one(SUPPLY, 19.8) == Applied(SUPPLY, 19.8)
    closed = True
    assert await rig.one(PUMP, 88.0) == Failed(PUMP, FENCED)
    (outcome,) = await rig.back(SUPPLY)
    assert outcome.receipt == Failed(SUPPLY, FENCED)
    assert outcome.lease is not None
    assert rig.wire() == [(SUPPLY, 19.8)]
    closed = False
    (outcome,) = await rig.back(SUPPLY)
    assert isinstance(outcome.receipt, Applied)
