"""The same through an independent agent: snmpsim serves a case's facts, the commands read them."""

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.profiles.acceptance import skadi, snmpsim

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
    with snmpsim(folder, folder / "data") as port:
        yield port


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
