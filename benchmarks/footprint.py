"""What the whole agent takes: memory with every surface on, and CPU until its first reading.

    .venv/bin/python benchmarks/footprint.py [--points 5000] [--seconds 60] [--json FILE]

One `skadi run` on the simulated hall (Modbus, BACnet, SNMP v2c and v3, Prometheus, HTTP) and on
as many plain Modbus devices as make up the points, with the HTTP API, a mosquitto broker and
history in SQLite. RSS is the largest seen, after asking the API for what screens ask for; CPU is
user and system time of the process until the broker hears its first good value.
"""

import argparse
import json
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import psutil
from polling import PARTS, SKADI, Counter, broker, cpu_s, free_port, running

GOALS = {"rss_mb": 150.0, "start_cpu_s": 2.0}
HALL_POINTS, REGISTERS = 454, 100
PATHS = ("/state/overview", "/heatmap", "/points?limit=5000", "/metrics", "/openapi.json")


def extend(site: Path, ports: list[int], api_port: int) -> None:
    """Add the API and plain devices to the hall's site file."""
    lines = [
        "[api]", f'listen = "127.0.0.1:{api_port}"',
    ]  # fmt: skip
    kinds = ("inlet_c", "outlet_c", "pdu_kw", "gpu_power_kw")
    for d, port in enumerate(ports):
        lines += ["[[device]]", f'id = "more{d:02}"', 'protocol = "modbus-tcp"', 'host = "127.0.0.1"',
                  f"port = {port}", f'row = "M{d // 5}"', "timeout_s = 5.0"]  # fmt: skip
        for i in range(REGISTERS):
            lines += ["[[device.point]]", f'id = "p{i}"', f'quantity = "{kinds[i % 4]}"',
                      f'register = "holding:{i}"', "scale = 0.1", f'rack = "M{d}-{i // 4}"']  # fmt: skip
    site.write_text(site.read_text() + "\n".join(lines) + "\n")


def measure(
    watched: psutil.Process, counter: Counter, api: int, seconds: float
) -> dict[str, float]:
    """CPU until the first value; then the largest RSS while the API is asked."""
    if not counter.first.wait(90):
        sys.exit("no value within 90 s")
    start_cpu_s = cpu_s(watched)
    time.sleep(10.0)
    began, before, rss = time.monotonic(), cpu_s(watched), 0
    while time.monotonic() - began < seconds:
        for path in PATHS:
            with urllib.request.urlopen(f"http://127.0.0.1:{api}{path}", timeout=30) as answer:
                answer.read()
        rss = max(rss, watched.memory_info().rss)
        time.sleep(2.0)
    cpu_pct = 100 * (cpu_s(watched) - before) / (time.monotonic() - began)
    return {"rss_mb": round(rss / 2**20, 1), "start_cpu_s": round(start_cpu_s, 2),
            "cpu_pct": round(cpu_pct, 1)}  # fmt: skip


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--points", type=int, default=5_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    devices = -(-(args.points - HALL_POINTS) // REGISTERS)
    api = free_port()
    with (
        tempfile.TemporaryDirectory() as name,
        running(sys.executable, PARTS, "devices", str(devices), str(REGISTERS)) as more,
        running(sys.executable, "-m", "simulators", "--port-base", "0", "--json",
                "--write-config", f"{name}/site.toml") as hall,
    ):  # fmt: skip
        assert more.stdout is not None
        assert hall.stdout is not None
        ports = json.loads(more.stdout.readline())
        json.loads(hall.stdout.readline())
        site = Path(name) / "site.toml"
        extend(site, ports, api)
        results = {}
        for start in ("first", "next"):  # the first makes history's tables, once for all
            with broker(Path(name)) as at:  # each its own: nothing is retained from before
                counter = Counter(at)
                with running(SKADI, "run", "-c", str(site), "--log-level", "error",
                             env={"SKADI_MQTT__URL": f"mqtt://127.0.0.1:{at}"}) as agent:  # fmt: skip
                    found = measure(psutil.Process(agent.pid), counter, api, args.seconds)
                counter.stop()
            results[start] = found
            print(f"{start} start: RSS {found['rss_mb']} MB (goal {GOALS['rss_mb']:g}), first reading"
                  f" after {found['start_cpu_s']} CPU s (goal {GOALS['start_cpu_s']:g}), then"
                  f" {found['cpu_pct']} % of a core", flush=True)  # fmt: skip
    points = HALL_POINTS + devices * REGISTERS
    print(f"{points} points")
    if args.json:
        told = {"points": points, **results, "goals": GOALS}
        args.json.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
