"""A setpoint is a lease: it ends when its ground is gone, cooling before work."""

from dataclasses import replace

import pytest

from control.endings import endings
from control.guardrails import Case, judge
from control.modes import Modes
from control.types import Change, Denial, Lease, Mode, Permit, Proposal, Target
from tests.control.hall import NOW_S, P, case, finding

SUPPLY, SHARE = "crac-a1/supply_c", "router/share.A"


def lease(point: str, value: float, **more: float) -> Lease:
    made = Lease(point, 18.0, 18.0, value, NOW_S - 600.0, NOW_S + 600.0, "slow:s1", True, 18.0)
    return replace(made, **more)


def holding(at: Case, *leases: Lease) -> Case:
    return replace(at, state=replace(at.state, leases={x.point: x for x in leases}))


def reasons(at: Case) -> dict[str, str]:
    return {e.point: e.reason for e in endings(at)}


def test_a_lease_on_good_ground_stays() -> None:
    assert endings(holding(case(), lease(SUPPLY, 20.0))) == []


def test_a_lease_that_ran_out_ends() -> None:
    at = holding(case(), lease(SUPPLY, 20.0, expires_s=NOW_S - 1.0))
    assert "run out" in reasons(at)[SUPPLY]


@pytest.mark.parametrize(
    "change", [{"killed": True}, {"mode": Mode.ADVISORY}, {"armed": frozenset()}]
)
def test_killed_lowered_or_disarmed_gives_back(change: dict[str, object]) -> None:
    at = holding(case(), lease(SUPPLY, 20.0))
    modes: Modes = replace(at.state.modes, **change)  # type: ignore[arg-type]
    (ending,) = endings(replace(at, state=replace(at.state, modes=modes)))
    assert ending.target is Target.BASELINE


def test_a_blind_aisle_goes_to_its_safe_value_and_no_other_aisle_does() -> None:
    patience_s = case().layout.site.limits.release_after_s
    dark = {f"pdu-a/inlet_c.A0{i}": None for i in (1, 2)}
    at = holding(case(dark), lease(SUPPLY, 20.0), lease("crac-b1/supply_c", 20.0))
    (ending,) = endings(at)
    assert (ending.point, ending.target) == (SUPPLY, Target.SAFE)
    late = holding(case(now_s=NOW_S + patience_s + 1.0), lease(SUPPLY, 20.0))
    assert "silent" in reasons(late)[SUPPLY]


def test_what_would_be_given_back_at_once_is_not_taken() -> None:
    """One rack of five that nobody can read: few enough for the evidence, but its row is blind."""
    more = [P(f"pdu-a/inlet_c.A0{i}", "inlet_c", "degC", "A", f"A0{i}") for i in (3, 4, 5)]
    for silent, rule in (("pdu-a/inlet_c.A03", "silence"), (None, None)):
        calm = {f"row:{r}": finding(r, "nominal", 0.0, 0.0) for r in "AB"}
        at = case({silent: None} if silent else {}, calm, more=more)
        for key in (SUPPLY, "crac-b1/supply_c"):
            move = Proposal("p", "slow", "m", (Change(key, 20.0, 20.5),), "a test", expires_s=9e9)
            verdict = judge(at, move, "c1")
            denied = verdict.rule if isinstance(verdict, Denial) else None
            assert denied == (rule if key == SUPPLY else None)
        colder = Proposal("p", "slow", "m", (Change(SUPPLY, 20.0, 19.5),), "a test", expires_s=9e9)
        assert isinstance(judge(at, colder, "c1"), Permit)


def test_cooling_is_given_back_before_work() -> None:
    at = holding(case(), lease(SHARE, 30.0, stood=100 / 3), lease(SUPPLY, 20.0))
    killed = replace(at.state, modes=replace(at.state.modes, killed=True))
    assert [e.point for e in endings(replace(at, state=killed))] == [SUPPLY, SHARE]


def test_what_is_being_written_is_neither_unknown_nor_another_hands() -> None:
    doubtful = replace(lease(SUPPLY, 20.0), certain=False)
    at = holding(case(), doubtful)
    assert "unknown" in reasons(at)[SUPPLY]
    busy = replace(at.state, busy=frozenset({SUPPLY}))
    assert endings(replace(at, state=busy)) == []


def test_another_hand_is_noticed_in_what_is_read() -> None:
    at = holding(case({SUPPLY: 23.0}), lease(SUPPLY, 20.0))
    assert "another hand set 23 where we had 20" in reasons(at)[SUPPLY]
