"""The units as systemd's own tools read them, and as text where no tool says it."""

import re
import subprocess
from configparser import RawConfigParser
from pathlib import Path

import pytest

from agent.reach import drop_in
from config.loader import load_site
from tests.peers import peer

UNITS = Path(__file__).parents[2] / "systemd"
SERVICES = ["skadi.service", "skadi-release.service"]
DROP_IN = UNITS / "skadi.service.d" / "10-devices.conf.example"


SERIAL_SITE = """\
config_version = 1
[site]
id = "t1"
[[device]]
id = "pump"
protocol = "modbus-rtu"
serial = { path = "/dev/serial/by-id/usb-1" }
  [[device.point]]
  id = "speed"
  quantity = "pump_rpm_pct"
  register = "input:0"
  type = "uint16"
[[device]]
id = "crac"
protocol = "modbus-tcp"
host = "10.20.0.11"
  [[device.point]]
  id = "supply_air_c"
  quantity = "supply_air_c"
  register = "input:0"
  type = "int16"
"""


class Unit(dict[str, list[str]]):
    """All values of each key, in order, sections joined."""

    def __init__(self, path: Path) -> None:
        for line in path.read_text().splitlines():
            if line and line[0] not in "#;[":
                key, _, value = line.partition("=")
                self.setdefault(key, []).append(value)

    def one(self, key: str) -> str:
        assert len(self.get(key, [])) == 1, f"{key}: {self.get(key)}"
        return self[key][0]


def exposure(path: Path) -> float:
    ran = subprocess.run(
        [peer("systemd-analyze"), "security", "--offline=true", "--no-pager", str(path)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert not ran.stderr, ran.stderr  # unknown keys and values are said there
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", ran.stdout)
    assert found, ran.stdout
    return float(found[1])


@pytest.mark.peer
@pytest.mark.parametrize("service", SERVICES)
def test_exposure_is_at_most_one_also_with_devices_allowed(service: str, tmp_path: Path) -> None:
    assert exposure(UNITS / service) <= 1.0
    opened = tmp_path / service
    opened.write_text((UNITS / service).read_text() + DROP_IN.read_text())
    assert exposure(opened) <= 1.0
    opened.write_text((UNITS / service).read_text().replace("CapabilityBoundingSet=\n", ""))
    assert exposure(opened) > 1.0, "the figure would not notice a hole"


@pytest.mark.peer
@pytest.mark.parametrize("service", SERVICES)
def test_a_site_with_a_serial_line_stays_within_one_too(service: str, tmp_path: Path) -> None:
    site = tmp_path / "site.toml"
    site.write_text(SERIAL_SITE)
    text, left = drop_in(load_site(site))
    assert left == []
    assert "BindPaths=/dev/serial/by-id/usb-1" in text
    assert "IPAddressAllow=10.20.0.11" in text
    opened = tmp_path / service
    opened.write_text((UNITS / service).read_text() + text)
    assert exposure(opened) <= 1.0
    opened.write_text((UNITS / service).read_text() + text + "PrivateDevices=no\n")
    assert exposure(opened) > 1.0, "what the drop-in avoids would not be noticed"


@pytest.mark.peer
def test_systemd_finds_nothing_to_complain_about(tmp_path: Path) -> None:
    for service in SERVICES:
        text = (UNITS / service).read_text().replace("/usr/bin/skadi", "/bin/true")
        (tmp_path / service).write_text(text.replace("Documentation=man:skadi(1)\n", ""))
    ran = subprocess.run(
        [peer("systemd-analyze"), "verify", *(str(tmp_path / s) for s in SERVICES)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    about_ours = [line for line in ran.stderr.splitlines() if "skadi" in line]
    assert (ran.returncode, about_ours) == (0, []), ran.stderr


def test_the_agent_is_watched_released_and_not_restarted_without_end() -> None:
    unit = Unit(UNITS / "skadi.service")
    assert unit.one("Type") == "notify"
    assert unit.one("NotifyAccess") == "main"
    assert 0 < int(unit.one("WatchdogSec")) <= 20
    assert unit.one("ExecStopPost").startswith("/usr/bin/skadi release --journal /var/lib/skadi/")
    assert unit.one("RestartPreventExitStatus") == "78"
    assert unit.one("Restart") == "on-failure"
    assert int(unit.one("StartLimitBurst")) * int(unit.one("RestartSec")) < int(
        unit.one("StartLimitIntervalSec")
    ), "restarts would go on for ever"
    assert unit.one("OnFailure") == "skadi-release.service"


@pytest.mark.parametrize("service", SERVICES)
def test_what_the_agent_may_use_is_bounded(service: str) -> None:
    unit = Unit(UNITS / service)
    assert unit.one("IPAddressDeny") == "any"
    assert unit.one("IPAddressAllow") == "localhost"
    assert unit.one("MemoryMax").endswith("M")
    assert int(unit.one("TasksMax")) <= 256
    assert unit.one("StateDirectory") == "skadi"
    assert unit.one("User") == unit.one("Group") == "skadi"
    assert unit.one("LimitCORE") == "0", "a core file would hold secrets"
    assert not [k for k in unit if k.startswith("Environment") and "PASSWORD" in str(unit[k])]


def test_both_services_are_hardened_alike() -> None:
    texts = [(UNITS / service).read_text() for service in SERVICES]
    start = "# Network: nothing"
    sandboxes = [t[t.index(start) :].partition("[Install]")[0].strip() for t in texts]
    assert sandboxes[0] == sandboxes[1]


def test_releasing_stops_the_agent_first_and_does_not_give_up() -> None:
    unit = Unit(UNITS / "skadi-release.service")
    assert unit.one("Conflicts") == "skadi.service"
    assert unit.one("StartLimitIntervalSec") == "0"
    assert unit.one("Restart") == "on-failure"
    assert unit.one("ExecStart") == Unit(UNITS / "skadi.service").one("ExecStopPost")


def test_the_drop_in_is_a_drop_in() -> None:
    parser = RawConfigParser(strict=False)
    parser.read(DROP_IN)
    assert parser.sections() == ["Service"]
    assert set(Unit(DROP_IN)) == {"IPAddressAllow"}


@pytest.mark.peer
def test_the_user_and_the_folders_are_made(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    for tool, file in (("systemd-sysusers", "sysusers.d"), ("systemd-tmpfiles", "tmpfiles.d")):
        create = ["--create"] if tool == "systemd-tmpfiles" else []
        ran = subprocess.run(
            [peer(tool), f"--root={tmp_path}", *create, str(UNITS / file / "skadi.conf")],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
    user = (tmp_path / "etc" / "passwd").read_text()
    assert re.search(
        r"^skadi:[x!*]+:\d+:\d+:Skadi agent:/var/lib/skadi:/usr/sbin/nologin$", user, re.M
    )
    made = {p: (tmp_path / p).stat().st_mode & 0o7777 for p in
            ("etc/skadi", "etc/skadi/conf.d", "etc/skadi/credentials", "var/lib/skadi")}  # fmt: skip
    assert made == {"etc/skadi": 0o750, "etc/skadi/conf.d": 0o750,
                    "etc/skadi/credentials": 0o700, "var/lib/skadi": 0o750}  # fmt: skip
