"""The hall as a unit of its own: what it is made of, when it is unknown, and what it calls for."""

from dataclasses import replace

import numpy as np

from control.alarms import Alarm, State, acknowledge, step
from control.causes import Facts, causes
from control.context import CONTEXT, Commands
from control.features import row_features, unit_features, unit_names
from control.layout import FEATURES
from control.types import Finding
from tests.control.hall import NOW_S, case

INLET, POWER = FEATURES.index("inlet_c"), FEATURES.index("pdu_kw")


def test_the_hall_is_the_mean_of_its_rows() -> None:
    here = case({"pdu-a/inlet_c.A01": 26.0, "pdu-b/inlet_c.B02": None})
    x = unit_features(here.layout, here.snapshot)
    assert unit_names(here.layout)[-1] == "hall"
    assert len(x) == len(unit_names(here.layout)) == 6 + 3 + 1
    assert x[-1, INLET] == np.mean([23.0, 20.0, 20.0]), "one rack of a row may be missing"
    assert x[-1, POWER] == 6.0


def test_a_hall_of_which_a_row_is_not_known_is_unknown_in_that_feature() -> None:
    here = case({"pdu-b/inlet_c.B01": None, "pdu-b/inlet_c.B02": None})
    x = unit_features(here.layout, here.snapshot)
    assert np.isnan(x[-1, INLET])
    assert x[-1, POWER] == 6.0
    assert np.isnan(x[-1, FEATURES.index("queue_depth")]), "no row has it"


def test_a_row_that_never_has_a_feature_does_not_make_the_hall_unknown() -> None:
    here = case()
    here.layout.row_has[1, INLET] = False
    rows = row_features(here.layout, unit_features(here.layout, here.snapshot)[:6])
    assert np.isfinite(rows[0, INLET])
    assert np.isfinite(unit_features(here.layout, here.snapshot)[-1, INLET])


def test_the_hall_is_commanded_by_all_of_its_knobs() -> None:
    here = case({"crac-a1/supply_c": 23.0})
    commands = Commands(here.layout).read(here.snapshot)
    assert commands[-1, CONTEXT.index("supply_k")] == np.mean([23.0, 20.0, 20.0])
    assert commands[-1, CONTEXT.index("admission_pct")] == 100.0


def test_the_hall_calls_only_where_no_row_says_why() -> None:
    hall = Finding("hall", 9.0, 9.0, "persistent", NOW_S, ("pdu_kw",), 2.0)
    row = replace(hall, unit="row:A")

    def called(**found: Finding) -> list[str]:
        here = case(findings={f.unit: f for f in found.values()})
        got = causes(here.layout, here.snapshot, here.state, Facts({}, 3), frozenset())
        return [c.id for c in got]

    assert called(hall=hall) == ["hall"]
    assert called(hall=hall, row=row) == ["row:A"]
    assert called(hall=replace(hall, heat=-1.0)) == [], "over-cooled is nobody's call"
    assert called(hall=replace(hall, state="transient")) == []


def test_a_row_that_only_runs_unlike_itself_calls_once_though_it_comes_and_goes() -> None:
    found = Finding("row:A", 9.0, 9.0, "persistent", NOW_S, ("latency_p95_ms",), 0.2)
    wrong, hot = case(findings={"row:A": found}), case({"pdu-a/inlet_c.A01": 29.0})
    [unlike], [over] = (
        causes(c.layout, c.snapshot, c.state, Facts({}, 3), frozenset()) for c in (wrong, hot)
    )
    alarms: dict[str, Alarm] = {}
    calls = 0
    for minute in range(240):
        now_s, there = NOW_S + 60.0 * minute, [unlike] if minute % 20 < 10 else []
        alarms = step(alarms, there, now_s)
        if any(a.state is State.UNACKNOWLEDGED for a in alarms.values()):
            calls += 1
            acknowledged = acknowledge(alarms, unlike.id)
            assert isinstance(acknowledged, dict)
            alarms = acknowledged
    assert calls == 1
    assert (unlike.off_delay_s, over.off_delay_s) == (3_600.0, 60.0), "a limit's ends at once"
