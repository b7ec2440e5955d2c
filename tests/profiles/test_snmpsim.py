"""The same through an independent agent: snmpsim serves a case's facts, the commands read them."""

import json
import os
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers import free_port

BIN = Path(sys.executable).parent
CASE = Path(__file__).parents[1] / "cases" / "snmp" / "sentry4-fahrenheit.toml"
TAGS = {"int": "2", "text": "4", "oid": "6", "counter": "65", "gauge": "66"}


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("snmpsim")
    held = tomllib.loads(CASE.read_text())["oids"]
    order = sorted(held, key=lambda oid: tuple(map(int, oid.split("."))))
    lines = [f"{o}|{TAGS[held[o].partition(':')[0]]}|{held[o].partition(':')[2]}\n" for o in order]
    (folder / "data").mkdir()
    (folder / "data" / "hall.snmprec").write_text("".join(lines))
    port = free_port(kind=socket.SOCK_DGRAM)
    log = (folder / "log").open("w")
    process = subprocess.Popen(
        [BIN / "snmpsim-command-responder", f"--data-dir={folder / 'data'}",
         f"--cache-dir={folder / 'cache'}", f"--agent-udpv4-endpoint=127.0.0.1:{port}"],
        stdout=log, stderr=log, env={**os.environ, "SNMPSIM_ALLOW_ROOT": "true"},
    )  # fmt: skip
    try:
        for _ in range(200):
            if "Listening at" in (folder / "log").read_text():
                break
            try:
                process.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
            break
        assert process.poll() is None, (folder / "log").read_text()
        yield port
    finally:
        process.terminate()
        process.wait(20)
        log.close()


def skadi(*args: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BIN / "skadi", *args], capture_output=True, text=True, check=False,
        env={**os.environ, **environ}, timeout=60,
    )  # fmt: skip


def test_scan_check_and_once(agent: int, tmp_path: Path) -> None:
    scanned = skadi("scan", "snmp", f"127.0.0.1:{agent}", "--community", "hall")
    assert scanned.returncode == 0, scanned.stderr
    file = tmp_path / "site.toml"
    file.write_text(scanned.stdout)
    checked = skadi("check", "-c", str(file))
    assert checked.returncode == 0, checked.stdout
    read = skadi("once", "-c", str(file), "--json", SKADI_SNMP_COMMUNITY="hall")
    assert read.returncode == 0, read.stderr
    values = {r["point"]: (r["value"], r["unit"]) for r in json.loads(read.stdout)}
    assert values["cord1-1_power_kw"] == (pytest.approx(1.701), "kW")
    assert values["sensor1-1_temperature_c"] == (pytest.approx(21.0), "degC")
