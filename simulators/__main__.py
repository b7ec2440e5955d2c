"""`python -m simulators`: a simulated hall and its devices on loopback. `skadi sim` execs it."""

import argparse
import asyncio
import sys
from pathlib import Path

from simulators.runner import Options, run
from simulators.scenarios import SCENARIOS
from simulators.site import DEFAULT_PORT_BASE


def _positive(text: str) -> float:
    value = float(text)
    if not 0.0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def _port_base(text: str) -> int:
    value = int(text)
    if value != 0 and not 1024 <= value <= 64_000:
        raise argparse.ArgumentTypeError("0 (free ports), or 1024..64000")
    return value


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    p = argparse.ArgumentParser(prog="skadi sim", description=__doc__)
    p.add_argument("--scenario", default="default", choices=sorted(SCENARIOS))
    p.add_argument("--speed", type=_positive, default=1.0, help="times real time (default 1)")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--hours", type=_positive, help="end after so many metered simulated hours")
    p.add_argument("--warmup-s", type=float, default=0.0, help="simulated, before the meter starts")
    p.add_argument("--step-s", type=_positive, default=5.0, help="simulated step (default 5)")
    p.add_argument("--day", type=float, help="day of the year, from 1")
    p.add_argument("--start-hour", type=float, help="UTC hour to start at (default 7)")
    p.add_argument("--trace", help='"diurnal", "azure" or an Azure LLM trace CSV')
    p.add_argument("--port-base", type=_port_base, default=DEFAULT_PORT_BASE,
                   help=f"ports are this plus a fixed offset (default {DEFAULT_PORT_BASE}); 0: free ones")  # fmt: skip
    p.add_argument("--write-config", type=Path, metavar="FILE", help="write the hall's site file")
    p.add_argument(
        "--summary", type=Path, metavar="FILE", help="write the account as JSON at the end"
    )
    p.add_argument(
        "--stay", action="store_true", help="keep the devices up after --hours, until a signal"
    )
    p.add_argument("--post", metavar="URL", help="the API of an agent (http://127.0.0.1:8790): room"
                   " sensors post to its /telemetry; --write-config then has the device and [api]")  # fmt: skip
    p.add_argument("--json", action="store_true", help="JSON lines (ready, end) on stdout")
    return p


def main() -> int:
    """Run from the command line."""
    a = parser().parse_args()
    options = Options(
        a.scenario, a.seed, a.speed, a.hours, a.warmup_s, a.step_s, a.day, a.start_hour, a.trace,
        a.port_base, a.write_config, a.summary, a.json, a.stay, a.post,
    )  # fmt: skip
    return asyncio.run(run(options))


if __name__ == "__main__":
    sys.exit(main())
