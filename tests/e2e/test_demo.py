"""`skadi demo` as a whole, small: one object on stdout, its fields, and no process left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.demo.test_verdict import FIELDS
from tests.e2e.world import environment, until

DEMO = [sys.executable, "-m", "agent", "demo", "--train-hours", "0.5", "--json"]


def processes_of(folder: Path) -> list[str]:
    """The command lines of all processes that work in a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str(folder) in os.readlink(process / "cwd"):
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue  # it has just ended, or is not ours
    return found


def test_a_small_demo_from_end_to_end(tmp_path: Path) -> None:
    files = tmp_path / "kept"
    done = subprocess.run(
        [*DEMO, "--hours", "0.15", "--speed", "60", "--seed", "3", "--folder", str(files)],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    result = json.loads(done.stdout)
    assert done.returncode == bool(result["failures"]), done.stderr
    assert (result["scenario"], result["seed"], result["hours"]) == ("heat-spike", 3, 0.15)
    assert result["baseline"].keys() == result["skadi"].keys() >= FIELDS
    assert result["baseline"]["writes"] == 0
    # The same arrivals on both sides: a prompt more or less would be another hall.
    assert result["baseline"]["prompts"] == result["skadi"]["prompts"]
    truth = json.loads((files / "truth.json").read_text())
    assert result["skadi"]["wh_per_prompt"] == truth["wh_per_prompt"]
    assert str(files) in done.stderr
    log = [json.loads(x) for x in (files / "agent.log").read_text().splitlines()]
    assert log[-1]["event"] == "stopped"
    assert all("2026-05-15T07:" in line["ts"] for line in log)
    assert processes_of(files) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_a_demo(tmp_path: Path, number: signal.Signals) -> None:
    files = tmp_path / "kept"
    with subprocess.Popen(
        [*DEMO, "--folder", str(files)], cwd=tmp_path, env=environment(),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        # A shell's background jobs ignore SIGINT, and so would all that they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as demo:  # fmt: skip
        until(lambda: len(processes_of(files)) >= 2, "the demo's children run")
        time.sleep(0.5)
        demo.send_signal(number)
        _, said = demo.communicate(timeout=20)
    until(lambda: processes_of(files) == [], "every child has ended", timeout_s=10)
    if number != signal.SIGKILL:
        assert demo.returncode == 130
        assert "Traceback" not in said, said
