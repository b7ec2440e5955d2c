"""Links of Modbus and BACnet devices in a site file: what fits, and what is refused how."""

from pathlib import Path

import pytest

from agent.devicespec import device_from_json, device_to_json
from config.errors import ConfigError
from config.links import parse_hole
from config.loader import load_site

HEAD = 'config_version = 1\n[site]\nid = "s"\n[[device]]\nid = "d"\n'
POINT = '[[device.point]]\nid = "p"\nquantity = "state"\nregister = "holding:5"\n'
OBJECT = '[[device.point]]\nid = "p"\nquantity = "state"\nobject = "analog-value:1"\n'


def problems(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "site.toml"
    path.write_text(HEAD + text)
    try:
        load_site(path)
    except ConfigError as error:
        return [str(p).removeprefix(f"{path}:") for p in error.problems]
    return []


NAMED = '[[device.point]]\nid = "p"\nquantity = "admission_pct"\nname = "job:7"\n'
GOOD = {
    "slurm": 'protocol = "slurm"\nprogram = "/opt/slurm/bin/scontrol"\ndry_run = false\n' + NAMED,
    "envoy": 'protocol = "envoy"\nurl = "https://h:9901"\ntls = { ca_file = "/ca.pem" }\n' + NAMED,
    "kubernetes": 'protocol = "kubernetes"\nurl = "https://h:6443"\ntoken = { env = "K8S" }\n'
    + NAMED,
    "nvml": 'protocol = "nvml"\n' + NAMED,
    "tcp": 'protocol = "modbus-tcp"\nhost = "h"\nno_read = ["holding:10-12", "coil:3"]\n' + POINT,
    "tls": 'protocol = "modbus-tls"\nhost = "h"\ntls = { ca_file = "/ca.pem" }\n' + POINT,
    "rtu over tcp": 'protocol = "modbus-rtu-tcp"\nhost = "h"\npause_ms = 5\n' + POINT,
    "serial": 'protocol = "modbus-rtu"\nserial = { path = "/dev/ttyS0", baud = 9600 }\n' + POINT,
    "routed": 'protocol = "bacnet-ip"\nhost = "h"\nbacnet_network = 2001\nbacnet_mac = "5"\n'
    + OBJECT,
    "cov": 'protocol = "bacnet-ip"\nhost = "h"\ncov_lifetime_s = 300\n' + OBJECT,
}


@pytest.mark.parametrize("name", GOOD)
def test_what_fits(name: str, tmp_path: Path) -> None:
    assert problems(tmp_path, GOOD[name].replace("pause_ms = 5\n", "pause_ms = 5.0\n")) == []


BAD = {
    'protocol = "modbus-rtu"\nserial = { path = "/dev/ttyS0", device = "/dev/ttyS0" }\n'
    + POINT: "did you mean 'path'",
    'protocol = "modbus-rtu"\nserial = { path = "/dev/ttyS0", baudrate = 9600 }\n'
    + POINT: "did you mean 'baud'",
    'protocol = "prometheus"\nurl = "http://h"\nprofile = "vllm"\ntls = { ca_file = "a" }\n': "write https",
    'protocol = "modbus-tcp"\nhost = "h"\ndry_run = false\n' + POINT: "has no dry run",
    'protocol = "slurm"\nurl = "http://h"\n' + NAMED: "spoken to on this host",
    'protocol = "nvml"\nprogram = "scontrol"\n' + NAMED: "program: belongs to slurm",
    'protocol = "envoy"\n' + NAMED: "url: is missing",
    'protocol = "modbus-rtu"\n' + POINT: "serial: is missing",
    'protocol = "modbus-rtu"\nhost = "h"\nserial = { path = "/dev/ttyS0" }\n'
    + POINT: "host: a ser",
    'protocol = "modbus-tcp"\nhost = "h"\nserial = { path = "/x" }\n' + POINT: "serial: belongs to",
    'protocol = "modbus-tls"\nhost = "h"\n' + POINT: "tls: is missing",
    'protocol = "modbus-tls"\nhost = "h"\ntls = { ca_file = "a", cert_file = "b" }\n'
    + POINT: "cert_file and key_file together",
    'protocol = "modbus-tcp"\nhost = "h"\ntls = { ca_file = "a" }\n' + POINT: "tls: belongs to",
    'protocol = "modbus-rtu-tcp"\nhost = "h"\nunit_id = 0\n' + POINT: "use 1..247",
    'protocol = "modbus-tcp"\nhost = "h"\nno_read = ["holding:4-6"]\n' + POINT: "lies in no_read",
    'protocol = "modbus-tcp"\nhost = "h"\nno_read = ["holding:6-4"]\n' + POINT: "upwards",
    'protocol = "modbus-tcp"\nhost = "h"\ncov_lifetime_s = 300\n' + POINT: "belongs to bacnet-ip",
    'protocol = "bacnet-ip"\nhost = "h"\npause_ms = 5.0\n' + OBJECT: "belongs to Modbus",
    'protocol = "bacnet-ip"\nhost = "h"\nbacnet_network = 2001\n'
    + OBJECT: "bacnet_mac: is missing",
    'protocol = "bacnet-ip"\nhost = "h"\nbacnet_network = 1\nbacnet_mac = "x"\n'
    + OBJECT: "is no address behind a router",
    'protocol = "bacnet-ip"\nhost = "h"\ncov_lifetime_s = 5\n' + OBJECT: "cov_lifetime_s",
}


@pytest.mark.parametrize("text", BAD)
def test_what_does_not(text: str, tmp_path: Path) -> None:
    found = problems(tmp_path, text)
    assert len(found) == 1, found
    assert BAD[text] in found[0]


def test_units_on_one_line_differ_by_unit_alone(tmp_path: Path) -> None:
    serial = 'protocol = "modbus-rtu"\nserial = { path = "/dev/ttyS0" }\n'
    second = '[[device]]\nid = "e"\nunit_id = 2\n' + serial + POINT
    assert problems(tmp_path, serial + POINT + second) == []
    (found,) = problems(tmp_path, serial + POINT + second.replace("unit_id = 2\n", ""))
    assert "same address as device 'd'" in found


@pytest.mark.parametrize(
    "text", ["", "holding", "holding:", "holding:-1", "register:1", "coil:70000"]
)
def test_holes_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"holding|upwards"):
        parse_hole(text)


@pytest.mark.parametrize("name", GOOD)
def test_the_journal_keeps_a_link_whole(name: str, tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    writable = "writable = true\nmin = 1.0\nmax = 2.0\nmax_step = 1.0\n"
    path.write_text(HEAD + GOOD[name].replace("= 5\n", "= 5.0\n") + writable)
    (device,) = load_site(path).devices
    assert device_from_json(device_to_json(device)) == device
