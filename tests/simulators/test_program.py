"""`python -m simulators` from outside: ready line, site file, summary, signals, exit codes."""

import asyncio
import json
import os
import signal
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from config.loader import load_site
from simulators.hall import Hall
from simulators.secrets import from_environment
from simulators.site import devices
from simulators.site_file import MANNERS, Places, site_text

ROOT = Path(__file__).parents[2]


async def start(*words: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "simulators", "--port-base", "0", *words,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=ROOT,
        env={k: v for k, v in os.environ.items() if not k.startswith("SKADI_")},
    )  # fmt: skip


async def test_it_runs_its_hours_and_tells_the_truth(tmp_path: Path) -> None:
    summary, config = tmp_path / "sum.json", tmp_path / "site.toml"
    words = ("--speed", "100000", "--hours", "0.2", "--seed", "5", "--json")
    sim = await start(*words, "--summary", str(summary), "--write-config", str(config))
    out, err = await sim.communicate()
    assert sim.returncode == 0, err.decode()
    ready, end = (json.loads(line) for line in out.splitlines())
    assert (ready["event"], end["event"]) == ("ready", "end")
    assert len(ready["devices"]) == 38
    truth = json.loads(summary.read_text())
    assert truth == end["truth"]
    hall = Hall(seed=5, hours=0.2)
    while not hall.over:
        hall.step(5.0, {})
    assert truth == json.loads(json.dumps(hall.truth()))  # sockets change nothing
    env = (tmp_path / ".env").read_text()
    assert all(name in env and name in err.decode() for name in from_environment({}).environment())
    site = load_site(config, {})
    assert len(site.racks) == 72
    ports = {d.id: d.port for d in site.devices if d.port}
    for name, about in ready["devices"].items():
        if name in ports and about["protocol"] != "prometheus":
            assert about["address"].endswith(f":{ports[name]}")


async def test_it_ends_well_on_a_signal_and_stays_up_until_then(tmp_path: Path) -> None:
    summary = tmp_path / "sum.json"
    sim = await start("--speed", "50", "--json", "--summary", str(summary))
    assert sim.stdout is not None
    ready = json.loads(await sim.stdout.readline())

    def fetch(path: str) -> Any:
        with urllib.request.urlopen(ready["control"] + path, timeout=10) as reply:
            return json.load(reply)

    state = await asyncio.to_thread(fetch, "/state")
    assert state["scenario"] == "default"
    sim.send_signal(signal.SIGTERM)
    _, err = await sim.communicate()
    assert sim.returncode == 0, err.decode()
    assert json.loads(summary.read_text())["hours"] > 0


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--scenario", "nope"), 2, "nope"),
        (("--speed", "0"), 2, "speed"),
        (("--port-base", "80"), 2, "port"),
        (("--trace", "/no/such/file.csv"), 2, "/no/such/file.csv"),
        (("--day", "999"), 2, "day"),
    ],
)
async def test_wrong_words_are_refused(words: tuple[str, ...], code: int, says: str) -> None:
    sim = await start(*words)
    _, err = await sim.communicate()
    assert sim.returncode == code
    assert says in err.decode()


async def test_a_taken_port_is_named_with_the_way_out() -> None:
    taken = await asyncio.start_server(lambda *_: None, "127.0.0.11", 0)
    port = taken.sockets[0].getsockname()[1]
    async with taken:
        sim = await start("--port-base", str(port - 502))
        _, err = await sim.communicate()
    assert sim.returncode == 1
    assert f"127.0.0.11:{port}" in err.decode()
    assert "--port-base 0" in err.decode()


def test_the_site_file_covers_the_plant_and_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    path.write_text(
        site_text(
            devices(), from_environment({}), str(tmp_path / "data"), Places("127.0.0.2:15900")
        )
    )
    site = load_site(path, {})
    plant = {p.id: p for p in Hall().points()}
    assert set(site.points) == set(plant)
    assert site.simulated
    assert site.agent.mode == "advisory"
    for key, point in site.points.items():
        assert point.quantity == plant[key].quantity
        assert (point.rack, point.writable is not None) == (plant[key].rack, plant[key].writable)
        assert point.row == plant[key].row
        if point.writable is not None:
            w = point.writable
            assert (w.min, w.max, w.max_step) == (
                plant[key].min, plant[key].max, plant[key].max_step,
            )  # fmt: skip
            assert w.relinquish or w.safe_value is not None or key.startswith("router/")
    assert set(MANNERS) == {p.id.split("/")[1].split(".")[0] for p in plant.values() if p.writable}
    closed = path.read_text().replace('mode = "advisory"', 'mode = "closed_loop"', 1)
    path.write_text(closed)
    assert load_site(path, {}).agent.mode == "closed_loop"
