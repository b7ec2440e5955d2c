"""What polling costs: the whole agent beside its peers, in one run and one table.

    .venv/bin/python benchmarks/polling.py [--devices 50] [--registers 100] [--seconds 30]
                                           [--thingsboard PYTHON | --no-thingsboard] [--json FILE]

Simulated Modbus devices, one broker (mosquitto) and one counting subscriber are the same for
all. Each subject is a process of its own: once a second, then as fast as it can. Counted are the
points that arrive at the subscriber with a value, and the CPU time (user and system) the
subject took meanwhile.

    bare         a loop of pymodbus reads, JSON and paho publishes; nothing else
    skadi        the whole agent: poll, check, scale, state, IMS on a trained model, alarms, and
                 MQTT with unit, quality and time for each point; history off
    + history    the same with its history in SQLite, which is the default
    thingsboard  ThingsBoard's IoT gateway (PyPI), installed into an environment of its own, or
                 PYTHON's; left out, and said so, where that can't be done
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import paho.mqtt.client as mqtt
import polling_peers
import psutil

HERE = Path(__file__).parent
PARTS = str(HERE / "polling_parts.py")
SKADI = str(Path(sys.executable).parent / "skadi")
RPC = "v1/devices/me/rpc/request/"
SATURATED_S = 0.005  # a period nobody can keep
WARM_UP_S = 10.0  # imports, the first cycles of every job
KINDS = ("inlet_c", "outlet_c", "pdu_kw", "gpu_power_kw")
GOALS = {"cpu_s_per_million": 15.0, "rss_mb": 100.0, "delivered_pct": 99.5, "saturated_ratio": 1.5,
         "start_cpu_s": 1.5}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Result:
    """What one subject did in the counted window."""

    subject: str
    period_s: float
    points: int
    points_per_s: float
    delivered_pct: float
    cpu_s_per_million: float
    cpu_pct: float
    rss_mb: float
    start_cpu_s: float


class Counter:
    """An MQTT subscriber that counts points with a value."""

    def __init__(self, port: int) -> None:
        self.points = 0
        self.first = threading.Event()
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        self._client.on_connect = lambda c, *_: c.subscribe("#")
        self._client.on_message = self._count
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def _count(self, _client: object, _data: object, message: mqtt.MQTTMessage) -> None:
        if message.topic.startswith("bare/"):
            self.points += message.payload.count(b'"p') - 1  # minus "points"
        elif message.topic == "v1/gateway/telemetry":
            self.points += message.payload.count(b'"p')
        elif message.topic.startswith(RPC):  # the gateway asks the platform for its limits
            number, limits = message.topic.removeprefix(RPC), {"rateLimits": {}}
            self._client.publish(f"v1/devices/me/rpc/response/{number}", json.dumps(limits))
        elif "/device/" in message.topic:
            found = message.payload.count(b'"quality":"good"')
            self.points += found or message.payload.count(b'"quality": "good"')
        if self.points:
            self.first.set()

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(*command: str, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env={**os.environ, **(env or {})},
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def broker(folder: Path) -> Iterator[int]:
    port = free_port()
    conf = folder / "mosquitto.conf"
    conf.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 100000\n"
    )
    program = "/usr/sbin/mosquitto"
    if not Path(program).exists():
        sys.exit("needs mosquitto: apt install mosquitto")
    with running(program, "-c", str(conf)):
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield port


def site_file(
    folder: Path,
    ports: list[int],
    registers: int,
    period_s: float,
    broker: int,
    history: bool = False,
    model: Path | None = None,
) -> Path:
    """A site of `len(ports)` Modbus devices: four quantities, a rack for every four registers."""
    folder.mkdir()
    lines = [
        "config_version = 1", "[site]", 'id = "bench"', "[agent]", f"poll_interval_s = {period_s}",
        "stale_after_s = 15", f'data_dir = "{folder}"', "[mqtt]", f'url = "mqtt://127.0.0.1:{broker}"',
        "[history]", f"enabled = {str(history).lower()}",
    ]  # fmt: skip
    if model is not None:
        lines += ["[ims]", f'model = "{model}"']
    for d, port in enumerate(ports):
        lines += ["[[device]]", f'id = "dev{d:02}"', 'protocol = "modbus-tcp"', 'host = "127.0.0.1"',
                  f"port = {port}", f'row = "R{d // 5}"', "timeout_s = 5.0"]  # fmt: skip
        for i in range(registers):
            lines += ["[[device.point]]", f'id = "p{i}"', f'quantity = "{KINDS[i % 4]}"',
                      f'register = "holding:{i}"', "scale = 0.1", f'rack = "R{d}-{i // 4}"']  # fmt: skip
    path = folder / "site.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def train(folder: Path) -> Path:
    """An IMS model of what such devices say."""
    table, model = folder / "nominal.csv", folder / "model.json"
    noise = Random(1)
    rows = [",".join(f"{20 + noise.random() * 6:.1f}" for _ in KINDS) for _ in range(2_000)]
    table.write_text("\n".join([",".join(KINDS), *rows]) + "\n")
    subprocess.run([SKADI, "train", "--csv", str(table), "-o", str(model)], check=True,
                   capture_output=True)  # fmt: skip
    return model


def measure(
    subject: str, process: subprocess.Popen[str], counter: Counter, period_s: float, expected: float,
    seconds: float,
) -> Result:  # fmt: skip
    """Wait for the first point and a warm-up, then count for `seconds`."""
    watched = psutil.Process(process.pid)
    if not counter.first.wait(90):
        sys.exit(f"{subject}: no point within 90 s")
    start_cpu_s = cpu_s(watched)
    time.sleep(WARM_UP_S)
    whole_s = max(1, round(seconds / max(period_s, 1.0))) * max(period_s, 1.0)  # begins as it ends
    calm(counter)
    points, cpu, began = counter.points, cpu_s(watched), time.monotonic()
    rss = 0
    while (left_s := began + whole_s - time.monotonic()) > 0:
        time.sleep(min(left_s, 0.25))
        rss = max(rss, watched.memory_info().rss)
    points, cpu, took = counter.points - points, cpu_s(watched) - cpu, time.monotonic() - began
    return Result(
        subject, period_s, points, round(points / took),
        round(100 * points / (expected * took), 2), round(cpu / points * 1e6, 2),
        round(100 * cpu / took, 1), round(rss / 2**20, 1), round(start_cpu_s, 2),
    )  # fmt: skip


def calm(counter: Counter) -> None:
    """Return just after a burst of points, so that none is cut in two, or where none pauses."""
    end, before = time.monotonic() + 1.0, counter.points
    while time.monotonic() < end:
        seen = counter.points
        time.sleep(0.03)
        if counter.points == seen != before:
            time.sleep(0.07)  # and as far from the next one as from this
            return


def cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


@dataclass(frozen=True, slots=True)
class Bench:
    """What all subjects share."""

    folder: Path
    ports: list[int]
    registers: int
    seconds: float
    model: Path
    thingsboard: Path | None


def command_of(
    bench: Bench, subject: str, period_s: float, at: int
) -> tuple[list[str], dict[str, str]]:
    """How a subject is started, and its environment."""
    folder = bench.folder / f"{subject.replace(' ', '')}-{period_s}"
    if subject == "bare":
        wait_s = 0.0 if period_s == SATURATED_S else period_s
        what = [json.dumps(bench.ports), str(bench.registers), str(wait_s), str(at)]
        return [sys.executable, PARTS, "bare", *what], {}
    if subject == "thingsboard":
        env = polling_peers.configure(folder, bench.ports, bench.registers, at)
        start = "from thingsboard_gateway.tb_gateway import daemon; daemon()"
        return [str(bench.thingsboard), "-c", start], env
    site = site_file(folder, bench.ports, bench.registers, period_s, at,
                     subject == "+ history", bench.model)  # fmt: skip
    return [SKADI, "run", "-c", str(site), "--log-level", "warning"], {}


def run(bench: Bench, subject: str, period_s: float) -> Result:
    with broker(bench.folder) as at:
        counter = Counter(at)
        command, env = command_of(bench, subject, period_s, at)
        with running(*command, env=env) as process:
            expected = len(bench.ports) * bench.registers / period_s
            try:
                return measure(subject, process, counter, period_s, expected, bench.seconds)
            finally:
                counter.stop()


def show(r: Result) -> None:
    saturated = r.period_s == SATURATED_S
    print(f"{r.subject:11} {'max' if saturated else '1 s':>6} {r.points_per_s:9.0f}"
          f" {'' if saturated else f'{r.delivered_pct:.2f} %':>9} {r.cpu_s_per_million:8.2f}"
          f" {r.cpu_pct:5.1f} % {r.rss_mb:7.1f} {r.start_cpu_s:11.2f}", flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--devices", type=int, default=50)
    parser.add_argument("--registers", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--thingsboard", type=Path, help="a Python that has thingsboard-gateway")
    parser.add_argument("--no-thingsboard", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    results: dict[tuple[str, float], Result] = {}
    devices = (sys.executable, PARTS, "devices", str(args.devices), str(args.registers))
    with tempfile.TemporaryDirectory() as name, running(*devices) as served:
        assert served.stdout is not None
        folder, peer = Path(name), args.thingsboard
        if peer is None and not args.no_thingsboard:
            peer = polling_peers.install(folder / "thingsboard")
        ports = json.loads(served.stdout.readline())
        bench = Bench(folder, ports, args.registers, args.seconds, train(folder), peer)
        print(f"{'subject':11} {'period':>6} {'points/s':>9} {'delivered':>9} {'CPU s/M':>8} {'CPU':>7}"
              f" {'RSS MB':>7} {'start CPU s':>11}")  # fmt: skip
        subjects = ["bare", "skadi", "+ history", *(["thingsboard"] if peer else [])]
        plan = [(s, 1.0) for s in subjects] + [(s, SATURATED_S) for s in subjects[:3]]
        for subject, period_s in plan:
            results[subject, period_s] = run(bench, subject, period_s)
            show(results[subject, period_s])
    ratios = {
        f"{subject} / bare, {'1 s' if period_s == 1.0 else 'max'}":
            round(r.cpu_s_per_million / results["bare", period_s].cpu_s_per_million, 2)
        for (subject, period_s), r in results.items() if subject != "bare"
    }  # fmt: skip
    print("CPU as a multiple of the bare loop's:", json.dumps(ratios))
    print("goals:", json.dumps(GOALS))
    if args.json:
        rows = [*map(asdict, results.values()), ratios]
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
