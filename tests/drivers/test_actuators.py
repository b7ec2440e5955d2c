"""Workload actuators against fake systems: dry run, read, write, read back, and what is refused."""

import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from config.addresses import NamedAddress
from config.loader import load_site
from config.secrets import SecretRef
from control.types import Quality
from drivers.actuator import Actuator
from drivers.contract import NotSent, Permanent, Refused, Transient
from drivers.registry import make_driver
from tests.drivers.http_peer import RouterPeer, reply
from tests.drivers.make import device, point, writable
from tests.drivers.modbus_peer import free_port


@asynccontextmanager
async def driver_of(
    protocol: str, names: Sequence[str], environ: dict[str, str] | None = None, **more: Any
) -> AsyncIterator[Actuator]:
    """Points named after their place: "d/0", "d/1", ..."""
    quantity, high = ("gpu_power_kw", 2.0) if protocol == "nvml" else ("admission_pct", 100.0)
    scale = more.pop("scale", 0.001 if protocol == "nvml" else 1.0)
    points = [
        point(str(i), NamedAddress(name), quantity, scale=scale, writable=writable(0, high))
        for i, name in enumerate(names)
    ]
    more = {"host": "", "dry_run": False, "timeout_s": 5.0, **more}
    made = make_driver(device(points, protocol, **more), environ or {})
    assert isinstance(made, Actuator)
    try:
        yield made
    finally:
        await made.close()


async def values(driver: Actuator) -> list[float | None]:
    return [r.value for r in await driver.read(1.0)]


class EnvoyPeer(RouterPeer):
    """The runtime of an Envoy with an admin layer over a static one."""

    def __init__(self) -> None:
        super().__init__()
        self.runtime = {"llm.pool_a": "60", "llm.pool_b": "40", "other": "on"}

    def _answer(self, method: str, path: str, body: bytes) -> bytes:
        parts = urlsplit(path)
        if (method, parts.path) == ("GET", "/runtime"):
            entries = {
                k: {"layer_values": [v, ""], "final_value": v} for k, v in self.runtime.items()
            }
            return reply({"layers": ["static", "admin"], "entries": entries})
        if (method, parts.path) == ("POST", "/runtime_modify"):
            self.runtime |= dict(parse_qsl(parts.query))
            return reply(b"OK\n")
        return reply(b"no such path", "404 Not Found")


class KubernetesPeer(RouterPeer):
    """An API server with one queue of each kind and one Job; merge patches change their spec."""

    def __init__(self) -> None:
        super().__init__()
        kueue = "/apis/kueue.x-k8s.io/v1beta1"
        self.specs: dict[str, dict[str, Any]] = {
            f"{kueue}/clusterqueues/batch": {"queueingStrategy": "BestEffortFIFO"},
            f"{kueue}/namespaces/ml/localqueues/low": {"stopPolicy": "HoldAndDrain"},
            "/apis/batch/v1/namespaces/ml/jobs/train-7": {"suspend": False, "parallelism": 8},
        }

    def _answer(self, method: str, path: str, body: bytes) -> bytes:
        if self.requests[-1][2].get("authorization") != "Bearer s3cr3t-token":
            return reply({"kind": "Status", "code": 401}, "401 Unauthorized")
        spec = self.specs.get(path)
        if spec is None:
            return reply({"kind": "Status", "code": 404}, "404 Not Found")
        if method == "PATCH":
            assert self.requests[-1][2]["content-type"] == "application/merge-patch+json"
            spec |= json.loads(body)["spec"]
        return reply({"kind": "X", "spec": spec})


KEYS = ("llm.pool_a", "llm.pool_b")
OBJECTS = ("clusterqueue/batch", "localqueue/ml/low", "job/ml/train-7")
TOKEN = {"environ": {"K8S": "s3cr3t-token"}, "token": SecretRef(env="K8S")}


async def test_envoy_weights_are_one_request_and_read_back() -> None:
    async with EnvoyPeer() as peer, driver_of("envoy", KEYS, url=peer.url) as driver:
        assert await values(driver) == [60.0, 40.0]
        await driver.write_raw({"d/0": 25.0, "d/1": 75.0})
        assert peer.runtime["llm.pool_a"] == "25"
        sent = [r[0] for r in peer.requests if r[0].startswith("POST")]
        assert sent == ["POST /runtime_modify?llm.pool_a=25&llm.pool_b=75"]
        present = await driver.present(driver.device.points)
        assert [p.value for p in present.values()] == [25.0, 75.0]
        with pytest.raises(Refused, match="whole number"):
            await driver.write_raw({"d/0": 25.5})
        assert len([r for r in peer.requests if r[0].startswith("POST")]) == 1


