"""What a screen makes of the mirror's messages, well-formed and hostile."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.screen.view import MAX_PAYLOAD, View


def take(view: View, topic: str, **body: Any) -> Any:
    return view.take(topic, json.dumps(body).encode())


def probe(value: float | None, quality: str = "good") -> dict[str, Any]:
    return {"value": value, "quality": quality, "quantity": "inlet_c", "rack": "C05", "row": "C"}


def test_devices_bring_inlets_and_say_once_that_they_are_lost_and_back() -> None:
    view = View()
    assert take(view, "device/pdu-c/state", points={"inlet_c.C05": probe(24.5)}) is None
    assert (view.inlets, view.rack_row, view.devices) == (
        {"C05": 24.5}, {"C05": "C"}, {"pdu-c": True},
    )  # fmt: skip
    lost = take(view, "device/pdu-c/state", points={"inlet_c.C05": probe(None, "unknown")})
    assert lost.text == "pdu-c does not answer"
    assert view.inlets == {"C05": None}
    assert take(view, "device/pdu-c/state", points={"i": probe(None, "unknown")}) is None
    assert "again" in take(view, "device/pdu-c/state", points={"i": probe(24.0)}).text


def test_rows_say_when_their_state_changes() -> None:
    view = View()
    row = {"ema": 3.0, "deviation": 3.0, "tau_fast": 4.4, "tau_persist": 5.0, "top": ["delta_t"]}
    assert take(view, "row/C/state", ts="2026-05-15T07:20:00Z", state="nominal", **row) is None
    line = take(view, "row/C/state", ts="2026-05-15T07:21:00Z", state="transient", **row)
    assert line.text == "row C: nominal → transient, D(x) 3.0, tau_fast 4.4"
    assert (line.ts, line.detail) == ("2026-05-15T07:21:00Z", "delta_t")
    assert view.rows["C"].tau_persist == 5.0


def test_actions_are_told_with_what_was_read_back() -> None:
    view = View()
    done = take(
        view, "action", type="action", ts="2026-05-15T07:22:00Z", loop="slow", move="fan",
        scope="zone:row-a", complete=True, reason="slower fans",
        changes={"crac-a1/fan": [100, 97], "crac-a2/fan": [100, 97], "pump-a/rpm": [100, 95.5]},
        receipts={"crac-a1/fan": "applied", "crac-a2/fan": "applied", "pump-a/rpm": "applied"},
    )  # fmt: skip
    assert done.kind == "action"
    assert done.text == (
        "slow fan zone:row-a: crac-a1, crac-a2 fan 100 → 97, pump-a rpm 100 → 95.5, read back"
    )
    assert view.confirmed == 3
    failed = take(view, "action", type="action", loop="fast", move="pump", scope="row:A",
                  complete=False, receipts={"pump-a/rpm": "unknown"}, changes={})  # fmt: skip
    assert failed.kind == "refused"
    assert "not complete: unknown" in failed.text
    back = take(view, "action", type="ending", point="crac-a1/fan", target="baseline",
                reason="the agent stops", receipt="applied")  # fmt: skip
    assert "given back to baseline" in back.text
    assert view.confirmed == 4


def test_what_is_given_back_together_is_one_line() -> None:
    view = View()
    for row in "ABC":
        said = take(view, "action", type="ending", ts="2026-05-15T07:22:00Z", target="baseline",
                    point=f"router/share.{row}", reason="calm again", receipt="applied")  # fmt: skip
        assert said.text == f"router/share.{row} given back to baseline"
    take(view, "action", type="ending", ts="2026-05-15T07:22:00Z", target="baseline",
         point="pump-a/rpm", reason="left", receipt="applied")  # fmt: skip
    assert [line.text for line in view.lines] == [
        "router/share.A given back to baseline and 2 more",
        "pump-a/rpm given back to baseline",
    ]


def test_birth_will_and_figures() -> None:
    view = View()
    assert take(view, "_agent/status", state="online", ts="t").text == "the agent is online"
    assert take(view, "_agent/status", state="offline", reason="lost").detail == "lost"
    take(view, "kpi", ts="2026-05-15T07:00:00Z", wh_per_prompt=0.6, pue=None,
         counts={"writes": 3, "confirmed": True})  # fmt: skip
    assert (view.kpi, view.counts) == ({"wh_per_prompt": 0.6}, {"writes": 3})
    take(view, "mode", mode="closed_loop", armed=["row:A"], killed=True)
    assert (view.mode, view.armed, view.killed) == ("closed_loop", ("row:A",), True)


def test_text_from_outside_moves_no_cursor() -> None:
    view = View()
    line = take(view, "action", type="ending", point="x\x1b[2J\u202ey", target="t", receipt="r")
    assert "\x1b" not in line.text
    assert "\u202e" not in line.text
    assert len(take(view, "action", type="ending", point="x" * 10_000, target="t").text) < 300


def test_a_message_that_is_too_long_is_dropped() -> None:
    view = View()
    view.take("kpi", b'{"pue": 1.4}' + b" " * MAX_PAYLOAD)
    assert (view.kpi, view.refused) == ({}, 1)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
KEYS = st.sampled_from([
    "ts", "points", "state", "ema", "top", "counts", "type", "changes", "receipts", "armed", "mode",
    "complete", "receipt", "point", "event", "undo",
])  # fmt: skip
TOPICS = st.sampled_from([
    "_agent/status", "device/x/state", "row/C/state", "kpi", "mode", "action", "event/mode", "device", "row", "?",
])  # fmt: skip


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(TOPICS, st.dictionaries(KEYS, JSON, max_size=6))
def test_no_message_breaks_the_screen(topic: str, body: dict[str, Any]) -> None:
    View().take(topic, json.dumps(body).encode())


@pytest.mark.parametrize("payload", [b"", b"[1]", b"nope", b'"x"', b"[" * 5_000, b"\xff\xfe"])
def test_what_is_no_object_is_counted(payload: bytes) -> None:
    view = View()
    assert view.take("kpi", payload) is None
    assert view.refused == 1
