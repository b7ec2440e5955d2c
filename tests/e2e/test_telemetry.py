"""`skadi sim --post`: room sensors push to the agent's API, go stale when silent, and come back.

And the simulated hall's overlays over the agent's own API, seen from the hall's side.
"""

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.e2e.world import Hall, agent, hall, until
from tests.peers import free_port


def _secrets(folder: Path) -> dict[str, str]:
    lines = (folder / ".env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


def _sensors(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url}/points?device=sensors", timeout=10) as answer:
        return {p["key"]: p for p in json.load(answer)["points"]}


def _qualities(url: str) -> set[str]:
    return {p["quality"] for p in _sensors(url).values()}


def _scenario(url: str, token: str, action: str) -> int:
    body = {"scenario": "add_ai_nodes_row_c", "action": action, "duration_s": 300}
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    request = urllib.request.Request(f"{url}/demo/scenario", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def _overlays(at: Hall) -> list[str]:
    running: list[str] = at.get("/state")["overlays"]
    return running


def test_pushed_readings_arrive_go_stale_and_return(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    stale = {"SKADI_AGENT__STALE_AFTER_S": "60"}
    with hall(tmp_path, "--post", url, speed=20.0) as at, agent(at, **stale):
        until(lambda: _qualities(url) == {"good"}, "the sensors are heard")
        zone = _sensors(url)["sensors/zone_c.C"]
        assert zone["source"] == "pushed"
        assert abs(zone["value"] - at.values()["bms/zone_c.C"]) < 2.0
        at.post("/devices/sensors", {"action": "stop"})
        until(lambda: _qualities(url) == {"stale"}, "silence is noticed")
        at.post("/devices/sensors", {"action": "start"})
        until(lambda: _qualities(url) == {"good"}, "they are heard again")
        token = _secrets(tmp_path)["SKADI_API_TOKEN"]
        assert _scenario(url, "no-such-token-0123456", "start") == 401
        assert _scenario(url, token, "start") == 200
        assert "add_ai_nodes_row_c" in _overlays(at)
        assert _scenario(url, token, "stop") == 200
        assert "add_ai_nodes_row_c" not in _overlays(at)
