"""Every bundled profile: well-formed, sourced, loadable; and the cases its facts must pass."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from agent.cli.profile import profile as profile_command
from agent.profile_case import CaseError, read_case, run_case
from config.errors import ConfigError
from config.library import ProfileError, load_profile, profile_names, read_profile
from config.loader import load_site
from config.quantities import QUANTITIES
from config.site import Site

CASES = Path(__file__).parents[1] / "cases" / "snmp"

DEVICE = {
    "snmp": 'host = "10.0.0.1"\nauth = { version = "2c", community = { env = "C" } }',
    "modbus-tcp": 'host = "10.0.0.1"',
    "bacnet-ip": 'host = "10.0.0.1"\ndevice_instance = 7',
    "prometheus": 'url = "http://10.0.0.1:9400/metrics"',
    "workload-http": 'url = "http://10.0.0.1:8800"',
}


def site_with(path: Path, keys: str, head: str = "") -> Site:
    file = path / "site.toml"
    file.write_text(f'config_version = 1\n[site]\nid = "t"\n{head}\n[[device]]\nid = "d"\n{keys}\n')
    return load_site(file, {})


@pytest.mark.parametrize("name", profile_names())
def test_a_profile_is_well_formed_and_says_where_its_facts_come_from(name: str) -> None:
    found = read_profile(name)
    assert len(found.about.source) > 10
    assert found.points or found.tables
    plain = [t for t in found.tables if not t.where and not t.unless and t.index == r"[0-9.]+"]
    assert len({t.id for t in plain}) == len(plain)
    for table in found.tables:
        assert table.quantity in QUANTITIES
        if table.quantity == "pdu_kw" and re.search("apparent|peak", table.id):
            assert table.part, f"{table.id} would be summed"


@pytest.mark.parametrize("name", [n for n in profile_names() if "point" in load_profile(n)])
def test_a_profile_with_points_loads_in_a_site(name: str, tmp_path: Path) -> None:
    protocol = load_profile(name)["profile"]["protocol"]
    keys = f'protocol = "{protocol}"\nprofile = "{name}"\nwritable_from_document = true'
    site = site_with(tmp_path, f"{keys}\n{DEVICE[protocol]}")
    assert site.devices[0].points
    for point in site.writable_points.values():
        assert point.writable is not None
        assert point.writable.min < point.writable.max
        if not name.startswith("workload"):
            assert point.writable.safe_value is not None, point.key


@pytest.mark.parametrize(
    "name",
    [n for n in profile_names() if "table" in load_profile(n) and "point" not in load_profile(n)],
)
def test_a_profile_of_tables_alone_asks_for_a_scan(name: str, tmp_path: Path) -> None:
    keys = f'protocol = "snmp"\nprofile = "{name}"\n{DEVICE["snmp"]}'
    with pytest.raises(ConfigError, match="skadi scan snmp"):
        site_with(tmp_path, keys)


def test_modules_give_a_point_a_rack(tmp_path: Path) -> None:
    keys = f'protocol = "snmp"\nprofile = "apc-rpdu2"\nmodules = {{ "1" = "A01", "12" = "A12" }}\n{DEVICE["snmp"]}'
    site = site_with(tmp_path, keys, '[[row]]\nid = "A"\nracks = ["A01", "A12"]')
    power = {p.rack: str(p.address) for p in site.of_quantity("pdu_kw")}
    assert {k: v.rpartition(".")[2] for k, v in power.items()} == {"A01": "1", "A12": "12"}
    assert {p.row for p in site.points.values()} == {"A"}
    assert set(site.points) >= {"d/power_kw.A01", "d/energy_kwh.A12"}


def test_an_own_point_replaces_the_profiles(tmp_path: Path) -> None:
    keys = f'protocol = "snmp"\nprofile = "apc-rpdu2"\n{DEVICE["snmp"]}'
    own = '[[device.point]]\nid = "power_kw"\nquantity = "pdu_kw"\noid = "1.3.6.1.4.1.99.1"\nunit = "W"'
    site = site_with(tmp_path, f"{keys}\n{own}")
    assert str(site.points["d/power_kw"].address) == "1.3.6.1.4.1.99.1"
    assert len(site.points) == 2


def test_hosts_give_a_rack_its_own_points(tmp_path: Path) -> None:
    keys = f'protocol = "prometheus"\nprofile = "dcgm-exporter"\nhosts = {{ n1 = "A01", n2 = "A01", n3 = "A02" }}\n{DEVICE["prometheus"]}'
    site = site_with(tmp_path, keys)
    labels = {p.rack: dict(p.address.labels)["Hostname"] for p in site.points.values()}  # type: ignore[union-attr]
    assert labels == {"A01": ("n1", "n2"), "A02": ("n3",)}


@pytest.mark.parametrize(
    ("metric", "name"),
    [("ttft", "vllm:time_to_first_token_seconds"), ("e2e", "vllm:e2e_request_latency_seconds"),
     ("queue", "vllm:request_queue_time_seconds")],
)  # fmt: skip
def test_the_latency_metric_of_the_site_picks_the_histogram(
    metric: str, name: str, tmp_path: Path
) -> None:
    keys = f'protocol = "prometheus"\nprofile = "vllm"\n{DEVICE["prometheus"]}'
    site = site_with(tmp_path, keys, f'[limits]\nlatency_metric = "{metric}"')
    (point,) = site.of_quantity("latency_p95_ms")
    assert point.address.metrics == (name,)  # type: ignore[union-attr]
    assert point.scale == 1000


def test_what_a_profile_denies_can_not_be_made_writable(tmp_path: Path) -> None:
    keys = f'protocol = "snmp"\nprofile = "eaton-epdu"\nprofile_points = false\n{DEVICE["snmp"]}'
    point = ('[[device.point]]\nid = "wh"\nquantity = "energy_kwh"\nunit = "Wh"\n'
             'oid = "1.3.6.1.4.1.534.6.6.7.3.5.1.5.0.1"\n')  # fmt: skip
    assert site_with(tmp_path, f"{keys}\n{point}").points
    with pytest.raises(ConfigError, match="forbids writing"):
        site_with(tmp_path, f"{keys}\n{point}writable = true\nmin = 0\nmax = 1\nmax_step = 1")


def test_what_is_denied_below_a_models_own_number_is_denied_for_each_model(tmp_path: Path) -> None:
    keys = f'protocol = "snmp"\nprofile = "gude-epc"\nprofile_points = false\n{DEVICE["snmp"]}'
    point = """[[device.point]]\nid = "o"\nquantity = "state"\noid = "1.3.6.1.4.1.28507.%s.1.3.1.2.1.3.4"
