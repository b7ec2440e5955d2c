"""Moves that are undone: at any time when trouble follows, and never what somebody else has set since."""

from dataclasses import replace

from control import decide, leases, verify
from control.case import Case
from control.decide import Setting
from control.guardrails import objections
from control.slow_model import Shift
from control.state import Verification
from control.types import Change, Effect, Lease, Proposal, Target
from tests.control.hall import NOW_S, case, finding

SUPPLY, FAN = "crac-a1/supply_c", "crac-a1/fan_pct"
MOVE = Proposal(
    "slow:s1:x", "slow", "supply_air", (Change(SUPPLY, 19.0, 20.0),), "", scope="zone:row-A"
)


def verification(proposal: Proposal = MOVE, due_s: float = NOW_S + 100.0) -> Verification:
    return Verification(proposal, due_s, "A", 20.0, Shift(), Effect(), made_s=NOW_S - 200.0)


def held(proposal: str = MOVE.id, point: str = SUPPLY, value: float = 20.0) -> dict[str, Lease]:
    return {
        point: Lease(point, 18.0, 19.0, value, NOW_S - 200.0, NOW_S + 600.0, proposal, True, 18.0)
    }


def at(
    state: str = "persistent", since_s: float = NOW_S - 50.0, heat: float = 2.0, **more: object
) -> Case:
    found = replace(finding("A", state, 9.0, heat), since_s=since_s)
    return case(findings={"row:A": found}, **more)


def undone(here: Case) -> list[tuple[str, Target]]:
    state, ended = verify.after_judging(here, verify.verify(here, None))
    assert bool(ended) == bool(state.held_back), "what is undone is held back"
    return [(e.point, e.target) for e in ended]


def test_persistent_trouble_undoes_a_move_before_it_has_settled() -> None:
    here = at(verifications=(verification(),), leases=held())
    assert undone(here) == [(SUPPLY, Target.PREVIOUS)]
    for calm in (
        at("transient", verifications=(verification(),), leases=held()),
        at(heat=0.2, verifications=(verification(),), leases=held()),
        at(
            since_s=NOW_S - 300.0, verifications=(verification(),), leases=held()
        ),  # it was there before
    ):
        assert undone(calm) == []


def test_trouble_undoes_what_was_moved_wherever_it_feeds_the_row() -> None:
    """A move of several rows, and one of the whole hall; not one of another row."""
    other, hall = "crac-b1/supply_c", "router/admission"
    for changes, ends in (
        ((Change(SUPPLY, 19.0, 20.0), Change(other, 19.0, 20.0)), {SUPPLY, other}),
        ((Change(hall, 80.0, 90.0),), {hall}),
        ((Change(other, 19.0, 20.0),), set()),
    ):
        move = replace(MOVE, changes=changes)
        mine = {k: x for c in changes for k, x in held(point=c.point, value=c.new).items()}
        due = replace(verification(move), row=None)
        assert {k for k, _ in undone(at(verifications=(due,), leases=mine))} == ends


def test_a_hall_that_became_persistent_undoes_what_feeds_all_of_it() -> None:
    found = replace(finding("A", "persistent", 9.0, 2.0), unit="hall", since_s=NOW_S - 50.0)
    for point, ended in (("router/admission", ["router/admission"]), (SUPPLY, [])):
        move = replace(MOVE, changes=(Change(point, 80.0, 90.0),))
        due = replace(verification(move), row=None)
        here = case(
            findings={"hall": found}, verifications=(due,), leases=held(point=point, value=90.0)
        )
        assert [k for k, _ in undone(here)] == ended


