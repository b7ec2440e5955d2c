"""Discovery on real networks: namespaces, a router with a device on it, and a second subnet.

agent 10.77.1.2 -- 10.77.1.1 router, device 11, 10.77.2.1 -- 10.77.2.2 BBMD, device 22
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

pytestmark = pytest.mark.peer
ROOT = Path(__file__).parents[2]
PEERS = Path(__file__).parent / "peers"


class Networks:
    """Namespaces with a name of their own, so that tests may run beside each other."""

    def __init__(self, ip: str) -> None:
        self._ip = ip
        self._tag = f"sk{os.getpid()}"
        self._made: list[str] = []

    def ip(self, *args: str) -> None:
        subprocess.run([self._ip, *args], check=True, capture_output=True)

    def name(self, short: str) -> str:
        return f"{self._tag}-{short}"

    def add(self, short: str) -> str:
        self.ip("netns", "add", self.name(short))
        self._made.append(self.name(short))
        self.ip("-n", self.name(short), "link", "set", "lo", "up")
        return self.name(short)

    def cable(self, left: str, a: str, right: str, b: str) -> None:
        self.ip("-n", self.name(left), "link", "add", a, "type", "veth", "peer", "name", b,
                "netns", self.name(right))  # fmt: skip
        for where, link in ((left, a), (right, b)):
            self.ip("-n", self.name(where), "link", "set", link, "up")

    def address(self, short: str, link: str, address: str) -> None:
        # brd +: without it a device's broadcast would not be the subnet's
        self.ip("-n", self.name(short), "addr", "add", address, "brd", "+", "dev", link)

    def remove(self) -> None:
        for name in self._made:
            subprocess.run([self._ip, "netns", "del", name], check=False, capture_output=True)

    def command(self, short: str, script: str, *args: str) -> list[str]:
        return [self._ip, "netns", "exec", self.name(short), sys.executable,
                str(PEERS / script), *args]  # fmt: skip


@contextmanager
def two_subnets(ip: str) -> Iterator[Networks]:
    net = Networks(ip)
    try:
        for short in ("agent", "router", "far"):
            try:
                net.add(short)
            except subprocess.CalledProcessError as error:
                if os.environ.get("SKADI_REQUIRE_PEERS") == "1":
                    raise
                pytest.skip(f"no network namespaces here: {error.stderr.decode().strip()}")
        net.cable("agent", "eth0", "router", "near0")
        net.cable("far", "eth0", "router", "far0")
        for short, link, address in (
            ("agent", "eth0", "10.77.1.2/24"), ("router", "near0", "10.77.1.1/24"),
            ("router", "far0", "10.77.2.1/24"), ("far", "eth0", "10.77.2.2/24"),
        ):  # fmt: skip
            net.address(short, link, address)
        for short, via in (("agent", "10.77.1.1"), ("far", "10.77.2.1")):
            net.ip("-n", net.name(short), "route", "add", "default", "via", via)
        subprocess.run(
            [ip, "netns", "exec", net.name("router"), "sh", "-c",
             "echo 1 > /proc/sys/net/ipv4/ip_forward"], check=True,
        )  # fmt: skip
        yield net
    finally:
        net.remove()


@pytest.fixture(scope="module")
def hall() -> Iterator[Callable[..., list[list[object]]]]:
    """Devices 11 (this subnet) and 22 (behind the router, with a BBMD); call it to discover."""
    from tests.peers import peer

    with two_subnets(peer("ip")) as net, ExitStack() as stack:
        for args in (("router", "11", "10.77.1.1", "10.77.1.255"),
                     ("far", "22", "10.77.2.2", "10.77.2.255", "bbmd")):  # fmt: skip
            process = stack.enter_context(
                subprocess.Popen(
                    net.command(args[0], "bacnet_host.py", *args[1:]), stdout=subprocess.PIPE
                )
            )
            stack.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"

        def discover(target: str = "-", bbmd: str = "-") -> list[list[object]]:
            done = subprocess.run(
                net.command("agent", "bacnet_seeker.py", "10.77.1.2", target, bbmd),
                env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
                check=False, timeout=60,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            assert done.stderr == ""
            found: list[list[object]] = json.loads(done.stdout)
            return found

        yield discover


Discover = Callable[..., list[list[dict[str, object]]]]


def instances(found: list[list[dict[str, object]]]) -> list[object]:
    return [device["instance"] for device, _ in found]  # type: ignore[index]


def test_broadcast_finds_the_subnet_and_no_further(hall: Discover) -> None:
    found = hall()
    assert instances(found) == [11]
    device, objects = found[0]
    assert device["address"] == "10.77.1.1"  # type: ignore[index]
    named = {o["name"]: o for o in objects}  # type: ignore[index,union-attr]
    assert named["outdoor"]["value"] == 12.5
    assert named["outdoor"]["units"] == 62
    assert named["setpoint"]["commandable"]
    assert not named["outdoor"]["commandable"]
    assert named["leak"]["type"] == "binary-input"


def test_directed_reaches_beyond_the_router(hall: Discover) -> None:
    assert instances(hall("10.77.2.2")) == [22]
    assert instances(hall("10.77.1.1")) == [11]


def test_a_foreign_device_takes_part_in_the_broadcasts_of_its_bbmd(hall: Discover) -> None:
    assert instances(hall(bbmd="10.77.2.2")) == [22]


def test_nobody_there_is_nothing_found(hall: Discover) -> None:
    assert hall("10.77.1.99") == []