async def test_envoy_without_an_admin_layer_and_other_servers_are_told() -> None:
    async with EnvoyPeer() as peer, driver_of("envoy", (*KEYS, "other"), url=peer.url) as driver:
        readings = await driver.read(1.0)
        assert (readings[2].value, readings[2].quality) == (None, Quality.MISSING)
        peer.fault = lambda asked, right: (
            reply(b"No admin layer specified", "503 Service Unavailable")
            if "modify" in asked
            else right
        )
        with pytest.raises(Transient, match="No admin layer"):
            await driver.write_raw({"d/0": 1.0})
        peer.fault = lambda asked, right: reply({"hello": 1})
        with pytest.raises(Transient, match="is this Envoy"):
            await driver.read(1.0)
    url = f"http://127.0.0.1:{free_port()}"
    async with driver_of("envoy", KEYS, url=url) as driver:
        with pytest.raises(NotSent):
            await driver.write_raw({"d/0": 1.0})


async def test_kubernetes_holds_and_admits_and_touches_one_field() -> None:
    async with (
        KubernetesPeer() as peer,
        driver_of("kubernetes", OBJECTS, url=peer.url, **TOKEN) as driver,
    ):
        assert await values(driver) == [100.0, 0.0, 100.0]
        await driver.write_raw({"d/0": 0.0, "d/1": 100.0, "d/2": 0.0})
        assert await values(driver) == [0.0, 100.0, 0.0]
        assert list(peer.specs.values()) == [
            {"queueingStrategy": "BestEffortFIFO", "stopPolicy": "Hold"},
            {"stopPolicy": "None"},
            {"suspend": True, "parallelism": 8},
        ]
        with pytest.raises(Refused, match=r"takes 0 .* or 100"):
            await driver.write_raw({"d/0": 50.0})


async def test_kubernetes_tells_what_is_not_there_and_never_shows_its_token() -> None:
    names = ("clusterqueue/batch", "job/ml/gone")
    async with (
        KubernetesPeer() as peer,
        driver_of("kubernetes", names, url=peer.url, **TOKEN) as driver,
    ):
        there, gone = await driver.read(1.0)
        assert there.value == 100.0
        assert gone.quality is Quality.MISSING
        assert "job/ml/gone" in gone.reason
        with pytest.raises(Transient, match=r"done in part: PATCH .*batch.*404"):
            await driver.write_raw({"d/0": 0.0, "d/1": 0.0})
    wrong = {"environ": {"K8S": "another-secret"}, "token": SecretRef(env="K8S")}
    async with (
        KubernetesPeer() as peer,
        driver_of("kubernetes", names, url=peer.url, **wrong) as driver,
    ):
        with pytest.raises(Permanent, match="check the token") as told:
            await driver.read(1.0)
        assert "another-secret" not in repr(told.value)


@pytest.mark.parametrize(
    "name", ["job/train", "pod/ml/x", "clusterqueue/a/b", "job/ml/../../secrets", "job/ML/x", ""]
)
async def test_a_name_that_is_none_never_reaches_the_cluster(name: str) -> None:
    async with (
        KubernetesPeer() as peer,
        driver_of("kubernetes", (name,), url=peer.url, **TOKEN) as driver,
    ):
        with pytest.raises(Refused, match="is not clusterqueue/NAME"):
            await driver.read(1.0)
        with pytest.raises(Refused, match="is not clusterqueue/NAME"):
            await driver.write_raw({"d/0": 0.0})
        assert peer.requests == []


