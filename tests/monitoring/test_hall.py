"""The hall as a unit of its own: what it is made of, when it is unknown, and what it calls for."""

from dataclasses import replace

import numpy as np

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