def test_a_unit_feeds_the_rows_of_its_zone() -> None:
    here = at()
    point, other = here.point(SUPPLY), here.point("crac-b1/supply_c")
    zoned = {"z": {"crac-a1": (point,), "crac-b1": (other,)}}
    object.__setattr__(here.layout.site, "air_units", zoned)
    feeds = {
        "shared": replace(other, zone="z"), "own": replace(other, zone=None),
        "zone's own": replace(other, row=None, zone="z"), "hall": replace(other, row=None, zone=None),
    }  # fmt: skip
    rows = {name: [r for r in "ABC" if verify._feeds(here, p, r)] for name, p in feeds.items()}
    assert rows == {"shared": ["A", "B"], "own": ["B"], "zone's own": ["A", "B"],
                    "hall": ["A", "B", "C"]}  # fmt: skip


def test_a_move_towards_safety_is_not_undone_by_trouble() -> None:
    cooler = replace(MOVE, changes=(Change(SUPPLY, 21.0, 20.0),))
    assert undone(at(verifications=(verification(cooler),), leases=held())) == []


def test_a_move_that_stood_its_judgement_is_undone_when_trouble_follows_later() -> None:
    settled = verification(due_s=NOW_S - 1.0)
    fine = at("nominal", verifications=(settled,), leases=held())
    state, ended = verify.after_judging(fine, verify.verify(fine, None))
    assert ended == []
    assert state.verifications == ()
    assert state.stands == (settled,)
    later = replace(at(), state=replace(at().state, stands=state.stands, leases=held()))
    assert undone(later) == [(SUPPLY, Target.PREVIOUS)]
    state, _ = verify.after_judging(later, verify.verify(later, None))
    assert state.stands == (), "undone once"


def test_what_the_fast_loop_has_made_safer_since_is_never_undone() -> None:
    safer = held("fast:f1:pre_cool_air", value=18.0)
    due = replace(
        verification(due_s=NOW_S - 1.0), inlet_before_c=10.0
    )  # warmer by far: to be undone
    here = at("nominal", verifications=(due,), leases=safer)
    [judged] = verify.verify(here, None)
    assert judged.undo
    _, ended = verify.after_judging(here, [judged])
    assert ended == [], "going back a step would be a step towards risk"
    stands = at(stands=(verification(),), leases=safer)
    assert verify.verify(stands, None) == []


def test_what_a_person_wrote_is_not_prolonged_and_the_slow_loop_leaves_it_alone() -> None:
    short = {**held("operator:o1"), **held("slow:s9", FAN, 80.0)}
    here = at("nominal", leases={k: replace(x, expires_s=NOW_S + 60.0) for k, x in short.items()})
    assert [x.point for x in leases.renewable(here)] == [FAN]
    assert leases.of_persons(here.state) == {SUPPLY}


def test_what_ends_blind_may_be_tried_again_as_soon_as_it_sees() -> None:
    dark = {f"pdu-a/inlet_c.A0{i}": None for i in (1, 2)}
    here = case(dark, verifications=(verification(),), leases=held())
    decision = decide.fast(Setting.of(here.layout, None), here.snapshot, here.state, "f1")
    assert [(e.point, e.target) for e in decision.endings] == [(SUPPLY, Target.SAFE)]
    assert decision.state.held_back == {}


def test_what_a_limit_takes_back_is_held_back_and_says_so() -> None:
    hot = {"pdu-a/inlet_c.A01": 29.0}  # the limit is 28
    here = case(hot, verifications=(verification(),), leases=held())
    setting = Setting.of(here.layout, None)
    decision = decide.fast(setting, here.snapshot, here.state, "f1")
    assert [(e.point, e.target) for e in decision.endings] == [(SUPPLY, Target.SAFE)]
    until_s = decision.state.held_back["supply_air|zone:row-A"]
    assert until_s == NOW_S + here.layout.site.optimizer.hold_back_s
    again = replace(MOVE, id="slow:s2:x")
    later = replace(here, state=replace(decision.state, leases={}))
    assert any("was undone; held back" in o for o in objections(later, again))
    others = case(hot, verifications=(verification(),), leases=held("fast:f0:pre_cool_air"))
    assert decide.fast(setting, others.snapshot, others.state, "f1").state.held_back == {}
    fine = decide.fast(setting, case().snapshot, here.state, "f1")
    assert fine.state.held_back == {}
