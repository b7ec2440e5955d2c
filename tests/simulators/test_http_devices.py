"""Exporters, router and the control interface over HTTP; texts judged by prometheus_client."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from simulators.park import Park
from tests.simulators.make import running_park

EVEN = dict.fromkeys("ABCDEF", 100 / 6)


class Web:
    """HTTP requests to one park."""

    def __init__(self, park: Park, session: aiohttp.ClientSession) -> None:
        self.park, self.session = park, session

    def url(self, device: str) -> str:
        if device == "control":
            return self.park.control.device.url
        return self.park.servers[device].device.url

    async def text(self, device: str) -> str:
        async with self.session.get(self.url(device)) as reply:
            assert reply.status == 200
            return await reply.text()

    async def send(self, method: str, device: str, path: str, body: Any) -> tuple[int, Any]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self.session.request(method, self.url(device) + path, data=data) as reply:
            return reply.status, await reply.json(content_type=None)

    async def metrics(self, device: str) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {}
        for family in text_string_to_metric_families(await self.text(device)):
            for sample in family.samples:
                found.setdefault(sample.name, []).append(sample)
        return found


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    async with running_park() as park, aiohttp.ClientSession() as session:
        yield Web(park, session)


async def test_dcgm_adds_up_to_what_the_hall_says(web: Web) -> None:
    found = await web.metrics("gpu-c")
    power = found["DCGM_FI_DEV_POWER_USAGE"]
    assert len(power) == 12 * 8
    labels = power[0].labels
    assert set(labels) == {"gpu", "UUID", "device", "modelName", "Hostname"}
    assert len({s.labels["UUID"] for s in power}) == 96
    watts = sum(s.value for s in power if s.labels["Hostname"] == "node-c04")
    kw = web.park.world.readings["gpu-c/gpu_power_kw.C04"]
    assert watts == pytest.approx(kw * 1000, rel=1e-4)
    assert all(20 < s.value < 90 for s in found["DCGM_FI_DEV_GPU_TEMP"])
    assert all(0 < s.value <= 100 for s in found["DCGM_FI_DEV_GPU_UTIL"])


async def test_vllm_histograms_are_whole_and_agree(web: Web) -> None:
    for _ in range(24):
        web.park.world.step()
    found = await web.metrics("vllm-a")
    done = sum(s.value for s in found["vllm:request_success_total"])
    assert done > 5000
    for name in ("time_to_first_token", "e2e_request_latency", "request_queue_time"):
        buckets = [s.value for s in found[f"vllm:{name}_seconds_bucket"]]
        assert all(a <= b for a, b in pairwise(buckets))
        assert buckets[-1] == found[f"vllm:{name}_seconds_count"][0].value == done
        assert buckets[-2] == pytest.approx(done, abs=1.0)
    edges = {s.labels["le"] for s in found["vllm:time_to_first_token_seconds_bucket"]}
    assert {"0.25", "0.1", "2560.0", "+Inf"} <= edges
    mean = found["vllm:time_to_first_token_seconds_sum"][0].value / done
    assert 0.05 < mean < 0.12


async def test_counters_run_on_between_steps(web: Web) -> None:
    world = web.park.world
    world.step()
    seen = []
    for phase in (0.0, 0.25, 0.5, 1.0):
        world.phase = lambda phase=phase: phase  # type: ignore[misc]
        seen.append((await web.metrics("vllm-b"))["vllm:generation_tokens_total"][0].value)
    gaps = [b - a for a, b in pairwise(seen)]
    assert gaps[2] == pytest.approx(2 * gaps[1], rel=0.02)
    assert gaps[0] == pytest.approx(gaps[1], rel=0.02)


async def test_router_takes_all_shares_as_one_change(web: Web) -> None:
    shares = {**EVEN, "C": 10.0, "A": EVEN["A"] + EVEN["C"] - 10.0}
    status, state = await web.send("PUT", "router", "/workload/traffic_share_pct", shares)
    assert status == 200
    assert state["traffic_share_pct"] == shares
    status, _ = await web.send("PUT", "router", "/workload/batch_window_ms", {"value": 80})
    assert status == 200
    status, state = await web.send("PUT", "router", "/workload/admission_pct", {"value": 50})
    assert (state["batch_window_ms"], state["admission_pct"]) == (80, 50)
    before = web.park.world.readings["vllm-c/prompts_ps"]
    web.park.world.step()
    assert web.park.world.readings["vllm-c/prompts_ps"] < 0.7 * before
    wire = web.park.world.journal_since(0)
    assert len({w["change"] for w in wire[:6]}) == 1
    assert [w["point"] for w in wire[6:]] == ["router/batch_window_ms", "router/admission_pct"]


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("traffic_share_pct", {**EVEN, "A": 20.0}, "sum"),
        ("traffic_share_pct", {"A": 100.0}, "each of the rows"),
        ("traffic_share_pct", {**EVEN, "G": 0.0}, "each of the rows"),
        ("traffic_share_pct", {**EVEN, "A": -10.0, "B": 43.3333333}, "outside"),
        ("traffic_share_pct", {**EVEN, "A": True}, "number"),
        ("traffic_share_pct", {**EVEN, "A": "17"}, "number"),
        ("traffic_share_pct", [16.7] * 6, "object"),
        ("batch_window_ms", {"value": 5000}, "outside"),
        ("batch_window_ms", {"value": -1}, "outside"),
        ("batch_window_ms", {}, "value"),
        ("batch_window_ms", {"value": 10, "more": 1}, "nothing else"),
        ("batch_window_ms", b'{"value": NaN}', "NaN"),
        ("batch_window_ms", b'{"value": 1e999}', "finite"),
        ("batch_window_ms", b'{"value": 1, "value": 2}', "twice"),
        ("admission_pct", b'{"value": ', "JSON"),
        ("admission_pct", b"[" * 3000, "JSON"),
        ("admission_pct", b"\xff\xfe", "JSON"),
        ("admission_pct", b" " * 5000, "larger"),
        ("admission_pct", {"value": 101}, "outside"),
    ],
)
async def test_router_refuses_and_says_why(web: Web, path: str, body: Any, says: str) -> None:
    before = dict(web.park.world.hall.setpoints.values)
    status, answer = await web.send("PUT", "router", f"/workload/{path}", body)
    assert status in (400, 422)
    assert says in answer["error"]
    assert web.park.world.hall.setpoints.values == before
    (noted,) = web.park.world.journal_since(0)
    assert str(noted["outcome"]).startswith("refused")


async def test_router_in_local_conflicts(web: Web) -> None:
    await web.send("POST", "control", "/devices/router", {"action": "local"})
    status, _ = await web.send("PUT", "router", "/workload/admission_pct", {"value": 50})
    assert status == 409


async def test_scenarios_start_and_stop_at_run_time(web: Web) -> None:
    start = {"scenario": "add_ai_nodes_row_c", "action": "start", "duration_s": 300}
    status, answer = await web.send("POST", "control", "/scenario", start)
    assert (status, answer["running"]) == (200, ["add_ai_nodes_row_c"])
    for _ in range(50):
        web.park.world.step()
    assert web.park.world.readings["pdu-c/pdu_kw.C05"] > 7.5
    for _ in range(20):
        web.park.world.step()
    _, state = await web.send("GET", "control", "/state", {})
    assert state["overlays"] == []
    status, answer = await web.send(
        "POST", "control", "/scenario", {"scenario": "leak", "action": "stop"}
    )
    assert (status, answer["changed"]) == (200, False)


@pytest.mark.parametrize(
    "body",
    [
        {"scenario": "nope", "action": "start"},
        {"scenario": "leak", "action": "begin"},
        {"scenario": "leak", "action": "start", "duration_s": -1},
        {"scenario": "leak", "action": "start", "duration_s": "5"},
        {"scenario": "leak", "action": "start", "for": 5},
        [],
    ],
)
async def test_bad_scenarios_are_refused(web: Web, body: Any) -> None:
    status, answer = await web.send("POST", "control", "/scenario", body)
    assert status == 400
    assert answer["error"]
    assert web.park.world.hall.overlays.all == []


async def test_devices_stop_alone_and_truth_and_wire_are_told(web: Web) -> None:
    status, about = await web.send("POST", "control", "/devices/gpu-b", {"action": "stop"})
    assert (status, about["running"]) == (200, False)
    with pytest.raises(aiohttp.ClientConnectorError):
        await web.text("gpu-b")
    assert await web.text("gpu-a")
    await web.send("POST", "control", "/devices/gpu-b", {"action": "start"})
    assert await web.text("gpu-b")
    assert (await web.send("POST", "control", "/devices/nope", {"action": "stop"}))[0] == 404
    assert (await web.send("POST", "control", "/devices/bms", {"action": "burn"}))[0] == 400
    _, truth = await web.send("GET", "control", "/truth", {})
    assert truth["prompts"] > 0
    await web.send("POST", "control", "/meter", {})
    _, truth = await web.send("GET", "control", "/truth", {})
    assert truth["prompts"] == 0
    await web.send("PUT", "router", "/workload/admission_pct", {"value": 50})
    _, wire = await web.send("GET", "control", "/wire?since=0", {})
    assert (wire["last_seq"], wire["writes"][0]["new"]) == (1, 50.0)
    assert (await web.send("GET", "control", "/wire?since=1", {}))[1]["writes"] == []
    assert (await web.send("GET", "control", "/wire?since=-1", {}))[0] == 400
    _, all_devices = await web.send("GET", "control", "/devices", {})
    assert len(all_devices) == 12 + 6 + 1 + 6 + 6 + 6 + 1


@pytest.mark.peer
async def test_curl_reads_an_exporter(web: Web, peer: Callable[[str], str]) -> None:
    started = await asyncio.create_subprocess_exec(
        peer("curl"), "-sf", web.url("vllm-d"), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await started.communicate()
    assert started.returncode == 0
    assert b"vllm:time_to_first_token_seconds_bucket" in out
