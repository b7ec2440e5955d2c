"""The doctor names what is wrong, with its way out, and says nothing of what is not."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from agent import reach
from agent.cli import skadi
from agent.doctor import examine as doctor
from agent.doctor.examine import Note
from agent.doctor.field import Field, field, knobs, writing
from agent.journal import Journal, copy_path
from agent.locks import lock_folder
from agent.memory import KILL_FILE
from config.loader import load_site
from config.site import Site
from control.types import Lease

SITE = """\
config_version = 1
[site]
id = "t1"
[agent]
mode = "closed_loop"
armed = ["hall"]
data_dir = "{data}"
[mqtt]
url = "mqtts://10.9.0.1:8883"
username = "skadi"
password = {{ credential = "mqtt-password" }}
[[device]]
id = "crac-a1"
protocol = "modbus-tcp"
host = "10.20.0.11"
heartbeat = "alive"
  [[device.point]]
  id = "setpoint_c"
  quantity = "supply_air_setpoint_c"
  register = "holding:0"
  type = "int16"
  unit = "degC"
  writable = true
  min = 16
  max = 27
  max_step = 1
  safe_value = 18
  max_writes_per_day = 2
  [[device.point]]
  id = "alive"
  quantity = "state"
  register = "holding:9"
  type = "uint16"
  writable = true
  min = 0
  max = 100
  max_step = 100
  max_writes_per_day = 720
[[device]]
id = "bms"
protocol = "bacnet-ip"
host = "10.20.0.20"
device_instance = 1
  [[device.point]]
  id = "water_c"
  quantity = "chilled_water_setpoint_c"
  object = "analog-value:7"
  unit = "degC"
  writable = true
  min = 7
  max = 18
  max_step = 0.5
[[device]]
id = "pdu"
protocol = "snmp"
host = "10.20.1.1"
auth = {{ version = "2c", community = {{ env = "COMMUNITY_OF_THE_TEST" }} }}
  [[device.point]]
  id = "kw"
  quantity = "pdu_kw"
  oid = "1.3.6.1.4.1.318.1"
  unit = "kW"
