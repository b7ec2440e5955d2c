"""The HTTP API over real sockets, on an agent that runs a whole hall."""

import re
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from agent.api.server import Api, ApiError
from agent.clock import utc
from agent.operations.table import OPERATIONS
from agent.polling import DeviceStats
from config.surfaces import ApiSection, ApiTlsSection
from tests.api.make import ENVIRON, House, api_section, bearer, get, hall_site, house, post
from tests.certs import certificate


@pytest.fixture
async def hall(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as made:
        yield made


async def test_overview_and_heatmap_say_what_the_agent_knows(hall: House) -> None:
    status, overview = await get(hall, "/state/overview")
    assert status == 200
    assert overview["modes"]["mode"] == "closed_loop"
    assert overview["kpi"]["total_kw"]["unit"] == "kW"
    assert overview["kpi"]["total_kw"]["value"] == pytest.approx(
        hall.agent.meter.kpi(hall.agent.snapshot())["total_kw"]
    )
    _, heat = await get(hall, "/heatmap")
    racks = {c["rack"]: c for c in heat["racks"]}
    assert len(racks) == 73
    assert 15 < racks["C05"]["inlet_c"] < 30
    assert racks["Z01"]["inlet_c"] is None  # nobody has pushed yet


async def test_an_unchanged_answer_is_304_and_a_changed_one_is_not(hall: House) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.get(hall.url + "/heatmap") as first:
            tag = first.headers["ETag"]
        for path in ("/heatmap", "/state/overview", "/points?row=A"):
            known = {"If-None-Match": tag}
            async with session.get(hall.url + path, headers=known) as second:
                assert (second.status, await second.read()) == (304, b"")
        await hall.minutes(0.2)
        async with session.get(hall.url + "/heatmap", headers={"If-None-Match": tag}) as third:
            assert third.status == 200


async def test_history_is_304_until_there_is_more_of_it(hall: House) -> None:
    await hall.minutes(6)
    span = "since=2026-01-01T00:00:00Z&until=2026-01-01T00:05:00Z"
    for path in (f"/timeline?{span}", "/actions/log?kind=decision"):
        async with aiohttp.ClientSession() as session:
            async with session.get(hall.url + path) as first:
                known = {"If-None-Match": first.headers["ETag"]}
                assert len(await first.text()) > 200
            for _ in range(2):
                async with session.get(hall.url + path, headers=known) as again:
                    assert (again.status, await again.read()) == (304, b"")
    await hall.minutes(6)
    async with (
        aiohttp.ClientSession() as session,
        session.get(hall.url + "/actions/log?kind=decision", headers=known) as more,
    ):
        assert more.status == 200


async def test_points_turn_pages_without_loss_or_repeat(hall: House) -> None:
    seen: list[str] = []
    after: str | None = None
    while True:
        query = "?limit=100" + (f"&after={after}" if after else "")
        _, page = await get(hall, f"/points{query}")
        seen += [p["key"] for p in page["points"]]
        if (after := page["next"]) is None:
            break
    assert seen == sorted(hall.site.points)


async def test_timeline_is_what_was_measured_with_actions_beside_it(hall: House) -> None:
    await hall.minutes(12)
    key = "crac-a1/supply_air_c" if "crac-a1/supply_air_c" in hall.site.points else next(
        p.key for p in hall.site.points.values() if p.quantity == "supply_air_c"
    )  # fmt: skip
    since = utc(hall.clock.now_s() - 600)
    status, line = await get(
        hall, "/timeline", params={"point": key, "since": since, "step_s": "60"}
    )
    assert status == 200
    [series] = line["series"]
    assert series["unit"] == "degC"
    assert len(series["samples"]) >= 9
    kinds = {a["type"] for a in line["annotations"]}
    assert kinds <= {"action", "ending"}
    assert hall.agent.counts.writes > 0
    _, log = await get(hall, "/actions/log?kind=action")
    assert log["actions"]


async def test_the_log_of_actions_turns_pages_over_equal_times(hall: House) -> None:
    await hall.minutes(12)
    _, whole = await get(hall, "/actions/log?limit=1000&kind=decision&kind=action")
    ids = [a["id"] for a in whole["actions"]]
    assert len({a["ts"] for a in whole["actions"]}) < len(ids) > 10  # several at one instant
    paged: list[str] = []
    place = ""
    while True:
        _, page = await get(hall, f"/actions/log?limit=7&kind=decision&kind=action{place}")
        paged += [a["id"] for a in page["actions"]]
        if page["next"] is None:
            break
        place = f"&before={page['next']}"
    assert paged == ids


WRONG = [
    "/timeline?point=nowhere/x", "/timeline?since=yesterday", "/actions/log?before=x",
    "/timeline?since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z", "/points?limit=0",
    "/timeline?since=2020-01-01T00:00:00Z&step_s=1", "/actions/log?kind=nothing",
]  # fmt: skip


async def test_a_wrong_question_is_told_so_in_one_shape(hall: House) -> None:
    for path in WRONG:
        status, body = await get(hall, path)
        assert status == 422, path
        assert set(body) == {"error"}
        assert body["error"]["message"]


async def test_nothing_changes_without_a_token_of_its_role(hall: House) -> None:
    operations = [o for o in OPERATIONS.values() if o.changes]
    assert len(operations) >= 12
    before = hall.agent.control
    for operation in operations:
        path, arguments = f"/operations/{operation.name}", _valid(operation.name, hall)
        assert (await post(hall, path, arguments))[0] == 401
        async with (
            aiohttp.ClientSession(headers={"Authorization": "Bearer wrong"}) as session,
            session.post(hall.url + path, json=arguments) as answer,
        ):
            assert answer.status == 401
            assert answer.headers["WWW-Authenticate"] == "Bearer"
        status, said = await post(hall, path, arguments, "viewer")
        assert status == 403, (operation.name, said)
        assert hall.agent.control == before
        entry = hall.audit()[-1]
        assert (entry["operation"], entry["principal"]) == (operation.name, "ann-viewer")
        assert not entry["ok"]
    assert len(hall.audit()) == len(operations)  # who has no token can't fill the log


def _valid(name: str, hall: House) -> dict[str, Any] | None:
    """Arguments that an operation understands."""
    point = next(iter(hall.site.writable_points))
    return {
        "arm": {"scope": "hall"}, "disarm": {"scope": "hall"}, "resume": {"point": point},
        "interlock.reset": {"id": "leak"}, "baseline.approve": {"point": point}, "actions.give_back": {"point": point},
        "commission": {"point": point},
        "actions.apply": {"changes": [{"point": point, "value": 1.0}], "reason": "test"},
        "demo.scenario": {"scenario": "leak", "action": "start"}, "alarm.ack": {"id": "kill"},
        "alarm.unshelve": {"id": "kill"}, "models.activate": {"version": 1}, "ims.train": {},
        "models.exclude": {"scope": "hall", "since": "2h", "until": "1h", "note": "test"},
        "alarm.shelve": {"id": "kill", "duration_s": 60.0, "reason": "test"},
    }.get(name)  # fmt: skip


async def test_raising_is_refused_over_http_whoever_asks(hall: House) -> None:
    assert (await post(hall, "/mode", {"mode": "advisory"}, "operator"))[0] == 200
    assert not hall.agent.control.modes.may_act
    status, body = await post(hall, "/mode", {"mode": "closed_loop"}, "engineer")
    assert status == 403
    assert "on the host" in body["error"]["message"]
    assert not hall.agent.control.modes.may_act


async def test_apply_in_advisory_says_what_it_would_do_and_writes_nothing(hall: House) -> None:
    await post(hall, "/mode", {"mode": "advisory"}, "operator")
    writes = hall.run.wire.writes
    change = _small_change(hall)
    status, body = await post(
        hall, "/actions/apply", {"changes": [change], "reason": "try"}, "operator"
    )
    assert status == 200, body
    assert body["detail"]["applied"] is False
    assert [o for o in body["detail"]["objections"] if o.startswith("mode")]
    assert hall.run.wire.writes == writes


async def test_apply_in_closed_loop_writes_within_the_guardrails_only(hall: House) -> None:
    await hall.minutes_alone(6)
    change = _small_change(hall)
    writes = hall.run.wire.writes
    status, body = await post(
        hall, "/actions/apply", {"changes": [change], "reason": "cooler"}, "operator"
    )
    assert status == 200, body
    assert body["detail"]["applied"] is True
    assert hall.run.wire.writes == writes + 1
    assert hall.agent.control.leases[change["point"]].value == pytest.approx(change["value"])
    far = {"point": change["point"], "value": 99.0}
    status, body = await post(
        hall, "/actions/apply", {"changes": [far], "reason": "no"}, "operator"
    )
    assert status == 403
    assert "envelope" in body["error"]["message"]
    status, body = await post(
        hall, "/operations/actions.give_back", {"point": change["point"]}, "operator"
    )
    assert status == 200, body
    assert change["point"] not in hall.agent.control.leases


def _small_change(hall: House) -> dict[str, Any]:
    """A step in the safe direction of a CRAC's supply air that no loop has touched."""
    snapshot = hall.agent.snapshot()
    point = next(
        p for p in hall.site.writable_points.values()
        if p.quantity == "supply_air_setpoint_c" and p.key not in hall.agent.control.leases
    )  # fmt: skip
    now = snapshot.value(point.key)
    assert now is not None
    return {"point": point.key, "value": now - 0.5}


async def test_a_tick_says_what_it_decided(hall: House) -> None:
    status, body = await post(hall, "/optimizer/tick", None, "operator")
    assert status == 200
    assert isinstance(body["detail"]["decided"], list)


async def test_a_scenario_is_refused_on_a_real_site_and_says_what_lacks_on_a_simulated_one(
    tmp_path: Path, hall: House
) -> None:
    body = {"scenario": "add_ai_nodes_row_c", "action": "start", "duration_s": 300}
    status, said = await post(hall, "/demo/scenario", body, "operator")
    assert (status, "simulator_url" in said["error"]["message"]) == (409, True)
    real = tmp_path / "real"
    real.mkdir()
    async with house(real, replace(hall_site(real), simulated=False), minutes=0.1) as other:
        assert (await post(other, "/demo/scenario", body, "operator"))[0] == 403


async def test_pushed_readings_are_taken_marked_and_go_stale(hall: House) -> None:
    batch = {"device": "gate", "readings": [{"point": "inlet_c", "value": 24.5},
                                            {"point": "nothing", "value": 1.0},
                                            {"point": "pdu_kw", "value": 1e300}]}  # fmt: skip
    headers = {"Authorization": f"Bearer {ENVIRON['PUSH']}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(hall.url + "/telemetry", json=batch) as answer,
    ):
        body = await answer.json()
    assert (answer.status, body["taken"]) == (200, 2)
    assert [p["where"] for p in body["refused"]] == ["readings.1.nothing"]
    _, page = await get(hall, "/points?device=gate")
    found = {p["key"]: p for p in page["points"]}
    assert (found["gate/inlet_c"]["value"], found["gate/inlet_c"]["source"]) == (24.5, "pushed")
    assert found["gate/pdu_kw"]["quality"] == "bad"
    hall.clock.advance(20)
    _, page = await get(hall, "/points?device=gate")
    assert {p["key"]: p["quality"] for p in page["points"]}["gate/inlet_c"] == "stale"


async def test_a_pushed_reading_out_of_its_time_is_refused(hall: House) -> None:
    headers = {"Authorization": f"Bearer {ENVIRON['PUSH']}"}
    now_s = hall.clock.now_s()
    cases = [("2026-01-01T00:00:00", "ISO 8601"), (utc(now_s + 60), "future"),
             (utc(now_s - 600), "old"), (utc(now_s - 1), "newer")]  # fmt: skip
    async with aiohttp.ClientSession(headers=headers) as session:
        first = {"device": "gate", "readings": [{"point": "inlet_c", "value": 24.0}]}
        await session.post(hall.url + "/telemetry", json=first)
        for ts, why in cases:
            late = {"device": "gate", "readings": [{"point": "inlet_c", "value": 9.0, "ts": ts}]}
            async with session.post(hall.url + "/telemetry", json=late) as answer:
                body = await answer.json()
            assert body["taken"] == 0
            assert why in body["refused"][0]["what"]
    assert hall.agent.snapshot().value("gate/inlet_c") == 24.0


async def test_a_device_pushes_with_its_own_token_only(hall: House) -> None:
    batch = {"device": "gate", "readings": [{"point": "inlet_c", "value": 24.5}]}
    assert (await post(hall, "/telemetry", batch, "engineer"))[0] == 401
    assert (await post(hall, "/telemetry", batch))[0] == 401


HOSTILE = [
    (b'{"mode": NaN}', 400), (b'{"mode": "advisory", "mode": "advisory"}', 400), (b"[" * 30_000, 400),
    (b"{" + b" " * 100_000 + b"}", 413), (b"\xff\xfe", 400), (b'{"mode": 1e999}', 400), (b"", 422),
    (b'{"mode": "advisory", "more": 1}', 422), (b"null", 422),
]  # fmt: skip


async def test_hostile_bodies_end_in_a_plain_refusal(hall: House) -> None:
    headers = {**bearer("operator"), "Content-Type": "application/json"}
    async with aiohttp.ClientSession(headers=headers) as session:
        for raw, status in HOSTILE:
            async with session.post(hall.url + "/mode", data=raw) as answer:
                assert answer.status == status, (raw[:40], await answer.text())
                assert (await answer.json())["error"]["message"]
    assert hall.agent.control.modes.mode == "closed_loop"


async def test_a_body_that_needs_saying_nothing_may_be_missing(hall: House) -> None:
    status, body = await post(hall, "/ims/train", None, "operator")
    assert (status, "keeps no models" in body["error"]["message"]) == (409, True)
    for path in ("/report", "/report/judges"):
        status, body = await post(hall, path)
        assert (status, body["site"]) == (200, hall.site.id)
    status, body = await post(hall, "/mode", None, "operator")
    assert (status, body["error"]["problems"][0]["where"]) == (422, "body")


async def test_what_is_not_called_json_is_told_what_to_call_it(hall: House) -> None:
    form = {**bearer("operator"), "Content-Type": "application/x-www-form-urlencoded"}  # curl -d
    async with aiohttp.ClientSession(headers=form) as session:
        async with session.post(hall.url + "/mode", data=b'{"mode": "advisory"}') as answer:
            assert answer.status == 415
            assert "Content-Type: application/json" in (await answer.json())["error"]["message"]
        assert hall.agent.control.modes.may_act
        async with session.post(hall.url + "/operations/kill", data=b"{}") as answer:
            assert answer.status == 200, "what takes no body does not look at one"
        assert not hall.agent.control.modes.may_act


async def test_a_body_without_a_length_is_measured_as_it_comes(hall: House) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 10_000

    headers = {**bearer("operator"), "Content-Type": "application/json"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(hall.url + "/mode", data=endless()) as answer,
    ):
        assert answer.status == 413


async def test_another_sites_page_is_not_served(hall: House) -> None:
    evil = [{"Host": "evil.example"}, {"Origin": "https://evil.example"}, {"Origin": "null"}]
    for headers in evil:
        status, body = await get(hall, "/state/overview", headers=headers)
        assert status == 403
        assert "api.hosts" in body["error"]["message"]
    assert (await get(hall, "/state/overview", headers={"Origin": hall.url}))[0] == 200


async def test_ready_says_why_not(tmp_path: Path) -> None:
    async with house(tmp_path, minutes=0.5) as made:
        assert (await get(made, "/readyz")) == (200, {"ready": True, "reasons": [], "degraded": []})
        made.clock.advance(60)
        status, body = await get(made, "/readyz")
        assert status == 503
        assert "monitor cycle" in body["reasons"][-1]
        assert (await get(made, "/healthz"))[0] == 200


async def test_metrics_are_read_by_prometheus_own_parser(hall: House) -> None:
    async with aiohttp.ClientSession() as session, session.get(hall.url + "/metrics") as answer:
        families = {f.name: f for f in text_string_to_metric_families(await answer.text())}
    racks = families["skadi_rack_inlet_celsius"].samples
    assert len(racks) == 72
    assert families["skadi_closed_loop"].samples[0].value == 1.0
    assert families["skadi_total_power_kw"].samples[0].value > 100
    offered = {
        tuple(sorted(s.labels.items())): s.value for s in families["skadi_device_points"].samples
    }
    lacking = {"device": "gate", "quantity": "inlet_c", "state": "missing"}
    assert offered[tuple(sorted(lacking.items()))] == 1.0
    # What promtool check metrics holds against a name: units that are short or not the base one.
    short = r"_(s|ms|us|ns|sec|b|kb|mb|gb|tb|pb|m|h|d)(_|$)|milli|minutes|hours"
    for name, family in families.items():
        assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
        assert not re.search(short, name), name
        assert family.documentation, name
        assert family.type == "counter" or not name.endswith(
            ("_total", "_count", "_sum", "_bucket")
        )


async def test_metrics_tell_how_polling_each_device_goes(hall: House) -> None:
    stats = hall.polls["crac-a1"] = DeviceStats(polls=9, errors=2, retries=1, wait_s=20.0)
    stats.answered(hall.clock.now_s(), 0.25)
    async with aiohttp.ClientSession() as session, session.get(hall.url + "/metrics") as answer:
        families = {f.name: f for f in text_string_to_metric_families(await answer.text())}
    names = ("polls", "errors", "retries", "latency_seconds", "poll_wait_seconds", "up")
    found = {n: s.value for n in names for s in families[f"skadi_device_{n}"].samples
             if s.labels["device"] == "crac-a1" and not s.name.endswith("_created")}  # fmt: skip
    assert found == {"polls": 9, "errors": 2, "retries": 1, "latency_seconds": 0.25,
                     "poll_wait_seconds": 20.0, "up": 1.0}  # fmt: skip


async def test_history_away_is_503_and_control_goes_on(tmp_path: Path) -> None:
    async with house(tmp_path, minutes=1) as made:
        await made.history.close()
        (tmp_path / "history.db").unlink()
        (tmp_path / "history.db").mkdir()
        status, body = await get(made, "/actions/log")
        assert status == 503
        assert "history" in body["error"]["message"]
        assert (await get(made, "/state/overview"))[0] == 200


async def test_a_port_that_is_taken_is_said_at_start(hall: House) -> None:
    port = hall.url.rpartition(":")[2]
    section = hall.site.api.model_copy(update={"listen": f"127.0.0.1:{port}"})  # type: ignore[union-attr]
    hall.agent.site = replace(hall.site, api=section)
    with pytest.raises(ApiError, match="free the address"):
        await Api(hall.agent, hall.hub, "0", environ=ENVIRON).start()


async def test_a_weak_or_missing_token_stops_the_start(hall: House) -> None:
    with pytest.raises(ApiError, match="at least 16"):
        Api(hall.agent, hall.hub, "0", environ={**ENVIRON, "VIEWER": "short"})
    with pytest.raises(ApiError, match="VIEWER is not set"):
        Api(hall.agent, hall.hub, "0", environ={})


async def test_an_exposed_api_speaks_tls_only_and_reading_takes_a_token(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, "localhost")
    tls = ApiTlsSection(cert_file=str(cert), key_file=str(key))
    api = api_section(tls=tls).model_copy(update={"listen": "0.0.0.0:0"})
    trust = ssl.create_default_context(cafile=str(cert))
    async with house(tmp_path, hall_site(tmp_path, api=api)) as hall:
        port = hall.url.rpartition(":")[2]
        url = f"https://localhost:{port}/state/overview"
        async with aiohttp.ClientSession() as session:
            async with session.get(url, ssl=trust) as bare:
                assert bare.status == 401
            async with session.get(url, ssl=trust, headers=bearer("viewer")) as told:
                assert told.status == 200
            async with session.get(f"https://localhost:{port}/healthz", ssl=trust) as alive:
                assert alive.status == 200
            with pytest.raises(aiohttp.WSServerHandshakeError):
                await session.ws_connect(f"wss://localhost:{port}/ws/events", ssl=trust)
            with pytest.raises(aiohttp.ClientError):
                await session.get(f"http://127.0.0.1:{port}/healthz")


@pytest.mark.parametrize(
    "listen", ["0.0.0.0:8790", "10.0.0.5:8790", "[::]:8790", "127.0.0.1.example:1"]
)
def test_an_exposed_api_without_tls_and_tokens_is_no_configuration(listen: str) -> None:
    with pytest.raises(ValueError, match="can be reached from other hosts"):
        ApiSection(listen=listen)
