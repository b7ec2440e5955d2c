"""What the agent writes, as the devices saw it: in closed loop, in advisory mode, after kill -9."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.world import CLOSED_LOOP, Hall, Json, agent, hall, run_peer, skadi, until
from tests.peers import free_port


def wrote_both(at: Hall) -> dict[str, list[Json]] | None:
    """The writes by protocol once Modbus and BACnet are among them."""
    found = at.applied()
    return found if {"modbus-tcp", "bacnet-ip"} <= found.keys() else None


def setpoints(at: Hall, points: set[str]) -> dict[str, float]:
    values = at.values()
    return {p: values[p] for p in points}


def test_closed_loop_writes_reads_back_and_gives_back(tmp_path: Path) -> None:
    with hall(tmp_path) as at:
        before = at.values()
        with agent(at, **CLOSED_LOOP) as running:
            until(lambda: wrote_both(at), "a write over Modbus and one over BACnet")
            assert running.stop() == 0
        wire = at.wire()
        written = {w["point"] for w in wire}
        assert all(w["outcome"] == "applied" for w in wire), wire
        assert {w["priority"] for w in wire if w["protocol"] == "bacnet-ip"} == {12}
        # Confirmed: each value that stood on the wire was read back by the agent, but for a change
        # that the stop cut off; that one is given back unheard.
        said = [w for line in running.said("action") for w in line["receipts"].items()]
        back = {line["point"] for line in running.said("given back")}
        assert {p for p, _ in said} <= written == {p for p, _ in said} | back
        assert {receipt for _, receipt in said} == {"applied"}
        # Given back: BACnet by Null at our slot, the rest to what was there before.
        assert setpoints(at, written) == {p: before[p] for p in written}
        last = {w["point"]: w for w in wire}
        assert all(last[p]["new"] is None for p in written if p.startswith("bms/"))


def test_advisory_writes_zero_bytes(tmp_path: Path) -> None:
    with hall(tmp_path) as at, agent(at, "--log-level", "debug") as running:
        # It has decided to write, and did not: only then does silence on the wire mean anything.
        denied = until(lambda: running.said("denied"), "a decision that advisory mode holds back")
        assert {line["rule"] for line in denied} == {"mode"}
        assert running.stop() == 0
        assert at.wire() == []


@pytest.fixture
def broker(
    tmp_path: Path, peer: Callable[[str], str]
) -> Iterator[tuple[int, Callable[[], list[tuple[str, Json]]]]]:
    """Debian's mosquitto, and what mosquitto_sub hears of it: (port, messages so far)."""
    port = free_port()
    config = tmp_path / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n")
    heard = tmp_path / "heard.txt"
    mosquitto, sub = peer("mosquitto"), peer("mosquitto_sub")
    with _daemon([mosquitto, "-c", str(config)], tmp_path / "mosquitto.log"):
        ask = [sub, "-p", str(port), "-t", "skadi/#", "-V", "5", "-q", "1", "-F", "%t %r %p"]
        until(lambda: _listens(port), "mosquitto listens")
        with _daemon(ask, heard):
            yield port, lambda: _messages(heard)


@contextmanager
def _daemon(command: list[str], out: Path) -> Iterator[None]:
    with (
        out.open("wb") as file,
        subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT) as process,
    ):
        try:
            yield
        finally:
            process.terminate()


def _listens(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _messages(heard: Path) -> list[tuple[str, Json]]:
    whole = heard.read_text().rpartition("\n")[0]  # the last line may still be on its way
    lines = [line.split(" ", 2) for line in whole.splitlines() if line.startswith("skadi/")]
    return [(topic, json.loads(body)) for topic, _, body in lines if body]


@pytest.mark.peer
def test_killed_agent_is_heard_of_and_its_setpoints_released(
    tmp_path: Path, broker: tuple[int, Callable[[], list[tuple[str, Json]]]],
    peer: Callable[[str], str],
) -> None:  # fmt: skip
    port, messages = broker
    with hall(tmp_path) as at:
        before = at.values()
        with agent(at, SKADI_MQTT__URL=f"mqtt://127.0.0.1:{port}", **CLOSED_LOOP) as running:
            wire = until(lambda: wrote_both(at), "a write over Modbus and one over BACnet")
            until(lambda: len(_of(messages(), "action")) >= 2, "actions on MQTT")
            running.kill()
        register = wire["modbus-tcp"][-1]
        assert _by_mbpoll(peer("mbpoll"), at, register) == register["new"]
        heard = messages()
        assert _of(heard, "_agent/status")[0]["state"] == "online"
        devices = {t.split("/")[4] for t, _ in heard if t.endswith("/state") and "/device/" in t}
        assert devices == set(at.devices)
        will = until(
            lambda: [s for s in _of(messages(), "_agent/status") if s["state"] == "offline"],
            "the last will",
        )
        assert will[0]["reason"] == "lost"
        written = {w["point"] for w in at.wire()}
        released = skadi("release", "-c", at.site, "--json", cwd=tmp_path)
        assert released.returncode == 0, released.stderr
        assert written <= set(json.loads(released.stdout)["given_back"])
        assert setpoints(at, written) == {p: before[p] for p in written}
        assert skadi("audit", "verify", "-c", at.site, cwd=tmp_path).returncode == 0


def _of(messages: list[tuple[str, Json]], topic: str) -> list[Json]:
    return [body for t, body in messages if t.endswith(f"/{topic}")]


def _by_mbpoll(mbpoll: str, at: Hall, write: Json) -> float:
    """What a device holds in the register of a write, asked by a program that is not ours."""
    host, port = at.devices[write["device"]]["address"].split(":")
    register = int(re.search(r"\d+", write["address"])[0])  # type: ignore[index]
    out = run_peer([mbpoll, "-m", "tcp", "-p", port, "-0", "-r", str(register), "-1", "-q", host])
    return int(re.search(r"\[\d+\]:\s+(-?\d+)", out)[1]) / 10.0  # type: ignore[index]


def test_unarmed_rows_are_left_alone(tmp_path: Path) -> None:
    settings: dict[str, Any] = CLOSED_LOOP | {"SKADI_AGENT__ARMED": '["row:A"]'}
    with hall(tmp_path) as at, agent(at, **settings) as running:
        until(lambda: at.applied().get("modbus-tcp"), "a write over Modbus")
        assert running.stop() == 0
        assert {w["device"] for w in at.wire()} <= {"crac-a1", "crac-a2", "pump-a"}
