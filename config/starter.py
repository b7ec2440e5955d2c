"""The commented start file that `skadi init` writes: the smallest site that makes sense."""

STARTER = """\
# A Skadi site. Check it any time, without touching the network:  skadi check -c FILE
# Every key is in docs/reference/config.md; editors take `skadi schema config`.
config_version = 1

[site]
id = "my-site"
area = "hall-a"
timezone = "UTC"                      # for display; everything stored is UTC

[agent]
mode = "advisory"                     # decides and explains, writes nothing. closed_loop: acts
armed = []                            # what closed_loop may write: "row:A", "zone:row-a", "hall"
poll_interval_s = 5
stale_after_s = 15
data_dir = "/var/lib/skadi"

[limits]                              # never crossed on purpose; healed first when crossed
inlet_max_c = 28.0
latency_p95_max_ms = 250
rack_max_kw = 12.0
write_interval_s = 120                # one change an equipment

# [mqtt]
# url = "mqtt://127.0.0.1:1883"
# username = "skadi"
# password = { env = "SKADI_MQTT_PASSWORD" }   # or { file = ... } or { credential = ... }

# One table a device. `skadi scan snmp HOST` writes them for you.
[[device]]
id = "crac-a1"
protocol = "modbus-tcp"
host = "192.0.2.11"                   # an example address: put your own
port = 502
unit_id = 1
row = "A"
zone = "row-a"                        # units of one zone move together
  [[device.point]]
  id = "supply_air_c"
  quantity = "supply_air_c"
  register = "input:0"                # coil | discrete | input | holding : address, 0-based
  type = "int16"
  scale = 0.1
  unit = "degC"
  [[device.point]]
  id = "supply_air_setpoint_c"
  quantity = "supply_air_setpoint_c"
  register = "holding:0"
  type = "int16"
  scale = 0.1
  unit = "degC"
  writable = true                     # only what is writable here can ever be written
  min = 16.0
  max = 27.0
  max_step = 1.0
  deadband = 0.2
  min_interval_s = 300
  settle_s = 300
  max_writes_per_day = 96
  safe_value = 18.0                   # full cooling: what it is given back to when blind

[[device]]
id = "pdu-a01"
protocol = "snmp"
host = "192.0.2.21"
auth = { version = "2c", community = { env = "SKADI_SNMP_COMMUNITY" } }
profile = "apc-rpdu2"                 # skadi profile list
row = "A"
rack = "A01"
"""


def starter_file() -> str:
    """Return the start file's text."""
    return STARTER
