"""`skadi scan snmp` end to end against devices in the test: TOML out, and the site reads it."""

import asyncio
import threading
import tomllib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from agent.cli.scan_snmp import COMMUNITY, snmp
from agent.scan.snmp import Walker
from agent.scan.toml import Entry, site_file, toml
from config.loader import load_site
from control.types import Quality, Reading
from drivers.snmp import SnmpDriver
from drivers.snmp_session import Community, Session
from tests.drivers.snmp_peer import Request, num, oid_body, reply, serve, tlv
from tests.profiles.recording import Recording

SYS_DESCR, SYS_OBJECT_ID, SYS_NAME = (f"1.3.6.1.2.1.1.{n}.0" for n in (1, 2, 5))
SENTRY = "1.3.6.1.4.1.1718.4.1"


def sysoid(oid: str) -> bytes:
    return tlv(6, oid_body(oid))


def sentry4(scale: int = 0, temperature: int = 235) -> dict[str, bytes]:
    return {
        SYS_DESCR: tlv(4, b"Sentry Smart PDU"), SYS_OBJECT_ID: sysoid("1.3.6.1.4.1.1718.4"),
        SYS_NAME: tlv(4, b"pdu a/1"), f"{SENTRY}.3.2.1.3.1.1": tlv(4, b'Cord "A"\n\x1b[31m = [x]'),
        f"{SENTRY}.3.3.1.3.1.1": num(1701), f"{SENTRY}.9.1.10.0": num(scale),
        f"{SENTRY}.9.3.1.1.1.1": num(temperature), f"{SENTRY}.9.3.1.1.1.2": num(-410),
    }  # fmt: skip


@contextmanager
def running(agent: Recording) -> Iterator[Recording]:
    """Serve an agent from a thread, so that a command may run its own loop."""
    ready, stop = threading.Event(), threading.Event()

    async def main() -> None:
        async with serve(agent):
            ready.set()
            while not stop.is_set():  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    assert ready.wait(10)
    try:
        yield agent
    finally:
        stop.set()
        thread.join()


