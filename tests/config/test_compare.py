"""What may change while the agent runs, key class by key class."""

from pathlib import Path

import pytest

from config.compare import compare
from config.loader import load_site
from config.site import Site

SITE = """\
config_version = 1
[site]
id = "t1"
timezone = "UTC"
[agent]
mode = "closed_loop"
armed = ["row:A", "row:B"]
on_stop = "release"
[loops]
fast_s = 10
[limits]
inlet_max_c = 28.0
write_interval_s = 120
[mms]
alpha = 0.3
[optimizer]
hold_back_s = 3600
[history]
keep_days = 90
[mqtt]
url = "mqtt://127.0.0.1:1883"
[api]
listen = "127.0.0.1:8790"
tokens = [{ name = "a", role = "viewer", token = { env = "A" } }]
[[device]]
id = "crac-a1"
protocol = "modbus-tcp"
host = "127.0.0.1"
timeout_s = 1.0
row = "A"
  [[device.point]]
  id = "supply_air_c"
  quantity = "supply_air_c"
  register = "input:0"
  type = "int16"
  scale = 0.1
  max_age_s = 30
  max_slew_per_s = 0.05
  [[device.point]]
  id = "set_c"
  quantity = "supply_air_setpoint_c"
  register = "holding:0"
  type = "int16"
  scale = 0.1
  writable = true
  min = 17.0
  max = 26.0
  max_step = 1.0
  deadband = 0.2
  min_interval_s = 300
  max_writes_per_day = 96
  safe_value = 18.0
[[device]]
id = "pdu"
protocol = "modbus-tcp"
host = "127.0.0.2"
row = "B"
  [[device.point]]
  id = "power_kw"
  quantity = "pdu_kw"
  register = "input:5"
[[interlock]]
id = "warm"
point = "crac-a1/supply_air_c"
trip_above = 40.0
for_s = 10.0
action = "hold"
scope = "row:A"
"""
NEW_DEVICE = """\
[[device]]
id = "pdu-2"
protocol = "modbus-tcp"
host = "127.0.0.3"
row = "B"
  [[device.point]]
  id = "power_kw"
  quantity = "pdu_kw"
  register = "input:5"
"""
NEW_ACTUATOR = """\
[[device]]
id = "crac-2"
protocol = "modbus-tcp"
host = "127.0.0.4"
row = "B"
  [[device.point]]
  id = "set_c"
  quantity = "supply_air_setpoint_c"
  register = "holding:0"
  writable = true
  min = 17.0
  max = 26.0
  max_step = 1.0
  safe_value = 18.0
"""
NEW_INTERLOCK = """\
[[interlock]]
id = "hot"
point = "crac-a1/supply_air_c"
trip_above = 35.0
action = "hold"
"""

