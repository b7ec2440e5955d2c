"""Recordings of real devices through the commands a person types, as a table.

    python -m tests.profiles.acceptance [NAME...]

Each recording of ../shared/devices (or SKADI_SHARED) is served by snmpsim; `skadi scan snmp`, `check` and
`once --json` run as processes of their own, and what comes out is held against its expected.json.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from config.loader import load_site
from control.types import Quality, Reading
from tests.peers import free_port
from tests.profiles.test_recordings import (
    PARTIAL,
    RECORDINGS,
    SHARED,
    UNCLAIMED,
    compare,
    sensors,
)

BIN = Path(sys.executable).parent


@contextmanager
def snmpsim(folder: Path, data: Path) -> Iterator[int]:
    """snmpsim over a folder of recordings; a recording's name is its community."""
    port = free_port(kind=socket.SOCK_DGRAM)
    with (folder / "log").open("w") as log, subprocess.Popen(
        [BIN / "snmpsim-command-responder", f"--data-dir={data}", f"--cache-dir={folder / 'cache'}",
         f"--agent-udpv4-endpoint=127.0.0.1:{port}"],
        stdout=log, stderr=log, env={**os.environ, "SNMPSIM_ALLOW_ROOT": "true"},
    ) as process:  # fmt: skip
        try:
            while "Listening at" not in (folder / "log").read_text():
                try:
                    raise SystemExit(f"snmpsim ended: {process.wait(0.2)}")
                except subprocess.TimeoutExpired:
                    continue
            yield port
        finally:
            process.terminate()


def skadi(*args: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BIN / "skadi", *args], capture_output=True, text=True, check=False,
        env={**os.environ, **environ}, timeout=300,
    )  # fmt: skip


def line(name: str, port: int, folder: Path) -> tuple[str, bool]:
    """One recording: its line of the table, and whether it passes."""
    scanned = skadi("scan", "snmp", f"127.0.0.1:{port}", "--community", name, "--timeout", "5")
    file = folder / f"{name}.toml"
    file.write_text(scanned.stdout)
    if scanned.returncode:
        return f"{name:36} scan: exit {scanned.returncode}: {scanned.stderr.strip()}", False
    checked = skadi("check", "-c", str(file))
    read = skadi("once", "-c", str(file), "--json", SKADI_SNMP_COMMUNITY=name)
    if checked.returncode or not read.stdout:
        said = checked.stdout + checked.stderr + read.stderr
        return f"{name:36} check {checked.returncode}, once {read.returncode}: {said}", False
    (device,) = load_site(file, {}).devices
    told = {r["point"]: r for r in json.loads(read.stdout)}
    readings = [Reading(p.key, told[p.id]["value"], 0.0, Quality(told[p.id]["quality"]))
                for p in device.points]  # fmt: skip
    score = compare(sensors(name), device.points, readings)
    total = score.right + len(score.missed) + len(score.wrong)
    odd = sum(r.value is not None and not p.about.low <= r.value <= p.about.high
              for p, r in zip(device.points, readings, strict=True))  # fmt: skip
    share = 100 * score.right / total if total else 100.0
    good = share >= 95 and not score.wrong and not odd
    return (f"{name:36} {device.profile or 'unknown':20} {len(device.points):6} {total:8} {share:7.1f} %"
            f" {len(score.wrong):6} {odd:10}"), good  # fmt: skip


def main() -> None:
    names = sys.argv[1:] or RECORDINGS
    print(f"{'recording':36} {'profile':20} {'points':>6} {'sensors':>8} {'right':>9} {'wrong':>6}"
          f" {'impossible':>10}")  # fmt: skip
    failed = []
    with TemporaryDirectory() as folder, snmpsim(Path(folder), SHARED) as port:
        for name in names:
            text, good = line(name, port, Path(folder))
            print(text, flush=True)
            failed += [] if good or name in UNCLAIMED or name in PARTIAL else [name]
    print(
        f"of families not listed, with quantities Skadi does not know: {', '.join([*UNCLAIMED, *PARTIAL])}"
    )
    print(f"{len(names) - len(failed)} of {len(names)} as promised: 95 % or more where the family is listed, none wrong, none impossible"
          + (f"; not: {', '.join(failed)}" if failed else ""))  # fmt: skip
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
