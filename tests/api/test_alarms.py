"""Alarms: the state machine by enumeration, and how calm they are on a hall in trouble."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from agent.alarms import AlarmDesk
from agent.cli import skadi
from agent.local import LocalDoor
from agent.polling import DeviceStats
from control.alarms import (
    MOST_SHELF_S,
    Alarm,
    Cause,
    Severity,
    State,
    acknowledge,
    shelve,
    step,
    unshelve,
)
from control.causes import Facts
from control.modes import Event
from control.state import Trip
from tests.api.make import House, get, hall_site, house, post

HOT = Cause("row:A", Severity.HIGH, "row A: hot", "look", on_delay_s=30, off_delay_s=60)


def run(*script: tuple[float, str]) -> dict[str, Alarm]:
    """Play a script of (time, what): "wrong", "fine", "worse", "ack", "shelve", "unshelve"."""
    alarms: dict[str, Alarm] = {}
    for now_s, what in script:
        result = _move(alarms, what, now_s)
        alarms = alarms if isinstance(result, str) else result
    return alarms


WORSE = Cause("row:A", Severity.CRITICAL, "row A: very hot", "run", 30, 60)


def _move(alarms: dict[str, Alarm], what: str, now_s: float) -> dict[str, Alarm] | str:
    match what:
        case "wrong" | "fine" | "worse":
            causes = {"wrong": [HOT], "fine": [], "worse": [WORSE]}[what]
            return step(alarms, causes, now_s)
        case "ack":
            return acknowledge(alarms, "row:A")
        case "shelve":
            return shelve(alarms, "row:A", now_s, 100)
    return unshelve(alarms, "row:A")


@pytest.mark.parametrize(
    ("script", "state", "since_s"),
    [
        ("0 wrong, 29 wrong", State.NORMAL, 0),
        ("0 wrong, 30 wrong", State.UNACKNOWLEDGED, 30),
        ("0 wrong, 20 fine, 25 wrong, 50 wrong", State.NORMAL, 25),  # the delay starts again
        ("0 wrong, 30 wrong, 40 ack", State.ACKNOWLEDGED, 30),
        ("0 wrong, 30 wrong, 40 fine, 99 fine", State.UNACKNOWLEDGED, 30),
        ("0 wrong, 30 wrong, 40 fine, 100 fine", State.RETURNED, 30),
        ("0 wrong, 30 wrong, 40 fine, 70 wrong, 110 fine", State.UNACKNOWLEDGED, 30),
        ("0 wrong, 30 wrong, 40 ack, 50 fine, 109 fine", State.ACKNOWLEDGED, 30),
        ("0 wrong, 30 wrong, 40 fine, 100 fine, 110 wrong, 139 wrong", State.RETURNED, 30),
        ("0 wrong, 30 wrong, 40 fine, 100 fine, 110 wrong, 140 wrong", State.UNACKNOWLEDGED, 140),
        ("0 wrong, 30 wrong, 40 ack, 50 worse", State.UNACKNOWLEDGED, 30),
        ("0 wrong, 30 wrong, 40 ack, 50 wrong, 900 wrong", State.ACKNOWLEDGED, 30),
        # To and fro calls once; what is worse again after more than an hour calls again.
        ("0 worse, 30 worse, 40 ack, 50 wrong, 3639 worse", State.ACKNOWLEDGED, 30),
        ("0 worse, 30 worse, 40 ack, 50 wrong, 3700 wrong, 3710 worse", State.UNACKNOWLEDGED, 30),
        ("0 worse, 30 worse, 40 ack, 3600 worse, 3700 wrong, 7190 worse", State.ACKNOWLEDGED, 30),
    ],
)
def test_where_an_alarm_goes(script: str, state: State, since_s: float) -> None:
    moves = [(float(t), what) for t, what in (m.split() for m in script.split(", "))]
    alarm = run(*moves)["row:A"]
    assert (alarm.state, alarm.since_s) == (state, since_s), "it stands since it called"


@pytest.mark.parametrize("script", ["0 wrong, 30 wrong, 40 ack, 50 fine, 110 fine",
                                    "0 wrong, 30 wrong, 40 fine, 100 fine, 110 ack, 111 fine",
                                    "0 wrong, 10 fine"])  # fmt: skip
def test_an_alarm_that_is_over_is_forgotten(script: str) -> None:
    moves = [(float(t), what) for t, what in (m.split() for m in script.split(", "))]
    assert run(*moves) == {}


def test_a_shelf_ends_by_itself_and_then_it_calls_again() -> None:
    start = [(0.0, "wrong"), (30.0, "wrong"), (40.0, "shelve")]
    assert not run(*start, (139.0, "wrong"))["row:A"].calls
    assert run(*start, (140.0, "wrong"))["row:A"].calls
    assert run(*start, (50.0, "unshelve"))["row:A"].calls
    assert isinstance(shelve(run(*start), "row:A", 0, MOST_SHELF_S + 1), str)
    assert isinstance(shelve(run(*start), "row:A", 0, float("nan")), str)


def test_maintenance_suppresses_all_but_the_critical() -> None:
    for severity in Severity:
        cause = Cause("x", severity, "x", "x", on_delay_s=0)
        [alarm] = step({}, [cause], 0.0, maintenance={"hall"}).values()
        assert alarm.calls == (severity is Severity.CRITICAL)
        [alarm] = step({"x": alarm}, [cause], 1.0).values()
        assert alarm.calls


def test_a_tag_on_a_part_of_the_hall_quiets_that_part_alone() -> None:
    names = ("row:A", "row:B", "device:crac-a1", "device:crac-a2", "point:crac-a1/fan", "mqtt")
    wrong = [Cause(n, Severity.MEDIUM, "x", "x", on_delay_s=0) for n in names]
    found = step({}, wrong, 0.0, maintenance={"row:A", "equipment:crac-a1"})
    quiet = {n for n, a in found.items() if not a.calls}
    assert quiet == {"row:A", "device:crac-a1", "point:crac-a1/fan"}


@given(st.lists(st.tuples(st.floats(0.1, 50), st.sampled_from(
    ["wrong", "fine", "worse", "ack", "shelve", "unshelve"])), max_size=40))  # fmt: skip
def test_what_lasts_calls_in_the_end_and_what_is_gone_ends(script: list[tuple[float, str]]) -> None:
    now_s, moves = 0.0, []
    for dt_s, what in script:
        now_s += dt_s
        moves.append((now_s, what))
    lasting = [(now_s + t, "wrong") for t in (1.0, 40.0, 200.0, 300.0)]
    [alarm] = run(*moves, *lasting).values()
    assert alarm.calls or alarm.state is State.ACKNOWLEDGED
    gone = [(now_s + t, "fine") for t in (1.0, 40.0, 200.0)]
    over = run(*moves, *gone, (now_s + 201, "ack"), (now_s + 202, "fine"))
    assert over == {}


def test_every_state_meets_every_event_and_only_a_person_acknowledges() -> None:
    events = ("wrong", "fine", "worse", "ack", "shelve", "unshelve")
    for state, active, event in product(State, (True, False), events):
        alarm = Alarm(HOT, state, active, 0.0, 0.0)
        after = _move({"row:A": alarm}, event, 10.0)
        if isinstance(after, str):
            assert event in ("ack", "shelve", "unshelve")
        elif "row:A" in after and event != "ack":
            assert (after["row:A"].state is State.ACKNOWLEDGED) <= (state is State.ACKNOWLEDGED)


@pytest.fixture
async def hall(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, hall_site(tmp_path, push=False)) as made:
        yield made


def told(hall: House) -> list[dict[str, Any]]:
    """Alarms that began to call, as they were told."""
    found: list[dict[str, Any]] = []
    hall.agent.listeners.append(
        lambda kind, d: found.append(d) if kind == "alarm" and d["calls"] else None
    )
    return found


async def test_a_quiet_hall_has_no_alarm(hall: House) -> None:
    calls = told(hall)
    await hall.minutes(15)
    assert (calls, hall.alarms.shown()) == ([], [])


async def test_devices_that_fall_silent_together_are_one_alarm(hall: House) -> None:
    calls = told(hall)
    for device in hall.site.devices:
        hall.polls[device.id] = DeviceStats(polls=9, errors=9, failing=9, last_error="gone")
    await hall.minutes(2)
    assert [a["id"] for a in calls] == ["network"]
    hall.polls.clear()
    hall.polls["bms"] = DeviceStats(polls=9, errors=9, failing=9)
    await hall.minutes(2)
    assert [a["id"] for a in calls] == ["network", "device:bms"]


async def test_a_crac_that_fails_is_at_most_ten_alarms_and_its_row_is_one(tmp_path: Path) -> None:
    site = hall_site(tmp_path, push=False)
    near = site.limits.model_copy(update={"inlet_max_c": 25.0})  # reached within minutes
    async with house(tmp_path, replace(site, limits=near)) as hall:
        calls = told(hall)
        await hall.agent.change_mode(Event.LOWER, "", "cli", "engineer")
        plant: Any = hall.run.plant
        for overlay in ("crac_failure", "add_ai_nodes_row_c"):
            plant.overlays.start(overlay, plant.now_s, None)
        await hall.minutes(10)
    # The unit is the root: what its row suffers is told under its name.
    assert {a["id"] for a in calls if a["id"][:4] in ("unit", "row:")} == {"unit:crac-c1"}
    assert "stands still" in calls[0]["text"]
    assert any("inlet" in a["text"] for a in hall.alarms.shown())
    assert calls[-1]["advice"]
    assert len(calls) <= 10, [a["text"] for a in calls]


async def test_a_person_acknowledges_and_shelves_over_http(hall: House) -> None:
    await post(hall, "/operations/kill", None, "operator")
    await hall.minutes(0.3)
    [alarm] = (await get(hall, "/state/overview"))[1]["alarms"]
    assert (alarm["id"], alarm["calls"], alarm["severity"]) == ("kill", True, "high")
    assert (await post(hall, "/operations/alarm.ack", {"id": "kill"}, "operator"))[0] == 200
    [alarm] = (await get(hall, "/state/overview"))[1]["alarms"]
    assert (alarm["state"], alarm["calls"]) == ("acknowledged", False)
    body = {"id": "kill", "duration_s": 60.0, "reason": "known"}
    assert (await post(hall, "/operations/alarm.shelve", body, "operator"))[0] == 200
    assert (await post(hall, "/operations/alarm.ack", {"id": "kill"}, "operator"))[0] == 409
    assert hall.run.journal.kept("alarms")["kill"]["shelved_until_s"] == hall.clock.now_s() + 60


async def test_alarms_go_on_after_a_restart_and_what_is_over_is_told(hall: House) -> None:
    trips = {"leak": Trip(tripped=True, latched=True), "fire": Trip(tripped=True, latched=True)}
    hall.agent.control = replace(hall.agent.control, trips=trips)
    hall.alarms.step()
    assert hall.alarms.acknowledge("interlock:leak") is None
    assert hall.alarms.acknowledge("interlock:fire") is None
    assert hall.alarms.shelve("interlock:fire", 600.0) is None

    hall.agent.control = replace(hall.agent.control, trips={"leak": trips["leak"]})  # meanwhile
    hall.clock.advance(100.0)
    told: list[dict[str, Any]] = []
    hall.agent.listeners.append(lambda kind, d: told.append(d) if kind == "alarm" else None)
    again = AlarmDesk(hall.agent, lambda: Facts({}, 1))
    for wait_s in (0.0, 70.0, 600.0):
        hall.clock.advance(wait_s)
        again.step()
    of = {i: [d["state"] for d in told if d["id"] == f"interlock:{i}"] for i in trips}
    assert of == {"leak": ["acknowledged"], "fire": ["shelved", "normal"]}
    assert not any(d["calls"] for d in told if d["id"].startswith("interlock:"))
    assert {"interlock:leak"} == {n for n in hall.run.journal.kept("alarms") if "interlock" in n}


async def test_what_can_not_be_read_of_former_alarms_is_left(hall: House) -> None:
    hall.run.journal.keep("alarms", {"a": 3.0, "b": {"cause": {}}, "c": {"cause": {"severity": 9}}})
    assert AlarmDesk(hall.agent, lambda: Facts({}, 1)).shown() == []


async def test_the_command_line_lists_shelves_and_acknowledges(hall: House, tmp_path: Path) -> None:
    file = tmp_path / "site.toml"
    file.write_text(
        f'config_version = 1\n[site]\nid = "x"\n[agent]\ndata_dir = "{tmp_path}"\n'
        '[[device]]\nid = "gate"\nprotocol = "push"\n'
        '[[device.point]]\nid = "x"\nquantity = "inlet_c"\n'
    )
    door = LocalDoor(hall.agent, tmp_path)
    await door.open()

    async def skadi_alarm(*words: str) -> Any:
        command = ["alarm", words[0], "-c", str(file), *words[1:]]
        return await asyncio.to_thread(CliRunner().invoke, skadi, command)

    def said(result: Any) -> Any:
        return json.loads(result.stdout.splitlines()[-1])  # the agent logs in the same process

    await post(hall, "/operations/kill", None, "operator")
    await hall.minutes(0.3)
    assert "the kill switch is on" in (await skadi_alarm("list")).output
    shelved = await skadi_alarm("shelve", "kill", "--for", "30m", "--reason", "known", "--json")
    assert said(shelved)[0]["state"] == "shelved"
    assert (await skadi_alarm("shelve", "kill", "--for", "9h", "--reason", "x")).exit_code == 1
    assert (await skadi_alarm("shelve", "kill", "--for", "long", "--reason", "x")).exit_code == 2
    assert (await skadi_alarm("unshelve", "kill")).exit_code == 0
    assert said(await skadi_alarm("ack", "kill", "--json"))[0]["state"] == "acknowledged"
    nothing = await skadi_alarm("ack", "nothing")
    assert (nothing.exit_code, "nothing" in nothing.output) == (1, True)
    await door.close()


@pytest.mark.parametrize(
    ("trip", "calls", "says"),
    [
        (Trip(tripped=True, dark_s=0.0), [False, False, True], "its input is not read"),
        (Trip(tripped=True, latched=True, since_s=0.0), [True, True, True], "has tripped"),
    ],
)
async def test_an_interlock_not_read_yet_calls_only_when_it_stays_so(
    hall: House, trip: Trip, calls: list[bool], says: str
) -> None:
    hall.agent.control = replace(hall.agent.control, trips={"leak": trip})
    found = []
    for wait_s in (0.0, 50.0, 20.0):
        hall.clock.advance(wait_s)
        hall.alarms.step()
        found.append(any(a["id"] == "interlock:leak" for a in hall.alarms.shown() if a["calls"]))
    assert found == calls
    [shown] = [a for a in hall.alarms.shown() if a["id"] == "interlock:leak"]
    assert says in shown["text"]