SCONTROL = """#!{python}
import json, sys
file = {state!r}
state = json.load(open(file))
state["calls"].append(sys.argv[1:])
match sys.argv[1:]:
    case ["show", kind, name, "--oneliner"] if f"{{kind}}:{{name}}" in state:
        about = state[f"{{kind}}:{{name}}"]
        head = {{"job": "JobId", "partition": "PartitionName"}}[kind]
        print(f"{{head}}={{name}} " + " ".join(f"{{k}}={{v}}" for k, v in about.items()) + " X=a b")
    case ["update", name, what]:
        key, value = what.split("=")
        state["partition:" + name.split("=")[1]][key] = value
    case [verb, job] if "job:" + job in state:
        state["job:" + job] |= {{"hold": {{"Priority": "0"}}, "release": {{"Priority": "99"}},
            "suspend": {{"JobState": "SUSPENDED"}}, "resume": {{"JobState": "RUNNING"}}}}[verb]
    case _:
        sys.exit("slurm_load_jobs error: Invalid job id specified")
json.dump(state, open(file, "w"))
"""


class Slurm:
    """A scontrol that keeps its state in a file."""

    def __init__(self, folder: Path) -> None:
        self.file, self.program = folder / "state.json", folder / "scontrol"
        self.file.write_text(json.dumps({
            "calls": [], "job:7": {"JobState": "RUNNING", "Priority": "4294"},
            "job:8": {"JobState": "PENDING", "Priority": "12"},
            "job:9": {"JobState": "COMPLETED", "Priority": "12"},
            "partition:low": {"State": "UP"},
        }))  # fmt: skip
        self.program.write_text(SCONTROL.format(python=sys.executable, state=str(self.file)))
        self.program.chmod(0o755)

    @property
    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.file.read_text())
        return found

    @property
    def changes(self) -> list[list[str]]:
        return [c for c in self.state["calls"] if c[0] != "show"]


TARGETS = ("job:7", "job:8", "job:9", "partition:low")


async def test_slurm_suspends_what_runs_and_holds_what_waits(tmp_path: Path) -> None:
    slurm = Slurm(tmp_path)
    async with driver_of("slurm", TARGETS, program=str(slurm.program)) as driver:
        assert await values(driver) == [100.0, 100.0, None, 100.0]
        await driver.write_raw({"d/0": 0.0, "d/1": 0.0, "d/3": 0.0})
        wanted = [["suspend", "7"], ["hold", "8"], ["update", "PartitionName=low", "State=DOWN"]]
        assert slurm.changes == wanted
        assert await values(driver) == [0.0, 0.0, None, 0.0]
        await driver.write_raw({"d/0": 100.0, "d/1": 100.0, "d/3": 100.0})
        assert slurm.changes[3:] == [
            ["resume", "7"], ["release", "8"], ["update", "PartitionName=low", "State=UP"],
        ]  # fmt: skip
        await driver.write_raw({"d/0": 100.0})  # as it is already: nothing to do
        assert len(slurm.changes) == 6
        with pytest.raises(Refused, match="COMPLETED"):
            await driver.write_raw({"d/2": 0.0})


async def test_slurm_failures_are_told_apart(tmp_path: Path) -> None:
    slurm = Slurm(tmp_path)
    async with driver_of("slurm", ("job:7",), program=str(tmp_path / "none")) as driver:
        with pytest.raises(Transient, match="is Slurm's client installed"):
            await driver.read(1.0)
    async with driver_of("slurm", ("partition:low",), program=str(tmp_path / "none")) as driver:
        with pytest.raises(NotSent):
            await driver.write_raw({"d/0": 0.0})
    async with driver_of("slurm", ("job:5",), program=str(slurm.program)) as driver:
        (lost,) = await driver.read(1.0)
        assert lost.quality is Quality.MISSING
        assert "Invalid job id" in lost.reason
    for name in ("job:7;reboot", "partition:-x", "job:all"):
        async with driver_of("slurm", (name,), program=str(slurm.program)) as driver:
            with pytest.raises(Refused, match="is not job:ID"):
                await driver.write_raw({"d/0": 0.0})
    slurm.program.write_text("#!/bin/sh\nsleep 30\n")
    async with driver_of("slurm", ("job:7",), program=str(slurm.program), timeout_s=0.2) as driver:
        with pytest.raises(Transient, match="no end within"):
            await driver.read(1.0)


