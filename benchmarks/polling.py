"""What polling costs: the whole agent beside a bare pymodbus + paho loop, in one run.

    .venv/bin/python benchmarks/polling.py [--devices 50] [--registers 100] [--seconds 30]
                                           [--json FILE]

Simulated Modbus devices, one broker (mosquitto) and one counting subscriber are the same for
all. Each subject runs as a process of its own: at 1 Hz, then as fast as it can. Counted are
the points that arrive at the subscriber with a value, and the CPU time (user and system) the
subject took meanwhile. The agent runs in advisory mode with everything on: scaling, checks of
replies and plausibility, state, history in SQLite, monitoring jobs, MQTT with unit, quality
and time for each point. The bare loop has none of that.
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

import paho.mqtt.client as mqtt
import psutil

HERE = Path(__file__).parent
PARTS = str(HERE / "polling_parts.py")
SKADI = str(Path(sys.executable).parent / "skadi")
SATURATED_S = 0.005  # a period nobody can keep
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


def site_file(folder: Path, ports: list[int], registers: int, period_s: float, broker: int) -> Path:
    """A site of `len(ports)` Modbus devices: four quantities, a rack for every four registers."""
    folder.mkdir()
    lines = [
        "config_version = 1", "[site]", 'id = "bench"', "[agent]", f"poll_interval_s = {period_s}",
        "stale_after_s = 15", f'data_dir = "{folder}"', "[mqtt]", f'url = "mqtt://127.0.0.1:{broker}"',
    ]  # fmt: skip
    kinds = ("inlet_c", "outlet_c", "pdu_kw", "gpu_power_kw")
    for d, port in enumerate(ports):
        lines += ["[[device]]", f'id = "dev{d:02}"', 'protocol = "modbus-tcp"', 'host = "127.0.0.1"',
                  f"port = {port}", f'row = "R{d // 5}"', "timeout_s = 5.0"]  # fmt: skip
        for i in range(registers):
            lines += ["[[device.point]]", f'id = "p{i}"', f'quantity = "{kinds[i % 4]}"',
                      f'register = "holding:{i}"', "scale = 0.1", f'rack = "R{d}-{i // 4}"']  # fmt: skip
    path = folder / "site.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def measure(
    subject: str, process: subprocess.Popen[str], counter: Counter, period_s: float, expected: float,
    seconds: float,
) -> Result:  # fmt: skip
    """Wait for the first point and a warm-up, then count for `seconds`."""
    watched = psutil.Process(process.pid)
    if not counter.first.wait(60):
        sys.exit(f"{subject}: no point within 60 s")
    start_cpu_s = cpu_s(watched)
    time.sleep(max(3.0, 3 * period_s))
    points, cpu, began = counter.points, cpu_s(watched), time.monotonic()
    rss = 0
    while time.monotonic() - began < seconds:
        time.sleep(0.25)
        rss = max(rss, watched.memory_info().rss)
    points, cpu, took = counter.points - points, cpu_s(watched) - cpu, time.monotonic() - began
    return Result(
        subject, period_s, points, round(points / took),
        round(100 * points / (expected * took), 2), round(cpu / points * 1e6, 2),
        round(100 * cpu / took, 1), round(rss / 2**20, 1), round(start_cpu_s, 2),
    )  # fmt: skip


def cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def run(
    subject: str, folder: Path, ports: list[int], args: argparse.Namespace, period_s: float
) -> Result:
    with broker(folder) as at:
        counter = Counter(at)
        if subject == "bare":
            wait = 0.0 if period_s == SATURATED_S else period_s
            command = [sys.executable, PARTS, "bare", json.dumps(ports), str(args.registers),
                       str(wait), str(at)]  # fmt: skip
        else:
            site = site_file(folder / f"{subject}-{period_s}", ports, args.registers, period_s, at)
            command = [SKADI, "run", "-c", str(site), "--log-level", "warning"]
        with running(*command) as process:
            expected = len(ports) * args.registers / period_s
            try:
                return measure(subject, process, counter, period_s, expected, args.seconds)
            finally:
                counter.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--devices", type=int, default=50)
    parser.add_argument("--registers", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    results: list[Result] = []
    with (
        tempfile.TemporaryDirectory() as name,
        running(
            sys.executable, PARTS, "devices", str(args.devices), str(args.registers)
        ) as devices,
    ):
        assert devices.stdout is not None
        ports = json.loads(devices.stdout.readline())
        print(f"{'subject':8} {'period':>7} {'points/s':>9} {'delivered':>9} {'CPU s/M':>8} {'CPU':>7}"
              f" {'RSS MB':>7} {'start CPU s':>11}")  # fmt: skip
        for period_s in (1.0, SATURATED_S):
            for subject in ("bare", "skadi"):
                r = run(subject, Path(name), ports, args, period_s)
                results.append(r)
                saturated = period_s == SATURATED_S
                print(f"{r.subject:8} {'max' if saturated else '1 s':>7} {r.points_per_s:9.0f}"
                      f" {'' if saturated else f'{r.delivered_pct:.2f} %':>9} {r.cpu_s_per_million:8.2f}"
                      f" {r.cpu_pct:5.1f} % {r.rss_mb:7.1f} {r.start_cpu_s:11.2f}", flush=True)  # fmt: skip
    bare, skadi, bare_max, skadi_max = results
    ratios = {
        "ratio_1hz": round(skadi.cpu_s_per_million / bare.cpu_s_per_million, 2),
        "ratio_saturated": round(skadi_max.cpu_s_per_million / bare_max.cpu_s_per_million, 2),
    }
    print(
        f"agent / bare loop: {ratios['ratio_1hz']} at 1 Hz, {ratios['ratio_saturated']} saturated"
    )
    print("goals:", json.dumps(GOALS))
    if args.json:
        args.json.write_text(json.dumps([*map(asdict, results), ratios], indent=1) + "\n")


if __name__ == "__main__":
    main()
