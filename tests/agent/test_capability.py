"""What devices offer is told at start, once, and how polling goes all the time."""

from pathlib import Path
from typing import Any

import structlog

from agent.api.views import Seen
from agent.capability import gaps, tally, totals
from agent.health import PATIENCE, Health
from agent.polling import DeviceStats
from config.site import Device
from control.types import Quality, Reading
from tests.agent.make import point
from tests.api.make import hall_site, house


def test_a_matrix_counts_found_stale_and_missing() -> None:
    points = [point("pdu", str(i), "pdu_kw") for i in range(4)]
    device = Device(id="pdu", protocol="snmp", points=(*points, point("pdu", "inlet_c")))
    readings = {
        "pdu/0": Reading("pdu/0", 1.0, 5.0, Quality.GOOD),
        "pdu/1": Reading("pdu/1", 1.0, 5.0, Quality.STALE),
        "pdu/2": Reading("pdu/2", None, 5.0, Quality.BAD, "implausible"),
    }
    found = tally(device, readings)
    assert found["pdu_kw"] == {"found": 1, "stale": 1, "missing": 2}
    assert found["inlet_c"] == {"found": 0, "stale": 0, "missing": 1}
    assert gaps(found) == {"pdu_kw": "2 of 4 missing, 1 of 4 stale", "inlet_c": "1 of 1 missing"}
    assert totals([found]) == {"found": 1, "stale": 1, "missing": 3}
    assert gaps({"pdu_kw": {"found": 4, "stale": 0, "missing": 0}}) == {}


def test_latency_errors_and_retries_are_booked() -> None:
    stats = DeviceStats()
    stats.answered(10.0, 0.2)
    assert (stats.latency_ms, stats.latency_most_ms) == (200.0, 200.0)
    stats.failing, stats.last_error = 3, "timeout"
    stats.answered(20.0, 0.1)
    assert abs(stats.latency_ms - 190.0) < 1e-9
    assert stats.latency_most_ms == 200.0
    assert (stats.failing, stats.last_error, stats.last_good_s) == (0, "", 20.0)


async def test_the_matrix_is_said_once_and_published_each_time(tmp_path: Path) -> None:
    published: list[tuple[str, Any]] = []
    async with house(tmp_path, hall_site(tmp_path)) as hall:
        told: list[dict[str, Any]] = []
        hall.agent.listeners.append(
            lambda kind, detail: told.append(detail) if kind == "event" else None
        )
        hall.agent.services.seen = Seen(
            agent=hall.agent, clock=hall.clock, hub=hall.hub, version="0", polls=hall.polls
        )
        for device in hall.site.devices:
            hall.polls[device.id] = DeviceStats(polls=1)
        health = Health(hall.agent, lambda device, body: published.append((device, body)))
        with structlog.testing.capture_logs() as logged:
            for _ in range(PATIENCE + 2):
                await health.run()
        events = [t for t in told if t.get("kind") == "capability"]
        assert len(events) == 1
        assert events[0]["found"] > 100
        assert events[0]["matrix"]["gate"]["inlet_c"]["missing"] == 1
        lacking = {line["device"] for line in logged if line["event"] == "device lacks"}
        assert lacking == {"gate"}
        assert len(published) == (PATIENCE + 2) * len(hall.site.devices)
        body = dict(published)["crac-a1"]
        assert body["quantities"]["supply_air_c"] == {"found": 1, "stale": 0, "missing": 0}
        assert {"latency_ms", "errors", "retries", "wait_s"} <= set(body)
