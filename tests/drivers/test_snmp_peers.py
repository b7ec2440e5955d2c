"""SNMP against net-snmp's snmpd: v2c and v3, reading, writing, and what it refuses."""

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from agent.cli.scan_snmp import AUTH, PRIV, snmp
from config.addresses import SnmpAddress
from config.schema import AuthSection
from config.secrets import SecretRef
from config.site import Device
from drivers.contract import DriverError, Permanent, Refused, Transient
from drivers.snmp import SnmpDriver
from tests.drivers import make
from tests.peers import free_port, peer

LOCATION = (1, 3, 6, 1, 2, 1, 1, 6, 0)
SERVICES = (1, 3, 6, 1, 2, 1, 1, 7, 0)
UPTIME = (1, 3, 6, 1, 2, 1, 1, 3, 0)
AUTHEN_TRAPS = (1, 3, 6, 1, 2, 1, 11, 30, 0)  # snmpEnableAuthenTraps: writable, 1 or 2
ENV = {
    "RO": "public",
    "RW": "private",
    "AUTH": "sign-here-12",
    "PRIV": "hide-here-12",
    "BAD": "x" * 12,
}
USERS = {"sha1": "SHA", "sha256": "SHA-256", "sha512": "SHA-512", "md5": "MD5"}
CIPHERS = {
    "des": "DES",
    "aes192": "AES192",
    "aes256": "AES256",
    "aes192c": "AES192C",
    "aes256c": "AES256C",
}

pytestmark = pytest.mark.peer


@pytest.fixture(scope="module")
def snmpd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    program = peer("snmpd")
    folder = tmp_path_factory.mktemp("snmpd")
    port = free_port(kind=socket.SOCK_DGRAM)
    lines = [f"agentaddress udp:127.0.0.1:{port}", "rocommunity public", "rwcommunity private",
             "sysServices 72", "createUser open", "rouser open noauth"]  # fmt: skip
    for name, spelled in USERS.items():
        lines += [f"createUser u-{name} {spelled} sign-here-12 AES hide-here-12",
                  f"rwuser u-{name} authpriv",
                  f"createUser s-{name} {spelled} sign-here-12", f"rouser s-{name} auth"]  # fmt: skip
    for name, spelled in CIPHERS.items():
        lines += [f"createUser p-{name} SHA sign-here-12 {spelled} hide-here-12",
                  f"rouser p-{name} authpriv"]  # fmt: skip
    (folder / "snmpd.conf").write_text("\n".join(lines) + "\n")
    process = subprocess.Popen(
        [program, "-C", "-c", str(folder / "snmpd.conf"), "-f", "-Lf", str(folder / "log"),
         "-p", str(folder / "pid")],
        env={"SNMP_PERSISTENT_DIR": str(folder), "PATH": "/usr/sbin:/usr/bin"},
    )  # fmt: skip
    try:
        for _ in range(100):
            if Path(folder / "log").exists() and "NET-SNMP version" in (folder / "log").read_text():
                break
            try:
                process.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
        assert process.poll() is None, (folder / "log").read_text()
        yield port
    finally:
        process.terminate()
        process.wait(10)


def device(port: int, auth: AuthSection) -> Device:
    points = [
        make.point("services", SnmpAddress(SERVICES)),
        make.point("uptime", SnmpAddress(UPTIME)),
        make.point("nothing", SnmpAddress((1, 3, 6, 1, 4, 1, 99999, 1, 0))),
        make.point("location", SnmpAddress(LOCATION)),
        make.point("traps", SnmpAddress(AUTHEN_TRAPS), writable=make.writable(1, 2)),
    ]
    return make.device(points, "snmp", port=port, auth=auth, timeout_s=1.0)


def v3(
    user: str, auth: str | None = "AUTH", priv: str | None = "PRIV", **more: object
) -> AuthSection:
    return AuthSection(
        version="3", user=user,
        auth_password=SecretRef(env=auth) if auth else None,
        priv_password=SecretRef(env=priv) if priv else None,
        **more,
    )  # fmt: skip


AUTHS = {
    "v2c": AuthSection(community=SecretRef(env="RO")),
    "v3 noAuthNoPriv": v3("open", None, None),
    **{f"v3 {n} AES": v3(f"u-{n}", auth_protocol=n) for n in USERS},
    "v1": AuthSection(version="1", community=SecretRef(env="RO")),
    **{f"v3 {n}": v3(f"p-{n}", auth_protocol="sha1", priv_protocol=n) for n in CIPHERS},
    **{f"v3 {n} authNoPriv": v3(f"s-{n}", priv=None, auth_protocol=n) for n in USERS},
}


@pytest.mark.parametrize("name", AUTHS)
async def test_it_reads_what_snmpd_holds(snmpd: int, name: str) -> None:
    driver = SnmpDriver(device(snmpd, AUTHS[name]), ENV)
    services, uptime, nothing, location, traps = await driver.read(0.0)
    assert services.value == 72
    assert uptime.value is not None
    assert (nothing.value, nothing.quality) == (None, "missing")
    assert (location.value, location.quality) == (None, "bad")
    assert traps.value in (1, 2)
    again = await driver.read(1.0)
    assert again[1].value is not None
    assert again[1].value >= uptime.value
    await driver.close()


@pytest.mark.parametrize("auth", [AuthSection(community=SecretRef(env="RW")), v3("u-sha256")])
async def test_it_writes_and_reads_back(snmpd: int, auth: AuthSection) -> None:
    driver = SnmpDriver(device(snmpd, auth), ENV)
    traps = driver.device.points[4]
    for value in (1.0, 2.0, 1.0):
        await driver.write_raw({traps.key: value})
        assert (await driver.present([traps]))[traps.key].value == value
    with pytest.raises(Refused):
        await driver.write_raw({traps.key: 7.0})
    await driver.close()


async def test_a_reader_can_not_write(snmpd: int) -> None:
    driver = SnmpDriver(device(snmpd, AUTHS["v2c"]), ENV)
    with pytest.raises(Refused):
        await driver.write_raw({driver.device.points[4].key: 1.0})
    await driver.close()


@pytest.mark.parametrize(
    ("auth", "error", "text"),
    [
        (AuthSection(community=SecretRef(env="BAD")), Transient, "community"),
        (v3("nobody"), Permanent, "user"),
        (v3("u-sha256", auth="BAD"), Permanent, "auth_password"),
        (v3("u-sha256", auth_protocol="sha1"), Permanent, "auth_password"),
        (v3("s-sha256"), Permanent, "security level"),
    ],
)
async def test_wrong_credentials_are_named(
    snmpd: int, auth: AuthSection, error: type[DriverError], text: str
) -> None:
    driver = SnmpDriver(device(snmpd, auth), ENV)
    with pytest.raises(error, match=text) as caught:
        await driver.read(0.0)
    assert all(secret not in str(caught.value) for secret in ENV.values())
    await driver.close()


@pytest.mark.parametrize(("password", "code", "said"), [
    ("sign-here-12", 0, "0 points"), ("x" * 12, 75, "check auth_password"),
])  # fmt: skip
def test_scan_as_a_v3_user(snmpd: int, password: str, code: int, said: str) -> None:
    runner = CliRunner(env={AUTH: password, PRIV: "hide-here-12"})
    result = runner.invoke(snmp, [f"127.0.0.1:{snmpd}", "--user", "u-sha256"])
    assert result.exit_code == code, result.stderr
    assert f"127.0.0.1:{snmpd}: " in result.stderr
    assert said in result.stderr
    assert ("[[device]]" in result.stdout) is (code == 0)
    assert password not in result.output