writable = true\nmin = 0\nmax = 1\nmax_step = 1\n"""
    for model in (43, 56):
        with pytest.raises(ConfigError, match="forbids writing"):
            site_with(tmp_path, f"{keys}\n{point % model}")


def test_a_document_only_profile_is_read_only_until_a_person_says_otherwise(tmp_path: Path) -> None:
    keys = f'protocol = "modbus-tcp"\nprofile = "liebert-icom"\n{DEVICE["modbus-tcp"]}'
    assert site_with(tmp_path, keys).writable_points == {}
    opened = site_with(tmp_path, f"{keys}\nwritable_from_document = true")
    assert set(opened.writable_points) == {"d/supply_air_setpoint_c"}


def test_an_engine_without_the_metric_has_no_latency(tmp_path: Path) -> None:
    keys = f'protocol = "prometheus"\nprofile = "tgi"\n{DEVICE["prometheus"]}'
    assert site_with(tmp_path, keys).of_quantity("latency_p95_ms") == ()
    e2e = site_with(tmp_path, keys, '[limits]\nlatency_metric = "e2e"')
    assert len(e2e.of_quantity("latency_p95_ms")) == 1


def test_an_unknown_profile_is_named_with_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'apc-rpdu2'"):
        site_with(tmp_path, f'protocol = "snmp"\nprofile = "apc-rpdu22"\n{DEVICE["snmp"]}')
    with pytest.raises(ProfileError):
        read_profile("nothing-like-it")


@pytest.mark.parametrize("path", sorted(CASES.glob("*.toml")), ids=lambda p: p.stem)
def test_a_case_passes(path: Path) -> None:
    assert run_case(read_case(path)) == []


def test_a_case_that_differs_fails(tmp_path: Path) -> None:
    text = (CASES / "sentry4-fahrenheit.toml").read_text()
    case = tmp_path / "wrong.toml"
    case.write_text(text.replace("value = 21.0", "value = 69.8"))
    assert run_case(read_case(case)) == ["sensor1-1_temperature_c: value is 21.0, not 69.8"]
    case.write_text('profile = "x"\n[oids]\n"1.3.6" = "float:2"\n')
    with pytest.raises(CaseError):
        read_case(case)


def test_the_command_lists_shows_and_tests() -> None:
    runner = CliRunner()
    listed = runner.invoke(profile_command, ["list", "--json"])
    assert listed.exit_code == 0
    assert '"apc-rpdu2"' in listed.stdout
    shown = runner.invoke(profile_command, ["show", "apc-inrow-rc"])
    assert "writable 16..27" in shown.stdout
    assert runner.invoke(profile_command, ["show", "apc-rpdu22"]).exit_code == 2
    tested = runner.invoke(profile_command, ["test", str(CASES)])
    assert tested.exit_code == 0
    assert "cases pass" in tested.stderr