# (what stands in the file, what stands there then, the key that is named)
FREE = [
    ('timezone = "UTC"', 'timezone = "Europe/Berlin"', "site.timezone"),
    ('"closed_loop"', '"advisory"', "agent.mode"),
    ('armed = ["row:A", "row:B"]', 'armed = ["row:A"]', "agent.armed"),
    ("fast_s = 10", "fast_s = 5", "loops.fast_s"),
    ("inlet_max_c = 28.0", "inlet_max_c = 27.0", "limits.inlet_max_c"),
    ("write_interval_s = 120", "write_interval_s = 200", "limits.write_interval_s"),
    ("alpha = 0.3", "alpha = 0.4", "mms.alpha"),
    ("hold_back_s = 3600", "hold_back_s = 60", "optimizer.hold_back_s"),
    ("keep_days = 90", "keep_days = 30", "history.keep_days"),
    ('role = "viewer"', 'role = "operator"', "api.tokens"),
    ("timeout_s = 1.0", "timeout_s = 2.0", "device crac-a1.timeout_s"),
    ("min = 17.0", "min = 17.5", "point crac-a1/set_c.min"),
    ("max = 26.0", "max = 25.0", "point crac-a1/set_c.max"),
    ("max_step = 1.0", "max_step = 0.5", "point crac-a1/set_c.max_step"),
    ("deadband = 0.2", "deadband = 0.1", "point crac-a1/set_c.deadband"),
    ("min_interval_s = 300", "min_interval_s = 600", "point crac-a1/set_c.min_interval_s"),
    ("max_writes_per_day = 96", "max_writes_per_day = 9", "point crac-a1/set_c.max_writes_per_day"),
    ("max_age_s = 30", "max_age_s = 20", "point crac-a1/supply_air_c.max_age_s"),
    ("max_slew_per_s = 0.05", "max_slew_per_s = 0.1", "point crac-a1/supply_air_c.max_slew_per_s"),
    ('register = "input:0"', 'register = "input:1"', "point crac-a1/supply_air_c.address"),
    ("input:5", "input:6", "point pdu/power_kw.address"),
    ("127.0.0.2", "127.0.0.9", "device pdu.host"),
    ("trip_above = 40.0", "trip_above = 38.0", "interlock warm.trip_above"),
    ("for_s = 10.0", "for_s = 5.0", "interlock warm.for_s"),
    ("[[interlock]]", NEW_INTERLOCK + "[[interlock]]", "interlock hot"),
    ("[[interlock]]", NEW_DEVICE + "[[interlock]]", "device pdu-2"),
    ("writable = true\n  min = 17.0\n  max = 26.0\n  max_step = 1.0",
     "max_age_s = 15.0\n", "point crac-a1/set_c.writable"),
]  # fmt: skip
RESTART = [
    ('id = "t1"', 'id = "t2"', "site.id"),
    ('armed = ["row:A", "row:B"]', 'armed = ["hall"]', "agent.armed"),
    ('on_stop = "release"', 'on_stop = "hold"', "agent.on_stop"),
    ("inlet_max_c = 28.0", "inlet_max_c = 29.0", "limits.inlet_max_c"),
    ("write_interval_s = 120", "write_interval_s = 60", "limits.write_interval_s"),
    ("[limits]", '[limits]\nlatency_metric = "e2e"', "limits.latency_metric"),
    ("mqtt://127.0.0.1:1883", "mqtt://127.0.0.1:1884", "mqtt.url"),
    ("127.0.0.1:8790", "127.0.0.1:8791", "api.listen"),
    ("keep_days = 90", 'url = "sqlite:////tmp/x.db"', "history.url"),
    ('host = "127.0.0.1"', 'host = "127.0.0.8"', "device crac-a1.host"),
    ("min = 17.0", "min = 16.0", "point crac-a1/set_c.min"),
    ("max = 26.0", "max = 27.0", "point crac-a1/set_c.max"),
    ("max_step = 1.0", "max_step = 2.0", "point crac-a1/set_c.max_step"),
    ("min_interval_s = 300", "min_interval_s = 200", "point crac-a1/set_c.min_interval_s"),
    ("max_writes_per_day = 96", "max_writes_per_day = 97", "point crac-a1/set_c.max_writes_per_day"),
    ("safe_value = 18.0", "safe_value = 20.0", "point crac-a1/set_c.safe_value"),
    ("holding:0", "holding:1", "point crac-a1/set_c.address"),
    ("max_age_s = 30", "max_age_s = 60", "point crac-a1/supply_air_c.max_age_s"),
    ("max_slew_per_s = 0.05", "max_slew_per_s = 0.01", "point crac-a1/supply_air_c.max_slew_per_s"),
    ("trip_above = 40.0", "trip_above = 42.0", "interlock warm.trip_above"),
    ("for_s = 10.0", "for_s = 60.0", "interlock warm.for_s"),
    ('scope = "row:A"', 'scope = "row:B"', "interlock warm.scope"),
    (SITE[SITE.index("[[interlock]]") :], "", "interlock warm"),
    ("[[interlock]]", NEW_ACTUATOR + "[[interlock]]", "point crac-2/set_c"),
    ("[[interlock]]", '[[unit]]\nequipment = "crac-a1"\n[[interlock]]', "unit"),
]  # fmt: skip


def load(folder: Path, text: str) -> Site:
    file = folder / "site.toml"
    file.write_text(text)
    return load_site(file, {})


@pytest.mark.parametrize(("old", "new", "key"), FREE)
def test_this_may_change(tmp_path: Path, old: str, new: str, key: str) -> None:
    before = load(tmp_path, SITE)
    assert old in SITE
    found = compare(before, load(tmp_path, SITE.replace(old, new, 1)))
    assert found.refused == (), [str(c) for c in found.refused]
    assert key in {c.key for c in found.changes}


@pytest.mark.parametrize(("old", "new", "key"), RESTART)
def test_this_takes_a_restart(tmp_path: Path, old: str, new: str, key: str) -> None:
    before = load(tmp_path, SITE)
    assert old in SITE
    found = compare(before, load(tmp_path, SITE.replace(old, new, 1)))
    assert key in {c.key for c in found.refused}, [str(c) for c in found.changes]


def test_raising_the_mode_takes_a_restart(tmp_path: Path) -> None:
    lower = load(tmp_path, SITE.replace('"closed_loop"', '"advisory"'))
    assert [c.key for c in compare(lower, load(tmp_path, SITE)).refused] == ["agent.mode"]


def test_the_same_file_is_no_change(tmp_path: Path) -> None:
    assert compare(load(tmp_path, SITE), load(tmp_path, SITE)).changes == ()