"""
UNIT = "[Service]\nIPAddressDeny=any\nIPAddressAllow=localhost\n"
ENVIRON = {"COMMUNITY_OF_THE_TEST": "secret-of-the-test"}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    path = tmp_path / "site.toml"
    path.write_text(SITE.format(data=tmp_path / "data"))
    (tmp_path / "data").mkdir()
    return load_site(path)


def units(folder: Path, text: str = "", main: str = UNIT) -> list[Path]:
    """A folder with our unit and a drop-in."""
    root = folder / "units"
    (root / "skadi.service.d").mkdir(parents=True, exist_ok=True)
    (root / "skadi.service").write_text(main)
    (root / "skadi.service.d" / "10.conf").write_text(f"[Service]\n{text}\n")
    return [root]


def said(notes: Iterator[Note], about: str, level: str = "bad") -> list[Note]:
    return [n for n in notes if (n.about, n.level) == (about, level)]


def seen(site: Site, **silent: str) -> Field:
    offers = {d.id: {"state": {"found": 1, "stale": 0, "missing": 0}} for d in site.devices}
    return Field(offers, silent, "the test")


@contextmanager
def journal(site: Site) -> Iterator[Journal]:
    made = Journal(Path(site.agent.data_dir) / "journal.db")
    yield made
    made.close()


def write(book: Journal, site: Site, at_s: float) -> None:
    lease = Lease("crac-a1/setpoint_c", 18.0, 18.0, 19.0, at_s, at_s + 900.0, "x")
    book.intend(at_s, "c", "supply_air", site.device["crac-a1"], [lease])


def test_blocked_addresses_are_named_and_the_drop_in_opens_them(site: Site, tmp_path: Path) -> None:
    [note] = said(doctor.host(site, ENVIRON, units(tmp_path)), "network")
    for part in ("crac-a1 (10.20.0.11)", "bms", "pdu", "mqtt (10.9.0.1)"):
        assert part in note.text
    assert "skadi init" in note.way_out
    text, left = reach.drop_in(site)
    assert left == []
    opened = units(tmp_path, text)
    assert said(doctor.host(site, ENVIRON, opened), "network") == []
    assert said(doctor.host(site, ENVIRON, opened), "network", "ok")
    # One address less, one blocked device: the check is not merely happy.
    fewer = units(tmp_path, text.replace("IPAddressAllow=10.20.0.20\n", ""))
    [note] = said(doctor.host(site, ENVIRON, fewer), "network")
    assert "bms (10.20.0.20)" in note.text
    assert "crac-a1" not in note.text


@pytest.mark.parametrize(
    ("text", "address", "free"),
    [
        ("IPAddressDeny=any\nIPAddressAllow=10.0.0.0/8", "10.1.2.3", True),
        ("IPAddressDeny=any\nIPAddressAllow=10.0.0.0/8\nIPAddressAllow=", "10.1.2.3", False),
        ("IPAddressDeny=any\nIPAddressAllow=localhost link-local", "127.9.9.9", True),
        ("IPAddressDeny=any\nIPAddressAllow=localhost link-local", "169.254.1.1", True),
        ("IPAddressDeny=any\nIPAddressAllow=2001:db8::/32", "2001:db8::1", True),
        ("IPAddressDeny=any\nIPAddressAllow=2001:db8::/32", "2001:db9::1", False),
        ("IPAddressDeny=any\nIPAddressAllow=any", "10.1.2.3", True),
        ("IPAddressAllow=localhost", "10.1.2.3", True),
    ],
)
def test_ip_rules_are_read_as_systemd_reads_them(text: str, address: str, free: bool) -> None:
    networks = reach.allowed(text)
    assert (networks is None or not reach.blocked([address], networks)) is free


def test_missing_secrets_are_named_and_never_shown(site: Site, tmp_path: Path) -> None:
    here = units(tmp_path)
    notes = said(doctor.host(site, {}, here), "credentials")
    assert any("COMMUNITY_OF_THE_TEST" in n.text and "pdu" in n.text for n in notes)
    assert any("mqtt-password is not loaded" in n.text for n in notes)
    secret = tmp_path / "mqtt-password"
    loaded = units(tmp_path, f"LoadCredential=mqtt-password:{secret}")
    [note] = said(doctor.host(site, ENVIRON, loaded), "credentials")
    assert str(secret) in note.way_out
    secret.write_text("hunter2")
    notes = list(doctor.host(site, ENVIRON, loaded))
    assert said(iter(notes), "credentials") == []
    assert not [n for n in notes if "secret-of-the-test" in f"{n}" or "hunter2" in f"{n}"]


def test_rights_lock_kill_and_journal(site: Site, tmp_path: Path) -> None:
    here, folder = units(tmp_path), Path(site.agent.data_dir)

    def bad(about: str) -> list[Note]:
        return said(doctor.host(site, ENVIRON, here), about)

    with journal(site) as book:
        write(book, site, 1000.0)
    assert (bad("data_dir"), bad("kill"), bad("journal"), bad("lock")) == ([], [], [], [])
    with lock_folder(folder):
        [held] = said(doctor.host(site, ENVIRON, here), "lock", "ok")
        assert str(os.getpid()) in held.text
    (folder / KILL_FILE).touch()
    assert "kill --clear" in bad("kill")[0].way_out
    copy = copy_path(folder / "journal.db")
    whole = copy.read_text()
    copy.write_text(whole.replace("crac", "cram", 1))
    assert "second copy is not whole" in bad("journal")[0].text
    copy.write_text(whole)
    with sqlite3.connect(folder / "journal.db") as db:
        db.execute("UPDATE entry SET body = replace(body, '19', '20')")
    assert any("does not fit the chain" in n.text for n in bad("journal"))
    (folder / "journal.db.bad").touch()
    assert any("set aside" in n.text for n in bad("journal"))


def test_writable_points_what_giving_back_means_and_what_the_dark_leaves(site: Site) -> None:
    site = replace(site, devices=tuple(site.devices))
    with journal(site) as book:
        for at_s in (10_000.0, 100_000.0):
            write(book, site, at_s)
    table = knobs(site, 110_000.0)
    knob = table["crac-a1/setpoint_c"]
    assert (knob.today, knob.ever, knob.most) == (1, 2, 2)
    assert "no priority array" in knob.given_back
    assert "18 degC when blind" in knob.given_back
    assert "Null at priority 12" in table["bms/water_c"].given_back
    notes = list(writing(site, seen(site), table))
    [dark] = [n for n in notes if n.about == "dark host" and n.level == "note"]
    assert "bms/water_c" in dark.text
    assert "crac-a1" not in dark.text, "its heartbeat gives it back"
    [untried] = said(iter(notes), "commissioning")
    assert "crac-a1/setpoint_c" in untried.text
    assert "alive" not in untried.text
    assert said(iter(notes), "writes") == []
    used_up = list(writing(site, seen(site), knobs(site, 100_001.0 - 86_400.0)))
    assert said(iter(used_up), "writes")
    slotless = replace(seen(site), slotless=frozenset({"bms/water_c"}))
    assert "relinquish = false" in said(writing(site, slotless, table), "giving back")[0].way_out


def test_silent_and_blocked_devices_are_told_apart(site: Site) -> None:
    notes = list(field(site, seen(site, pdu="timeout", bms="[Errno 1] Operation not permitted")))
    silent = {n.text.split()[0]: n.way_out for n in notes if n.level == "silent"}
    assert "cable" in silent["pdu"]
    assert "systemd's IP rules" in silent["bms"]
    lacking = replace(
        seen(site), offers={"pdu": {"pdu_kw": {"found": 0, "stale": 0, "missing": 3}}}
    )
    assert any("pdu lacks pdu_kw: 3 of 3 missing" in n.text for n in field(site, lacking))


def cli(*arguments: Any) -> Any:
    return CliRunner().invoke(skadi, [str(a) for a in arguments])


def test_init_writes_the_drop_in_and_never_over_a_file(site: Site, tmp_path: Path) -> None:
    assert site.source is not None
    target = tmp_path / "skadi.service.d"
    target.mkdir()
    done = cli("init", site.source, "--drop-in", target)
    assert done.exit_code == 0, done.output
    text = (target / "10-devices.conf").read_text()
    assert {line for line in text.splitlines() if line.startswith("IP")} == {
        f"IPAddressAllow={a}" for a in ("10.9.0.1", "10.20.0.11", "10.20.0.20", "10.20.1.1")
    }
    assert cli("init", site.source, "--drop-in", target).exit_code == 2
    assert cli("init", site.source, "--drop-in", target, "--force").exit_code == 0
    assert cli("init", site.source, "--drop-in", "-").stdout == text
