"""Recordings of real devices, where they are at hand (../shared/devices; they stay out of the repo).

Each is scanned, the site file loaded and read, and the values held against what an
independent project made of the same recording: at least 95 % of its numeric sensors, none
with another unit or scale. SKADI_SHARED names the folder when it is not beside the checkout.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.cli.scan_snmp import COMMUNITY, _community, _scan_all
from agent.scan.toml import site_file
from config.loader import load_site
from config.site import Point
from control.types import Reading
from drivers.snmp import SnmpDriver
from tests.drivers.snmp_peer import serve
from tests.profiles.recording import Recording, load

SHARED = Path(os.environ.get("SKADI_SHARED", Path(__file__).parents[3] / "shared")) / "devices"
RECORDINGS = sorted(p.name.removesuffix(".snmprec") for p in SHARED.glob("*.snmprec"))

# Of families that no profile claims, or whose other readings have no quantity here (reactive power).
UNCLAIMED = {"eaton-matrix", "vertiv-dcs"}
PARTIAL = {"janitza-umg96_umg96": 0.8}

# Class of the other project -> our unit, and the factor from its unit to ours.
CLASSES = {
    "power": ("kW", 1e-3), "current": ("A", 1.0), "voltage": ("V", 1.0),
    "power_consumed": ("kWh", 1.0), "temperature": ("degC", 1.0), "humidity": ("%", 1.0),
    "frequency": ("Hz", 1.0), "airflow": ("l/s", 0.47194745), "waterflow": ("l/s", 1 / 60),
}  # fmt: skip
NO_PROBE = (-1.0, -410.0)


@dataclass
class Score:
    """How a device's readings compare."""

    right: int
    wrong: list[str]
    missed: list[str]


def sensors(name: str) -> list[dict[str, Any]]:
    """The numeric sensors of a recording that hold a value."""
    everything = json.loads((SHARED / f"{name}.expected.json").read_text())["sensors"]
    found = []
    for sensor in everything:
        if sensor["cls"] in CLASSES and sensor["raw"] is not None:
            try:
                raw: float | None = float(sensor["raw"])
            except ValueError:
                raw = None
            if raw not in NO_PROBE:
                found.append(sensor)
    return found


def compare(
    wanted: list[dict[str, Any]], points: tuple[Point, ...], readings: list[Reading]
) -> Score:
    """Hold readings against sensors: by OID where both have it, else by unit and value."""
    by_oid = {str(p.address): (p, r) for p, r in zip(points, readings, strict=True)}
    free = [(p.unit, r.value) for p, r in zip(points, readings, strict=True) if r.value is not None]
    score = Score(0, [], [])
    for sensor in wanted:
        unit, factor = CLASSES[sensor["cls"]]
        value = float(sensor["expected"]) * factor
        slack = max(0.006 * factor, abs(value) * 1e-3)

        def fits(
            unit_: str,
            is_: float | None,
            unit: str = unit,
            value: float = value,
            slack: float = slack,
        ) -> bool:
            return unit_ == unit and is_ is not None and abs(is_ - value) <= slack

        if sensor["oid"] in by_oid:
            point, reading = by_oid[sensor["oid"]]
            if fits(point.unit, reading.value):
                score.right += 1
            else:
                score.wrong.append(f"{sensor['descr']}: {reading.value} {point.unit}, not {value}")
        elif hit := next((f for f in free if fits(*f)), None):
            free.remove(hit)
            score.right += 1
        else:
            score.missed.append(f"{sensor['descr']} at {sensor['oid']}")
    return score


@pytest.mark.skipif(not RECORDINGS, reason="../shared/devices is not here")
@pytest.mark.parametrize("name", [r for r in RECORDINGS if r not in UNCLAIMED])
async def test_a_recorded_device_is_known_and_read(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serve(Recording(load(SHARED / f"{name}.snmprec"))) as agent:
        entries, lost = await _scan_all(
            [("127.0.0.1", agent.port)], _community("public", False), 0.5
        )
        assert lost == 0, capsys.readouterr().err
        file = tmp_path / "site.toml"
        file.write_text(site_file(entries))
        (device,) = load_site(file, {}).devices
        assert device.profile is not None
        driver = SnmpDriver(device, {COMMUNITY: "public"})
        readings = await driver.read(0.0)
        await driver.close()
    score = compare(sensors(name), device.points, readings)
    assert score.wrong == []
    total = score.right + len(score.missed)
    assert score.right >= PARTIAL.get(name, 0.95) * total, score.missed
    for point, reading in zip(device.points, readings, strict=True):
        assert reading.value is None or point.about.low <= reading.value <= point.about.high