def fake_nvml() -> Any:
    """Two boards of 200..700 W; the second one's fabric never allows more than 500 W."""
    nvml: Any = ModuleType("pynvml")
    nvml.NVMLError = type("NVMLError", (Exception,), {})
    for name in ("NVMLError_NoPermission", "NVMLError_NotSupported"):
        setattr(nvml, name, type(name, (nvml.NVMLError,), {}))
    nvml.limits = {"0": 700_000, "GPU-1": 700_000}
    nvml.root = True

    def handle(index: object) -> str:
        if str(index) not in nvml.limits:
            raise nvml.NVMLError("Not Found")
        return str(index)

    def set_limit(gpu: str, limit_mw: int) -> None:
        if not nvml.root:
            raise nvml.NVMLError_NoPermission("Insufficient Permissions")
        nvml.limits[gpu] = limit_mw

    nvml.nvmlInit = nvml.nvmlShutdown = lambda: None
    nvml.nvmlDeviceGetHandleByIndex = nvml.nvmlDeviceGetHandleByUUID = handle
    nvml.nvmlDeviceGetPowerManagementLimitConstraints = lambda _gpu: [200_000, 700_000]
    nvml.nvmlDeviceSetPowerManagementLimit = set_limit
    nvml.nvmlDeviceGetEnforcedPowerLimit = lambda gpu: min(
        nvml.limits[gpu], 500_000 if gpu == "GPU-1" else 700_000
    )
    return nvml


async def test_nvml_reads_back_the_enforced_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = fake_nvml()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    async with driver_of("nvml", ("0", "GPU-1", "9")) as driver:
        assert await values(driver) == [pytest.approx(0.7), pytest.approx(0.5), None]
        await driver.write_raw({"d/0": 0.45, "d/1": 0.6})
        present = await driver.present(driver.device.points[:2])
        assert [p.value for p in present.values()] == pytest.approx(
            [0.45, 0.5]
        )  # the second took less: told
        for limit_kw in (0.199, 0.701):
            with pytest.raises(Refused, match=r"outside the board's 200\.\.700 W"):
                await driver.write_raw({"d/0": limit_kw})
        nvml.root = False
        with pytest.raises(Refused, match="Insufficient Permissions"):
            await driver.write_raw({"d/0": 0.3})
        assert nvml.limits == {"0": 450_000, "GPU-1": 600_000}


async def test_nvml_without_its_binding_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    async with driver_of("nvml", ("0",)) as driver:
        with pytest.raises(Permanent, match="pip install nvidia-ml-py"):
            await driver.connect()


async def test_a_dry_run_sends_nothing_and_says_what_it_would_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml, slurm = fake_nvml(), Slurm(tmp_path)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    async with EnvoyPeer() as envoy, KubernetesPeer() as cluster:
        cases: list[tuple[str, str, float, str, dict[str, Any]]] = [
            ("envoy", "llm.pool_a", 5.0, r"runtime_modify\?llm.pool_a=5", {"url": envoy.url}),
            ("kubernetes", "job/ml/train-7", 0.0, "suspend = True", {"url": cluster.url, **TOKEN}),
            ("slurm", "job:7", 0.0, "hold or suspend 7", {"program": str(slurm.program)}),
            ("nvml", "0", 0.3, "GPU 0 to 300 W", {}),
        ]
        for protocol, name, value, told, more in cases:
            async with driver_of(protocol, (name,), dry_run=True, **more) as driver:
                with pytest.raises(Refused, match=f"dry_run: would do: .*{told}"):
                    await driver.write_raw({"d/0": value})
        assert envoy.requests == cluster.requests == slurm.changes == []
    assert nvml.limits == {"0": 700_000, "GPU-1": 700_000}


def test_nothing_is_armed_by_default(tmp_path: Path) -> None:
    file = tmp_path / "site.toml"
    point = '  [[device.point]]\n  id = "a"\n  quantity = "traffic_share_pct"\n  name = "k"\n  row = "A"\n'
    file.write_text(
        'config_version = 1\n[site]\nid = "t"\n[[row]]\nid = "A"\nracks = ["A01"]\n'
        f'[[device]]\nid = "e"\nprotocol = "envoy"\nurl = "http://10.0.0.1:9901"\n{point}'
        '[[device]]\nid = "r"\nprotocol = "workload-http"\nurl = "http://10.0.0.1:8800"\n'
    )
    envoy, own_router = load_site(file, {}).devices
    assert envoy.dry_run
    assert (
        not own_router.dry_run
    )  # it is Skadi's own contract: modes, arming and commissioning hold it
