"""An hour's polls while the broker is down: what it does to the agent's memory.

    .venv/bin/python benchmarks/outage.py [--devices 50] [--registers 100] [--seconds 360]

The whole agent as in benchmarks/polling.py, history off, polls ten times a second where a site polls once,
with a broker that is not there: 360 s are the 3,600 polls of an hour. Printed is its RSS over the run; the
growth counted is from a sixth of the run (the arenas are warm then) to its end. tests/agent/test_broker_away.py
has the hour of messages that wait on disk, on a virtual clock.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

sys.path.insert(0, str(Path(__file__).parent))

from polling import PARTS, SKADI, cpu_s, free_port, running, site_file, train

PERIOD_S = 0.1
GOAL_MB = 5.0
MARKS = 12


def run(ports: list[int], registers: int, seconds: float) -> float:
    """Print RSS at each mark. Returns the growth in MB."""
    with TemporaryDirectory() as folder:
        model = train(Path(folder))
        site = site_file(
            Path(folder) / "agent", ports, registers, PERIOD_S, free_port(), model=model
        )
        with running(SKADI, "run", "-c", str(site), "--log-level", "error") as process:
            watched, marks = psutil.Process(process.pid), []
            time.sleep(seconds / MARKS)
            for _ in range(MARKS - 1):
                time.sleep(seconds / MARKS)
                marks.append(watched.memory_info().rss / 2**20)
            used = cpu_s(watched)
    print("RSS MB: " + " ".join(f"{m:.1f}" for m in marks) + f"; {used:.0f} CPU s")
    return marks[-1] - marks[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--devices", type=int, default=50)
    parser.add_argument("--registers", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=360.0)
    args = parser.parse_args()
    command = [sys.executable, PARTS, "devices", str(args.devices), str(args.registers)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as devices:
        assert devices.stdout is not None
        try:
            grown = run(json.loads(devices.stdout.readline()), args.registers, args.seconds)
        finally:
            devices.kill()
    polls = args.seconds / PERIOD_S
    print(f"{args.devices} devices, up to {polls:.0f} polls of each without a broker: {grown:+.1f} MB; goal"
          f" {GOAL_MB:g} -> {'held' if grown <= GOAL_MB else 'MISSED'}")  # fmt: skip


if __name__ == "__main__":
    main()
