"""`skadi once` and `skadi check` as a person at the terminal uses them."""

import json
from pathlib import Path

from tests.e2e.world import hall, skadi

KEYS = {"device", "point", "quantity", "value", "unit", "quality", "ts"}


def test_once_reads_every_point_once(tmp_path: Path) -> None:
    with hall(tmp_path, speed=5.0) as at:
        check = skadi("check", "-c", at.site, "--show", cwd=tmp_path)
        assert check.returncode == 0
        shown = skadi("check", "-c", at.site, "--show", "--json", cwd=tmp_path).stdout
        points = [(d["id"], p["id"]) for d in json.loads(shown)["device"] for p in d["point"]]
        once = skadi("once", "-c", at.site, "--json", cwd=tmp_path)
        assert once.returncode == 0, once.stderr
        read = json.loads(once.stdout)
        assert sorted((r["device"], r["point"]) for r in read) == sorted(points)
        assert all(r.keys() >= KEYS for r in read)
        # Rates and quantiles need two looks; everything else is there at once.
        late = {r["quantity"] for r in read if r["quality"] != "good"}
        assert late <= {"tokens_ps", "prompts_ps", "latency_p95_ms"}
        held = at.values()
        for r in read:
            if r["quantity"] in ("supply_air_setpoint_c", "chilled_water_setpoint_c"):
                assert r["value"] == held[f"{r['device']}/{r['point']}"]
        at.post("/devices/pdu-b", {"action": "stop"})
        partly = skadi("once", "-c", at.site, "--json", cwd=tmp_path)
        assert partly.returncode == 75
        assert "pdu-b" in partly.stderr
        again = json.loads(partly.stdout)
        assert len(again) == len(read)
        assert {r["quality"] for r in again if r["device"] == "pdu-b"} == {"unknown"}
        assert at.wire() == []
        assert not (tmp_path / "skadi-data").exists()


# Each line that ends in "#!" has an error; what follows is the key that must be named.
WRONG = """\
config_version = 1
[site]
id = "hall 1"                         #! site.id
[agent]
poll_intervall_s = 5                  #! agent.poll_intervall_s
[limits]
inlet_max_c = "28"                    #! limits.inlet_max_c
[mqtt]
url = "http://127.0.0.1:1883"         #! mqtt.url
[[device]]
id = "crac-a1"
protocol = "modbus-tcp"
host = "127.0.0.1"
  [[device.point]]
  id = "supply_air_c"
  quantity = "supply_air_c"
  register = "input:0"
  type = "int16"
  unit = "kW"                         #! device[0].point[0].unit
  [[device.point]]
  id = "supply_air_setpoint_c"
  quantity = "supply_air_setpoint_c"
  register = "holding:0"
  type = "int16"
  unit = "degC"
  writable = true
  min = 27.0                          #! device[0].point[1].min
  max = 16.0
  max_step = 1.0
  [[device.point]]
  id = "return_air_c"
  quantity = "return_air_c"
  register = "input:0"                #! device[0].point[2].register
  type = "int16"
  unit = "degC"
[[device]]
id = "bms"
protocol = "bacnet-ip"
host = "127.0.0.1"
device_instance = 1
write_priority = 8                    #! device[1].write_priority
  [[device.point]]
  id = "outdoor_c"
  quantity = "outdoor_c"
  object = "analog-input:1"
[[device]]
id = "pdu"
protocol = "snmp"
host = "127.0.0.1"
auth = { version = "2c" }             #! device[2].auth
  [[device.point]]
  id = "power_kw"
  quantity = "pdu_kw"
  oid = "1.3.6.1.4.1.318.1.1.26.4.3.1.5.1"
[[interlock]]
id = "leak"
point = "bms/leak"                    #! interlock[0].point
trip_above = 0.5
"""


def test_ten_errors_are_ten_lines(tmp_path: Path) -> None:
    site = tmp_path / "site.toml"
    site.write_text(WRONG, encoding="utf-8")
    planted = [
        f"{site}:{number}: {line.split('#! ')[1]}"
        for number, line in enumerate(WRONG.splitlines(), 1)
        if "#! " in line
    ]
    assert len(planted) == 10
    check = skadi("check", "-c", site, cwd=tmp_path)
    assert check.returncode == 78
    lines = check.stdout.splitlines()
    assert len(lines) == 10, check.stdout
    for place in planted:
        found = [line for line in lines if line.startswith(f"{place}")]
        assert len(found) == 1, (place, lines)
        assert len(found[0]) > len(place) + 10, found
    run = skadi("run", "-c", site, cwd=tmp_path)
    assert run.returncode == 78