def scan(*args: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(snmp, [*args, "--timeout", "0.3"])
    return result.exit_code, result.stdout, result.stderr


def loaded(text: str, folder: Path) -> SnmpDriver:
    file = folder / "site.toml"
    file.write_text(text)
    site = load_site(file, {COMMUNITY: "public"})
    return SnmpDriver(site.devices[0], {COMMUNITY: "public"})


@asynccontextmanager
async def reading(driver: SnmpDriver) -> AsyncIterator[dict[str, Reading]]:
    readings = await driver.read(1.0)
    yield {r.point.partition("/")[2]: r for r in readings}
    await driver.close()


def test_stdout_is_a_site_file_without_a_secret(tmp_path: Path) -> None:
    with running(Recording(sentry4())) as agent:
        code, out, err = scan(f"127.0.0.1:{agent.port}", "--community", "public")
        assert code == 0, err
        device = tomllib.loads(out)["device"][0]
        assert device["profile"] == "servertech-sentry4"
        assert device["auth"]["community"] == {"env": COMMUNITY}
        assert "public" not in out
        assert COMMUNITY in err
        driver = loaded(out, tmp_path)

        async def read() -> None:
            async with reading(driver) as values:
                assert values["cord1-1_power_kw"].value == pytest.approx(1.701)
                assert values["sensor1-1_temperature_c"].value == 23.5
                assert len(values) == 2  # the probe that is not fitted is left out

        asyncio.run(read())
        assert "1 left out: -410" in err


def test_a_rack_is_set_once_for_all_points(tmp_path: Path) -> None:
    where = tlv(4, b"Hall A\nrack = 'B7'")
    with running(Recording(sentry4() | {"1.3.6.1.2.1.1.6.0": where})) as agent:
        target = f"127.0.0.1:{agent.port}"
        code, out, _ = scan(target, "--community", "public")
        assert code == 0
        assert '# rack = "A01"  # set rack and row once' in out
        assert "Hall A rack = 'B7'" in out
        assert "rack" not in tomllib.loads(out)["device"][0]
        code, out, _ = scan(target, "--community", "public", "--rack", "A07", "--row", "A")
        assert code == 0
        device = loaded(out, tmp_path).device
        assert {(p.rack, p.row) for p in device.points} == {("A07", "A")}
        code, _, err = scan(target, target, "--community", "public", "--rack", "A07")
        assert code == 2
        assert "one target" in err


def test_a_changed_unit_makes_the_value_bad_not_wrong(tmp_path: Path) -> None:
    agent = Recording(sentry4())
    with running(agent):
        _, out, _ = scan(f"127.0.0.1:{agent.port}", "--community", "public")
        agent.values |= sentry4(scale=1, temperature=743)  # somebody switches it to Fahrenheit
        driver = loaded(out, tmp_path)

        async def read() -> None:
            async with reading(driver) as values:
                changed = values["sensor1-1_temperature_c"]
                assert (changed.value, changed.quality) == (None, Quality.BAD)
                assert "scan it again" in changed.reason
                assert values["cord1-1_power_kw"].value is not None

        asyncio.run(read())


def test_several_devices_get_names_of_their_own(tmp_path: Path) -> None:
    with running(Recording(sentry4())) as one, running(Recording(sentry4())) as two:
        places = [f"127.0.0.1:{one.port}", f"127.0.0.1:{two.port}"]
        code, out, err = scan(*places, "--community", "public")
        assert code == 0, err
        devices = tomllib.loads(out)["device"]
        assert [d["id"] for d in devices] == ["pdu-a-1", "pdu-a-1-2"]
        loaded(out, tmp_path)


def test_a_silent_target_is_75_and_the_others_are_still_written() -> None:
    with running(Recording(sentry4())) as agent, running(Recording({}, community=b"x")) as mute:
        code, out, err = scan(
            f"127.0.0.1:{mute.port}", f"127.0.0.1:{agent.port}", "--community", "public"
        )
        assert code == 75
        assert len(tomllib.loads(out)["device"]) == 1
        assert f"127.0.0.1:{mute.port}" in err


def test_nothing_answers_nothing_is_printed() -> None:
    with running(Recording({}, community=b"x")) as mute:
        code, out, err = scan(f"127.0.0.1:{mute.port}", "--community", "wrong")
    assert (code, out) == (75, "")
    assert "community" in err


def test_an_unknown_device_is_said_to_be_unknown_and_nothing_is_invented(tmp_path: Path) -> None:
    values = {
        SYS_DESCR: tlv(4, b"Frobnicator 9"), SYS_OBJECT_ID: sysoid("1.3.6.1.4.1.99999.3"),
        "1.3.6.1.2.1.1.3.0": tlv(0x43, b"\x10"), "1.3.6.1.2.1.25.3.3.1.2.1": num(17),
        "1.3.6.1.4.1.99999.3.1.1.2.1": tlv(4, b"Inlet\nid = 'x'"),
        "1.3.6.1.4.1.99999.3.1.1.3.1": num(2315),
    }  # fmt: skip
    with running(Recording(values)) as agent:
        code, out, err = scan(f"127.0.0.1:{agent.port}", "--community", "public")
        assert code == 0
        assert "unknown device" in err
        assert "Frobnicator" in err
        (device,) = tomllib.loads(out)["device"]
        assert "profile" not in device
        assert [p["quantity"] for p in device["point"]] == ["state"]
        assert "# candidate: 1.3.6.1.4.1.99999.3.1.1.3.1 = 2315" in out
        assert "hrProcessorLoad" in out
        loaded(out, tmp_path)


def test_an_agent_that_bears_its_softwares_name_still_shows_the_devices_numbers() -> None:
    values = {
        SYS_DESCR: tlv(4, b"Linux am335x"), SYS_OBJECT_ID: sysoid("1.3.6.1.4.1.2021.250.10"),
        SYS_NAME: tlv(4, b"dcs"), "1.3.6.1.4.1.99999.1.1.7": num(215),
    }  # fmt: skip
    with running(Recording(values)) as agent:
        done = CliRunner().invoke(snmp, [f"127.0.0.1:{agent.port}", "--community", "public"])
    assert "# candidate: 1.3.6.1.4.1.99999.1.1.7 = 215" in done.stdout
    assert "unknown device" in done.stderr


def test_a_model_nobody_has_named_is_read_by_its_vendors_tables(tmp_path: Path) -> None:
    values = {**sentry4(), SYS_OBJECT_ID: sysoid("1.3.6.1.4.1.1718.77.3")}
    with running(Recording(values)) as agent:
        done = CliRunner().invoke(snmp, [f"127.0.0.1:{agent.port}", "--community", "public"])
    (device,) = tomllib.loads(done.stdout)["device"]
    assert device["profile"] == "servertech-sentry4"
    assert {p["oid"] for p in device["point"]} >= {f"{SENTRY}.3.3.1.3.1.1", f"{SENTRY}.9.3.1.1.1.1"}
    assert "none that the profile names" in done.stderr
    more = {"1.3.6.1.4.1.1718.3.2.2.1.7.1.1": num(362), "1.3.6.1.2.1.33.1.4.4.1.2.1": num(231)}
    with running(Recording(values | more)) as agent:  # two families and a standard MIB: all of it
        done = CliRunner().invoke(snmp, [f"127.0.0.1:{agent.port}", "--community", "public"])
    (device,) = tomllib.loads(done.stdout)["device"]
    assert device["profile"] == "servertech-sentry4"
    ids = {p["id"] for p in device["point"]}
    assert {"cord1-1_power_kw", "infeed1-1_current_a", "ups_output1_voltage_v"} <= ids
    other = {**sentry4(), SYS_OBJECT_ID: sysoid("1.3.6.1.4.1.99999.1")}  # another vendor: nothing
    with running(Recording(other)) as agent:
        done = CliRunner().invoke(snmp, [f"127.0.0.1:{agent.port}", "--community", "public"])
    (device,) = tomllib.loads(done.stdout)["device"]
    assert "profile" not in device
    assert "unknown device" in done.stderr


@pytest.mark.parametrize("said", ["1.3.6.1.4.1.8072.3.2.10", None])
def test_an_agent_with_its_softwares_number_is_known_by_the_tables_it_has(said: str | None) -> None:
    values = {**sentry4(), "1.3.6.1.4.1.2021.4.3.0": num(7), "1.3.6.1.4.1.8072.1.1.0": num(7)}
    del values[SYS_OBJECT_ID]
    if said:
        values[SYS_OBJECT_ID] = sysoid(said)
    with running(Recording(values)) as agent:
        code, out, err = scan(f"127.0.0.1:{agent.port}", "--community", "public")
    assert code == 0, err
    (device,) = tomllib.loads(out)["device"]
    assert device["profile"] == "servertech-sentry4"
    assert "none that the profile names" in err


def test_an_unknown_device_with_a_standard_mib_is_said_to_be_confirmed(tmp_path: Path) -> None:
    values = {
        SYS_OBJECT_ID: sysoid("1.3.6.1.4.1.99999.4"), "1.3.6.1.2.1.33.1.4.4.1.2.1": num(231),
        "1.3.6.1.2.1.33.1.4.4.1.3.1": num(105),
    }  # fmt: skip
    with running(Recording(values)) as agent:
        code, out, err = scan(f"127.0.0.1:{agent.port}", "--community", "public")
        assert code == 0
        assert "unknown device" in err
        assert "confirm" in err
        (device,) = tomllib.loads(out)["device"]
        assert {p["id"] for p in device["point"]} == {
            "ups_output1_voltage_v",
            "ups_output1_current_a",
        }
        loaded(out, tmp_path)


def test_v1_devices_are_scanned_with_getnext(tmp_path: Path) -> None:
    def v1(agent: Recording, request: Request) -> list[bytes]:
        missing = [i for i, o in enumerate(request.oids, 1) if o not in agent.values]
        if request.kind == 0xA0 and missing:
            return [
                reply(request, [(o, tlv(5, b"")) for o in request.oids], error=2, index=missing[0])
            ]
        if request.kind == 0xA1 and not [o for _, o in agent.order if o > request.oids[0]]:
            return [reply(request, [(request.oids[0], tlv(5, b""))], error=2, index=1)]
        return agent.proper(request)

    values = sentry4()
    del values[SYS_NAME]
    with running(Recording(values, fault=v1)) as agent:  # type: ignore[arg-type]
        code, out, err = scan(f"127.0.0.1:{agent.port}", "--community", "public", "--v1")
        assert code == 0, err
        (device,) = tomllib.loads(out)["device"]
        assert device["auth"]["version"] == "1"
        assert len(device["point"]) == 2
        assert {r.kind for r in agent.requests} == {0xA0, 0xA1}


async def walked(agent: Recording, column: str = "1.3.6.1.4.1.9") -> list[int]:
    async with serve(agent):
        session = Session("127.0.0.1", agent.port, Community(1, b"public"), 0.2)
        rows = await Walker(session).column(column)
        session.close()
    return [index[-1] for index in rows]


async def test_a_device_that_goes_in_circles_is_left() -> None:
    agent = Recording({f"1.3.6.1.4.1.9.{i}": num(i) for i in range(1, 4)})
    first = [("1.3.6.1.4.1.9.1", num(1)), ("1.3.6.1.4.1.9.2", num(2)), ("1.3.6.1.4.1.9.1", num(1))]
    agent.fault = lambda a, r: [reply(r, first)]
    assert await walked(agent) == [1, 2]


async def test_walks_shrink_for_a_device_that_bears_little() -> None:
    agent = Recording({f"1.3.6.1.4.1.9.{i}": num(i) for i in range(1, 31)})
    agent.fault = lambda a, r: a.proper(r) if r.second <= 5 else []
    assert await walked(agent) == list(range(1, 31))
    agent = Recording({f"1.3.6.1.4.1.9.{i}": num(i) for i in range(1, 31)})
    agent.fault = lambda a, r: a.proper(r) if r.second <= 5 else [reply(r, [], error=1)]
    assert await walked(agent) == list(range(1, 31))


@pytest.mark.parametrize("target", ["", "a b", "host:0", "host:99999", "[::1", "http://x"])
def test_a_target_that_is_none_is_a_usage_error(target: str) -> None:
    code, out, err = scan(target, "--community", "public")
    assert (code, out) == (2, "")
    assert "is not like" in err


def test_without_credentials_it_asks_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(COMMUNITY, raising=False)
    code, _, err = scan("127.0.0.1")
    assert code == 2
    assert "--community" in err


@given(st.text() | st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.booleans())
def test_any_value_survives_toml(value: object) -> None:
    assert tomllib.loads(f"x = {toml(value)}")["x"] == value


@given(st.text(max_size=40), st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3))
def test_whatever_a_device_says_it_stays_toml(text: str, more: dict[str, str]) -> None:
    entry = Entry((("id", text), ("auth", more)), notes=(text,), candidates=(text,))
    (device,) = tomllib.loads(site_file([entry]))["device"]
    assert device == {"id": text, "auth": more}
