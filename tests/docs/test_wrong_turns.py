"""What somebody new does wrong in the first hour, and the message that names the way out of it."""

import os
import subprocess
import sys
from importlib import metadata
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest

from agent import identity
from tests.docs.test_docs import HEAD

SITE = (
    HEAD
    + """
[agent]
data_dir = "data"
[[device]]
id = "pdu-a"
protocol = "snmp"
host = "127.0.0.41"
port = 9
auth = { version = "2c", community = { env = "SKADI_SNMP_COMMUNITY" } }
[[device.point]]
id = "inlet_c"
quantity = "inlet_c"
oid = "1.3.6.1.2"
"""
)
TURNS = [
    ("check -c sit.toml", 78, "skadi init"),
    ("run -c sit.toml", 78, "skadi init"),
    ("init site.toml", 2, "--force"),
    ("stauts -c site.toml", 2, "did you mean 'status'?"),
    ("once -c site.toml", 75, "SKADI_SNMP_COMMUNITY is not set: export it or add it to .env"),
    ("check -c typo.toml", 78, "did you mean 'inlet_c'?"),
    ("check -c two.toml", 78, "two files in one?"),
    ("check -c site.toml", 0, "set rack and row"),
    ("scan modbus 127.0.0.1:9 --timeout 0.5", 75, "check host, port and network"),
    ("scan snmp 127.0.0.1:9", 2, "SKADI_SNMP_COMMUNITY"),
    ("status -c site.toml", 75, "is it running? (skadi run)"),
    ("kill -c site.toml", 75, "data/KILL is there"),
    ("write -c site.toml pdu-a/inlet_c 20", 77, "is not writable in the site file"),
    ("read -c site.toml inlet", 2, "did you mean pdu-a/inlet_c?"),
    ("profile show apc", 2, "did you mean"),
    ("report -c site.toml", 0, "nothing of this time is in history"),
    ("report -c site.toml --since yesterday", 2, "90m, 24h, 7d"),
    ("report -c site.toml --html no/such/folder.html", 1, "choose a folder you may write to"),
    ("report -c site.toml --rehearsal site.toml", 2, "skadi rehearse --json"),
    ("audit verify -c site.toml", 1, "has the agent run?"),
    ("explain -c site.toml", 1, "no act yet: history holds none"),
]  # fmt: skip


@pytest.mark.parametrize(("command", "code", "words"), TURNS, ids=[t[0] for t in TURNS])
def test_a_wrong_turn_names_the_way_out(
    command: str, code: int, words: str, tmp_path: Path
) -> None:
    (tmp_path / "site.toml").write_text(SITE, encoding="utf-8")
    (tmp_path / "two.toml").write_text(SITE + SITE, encoding="utf-8")
    (tmp_path / "typo.toml").write_text(
        SITE.replace('"inlet_c"\noid', '"inlet_k"\noid'), encoding="utf-8"
    )
    env = {k: v for k, v in os.environ.items() if not k.startswith("SKADI_")}
    done = subprocess.run([sys.executable, "-m", "agent", *command.split()], cwd=tmp_path, capture_output=True,
                          text=True, timeout=100, check=False,
                          env=env | {"PYTHONPATH": str(Path(__file__).parents[2])})  # fmt: skip
    told = done.stdout + done.stderr
    assert done.returncode == code, told
    assert words in told
    assert "Traceback" not in told


def test_another_distribution_with_one_of_our_names_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert identity.foreign_owner() is None
    found: dict[str, Any] = {"agent": ["skadi"], "control": ["skadi", "python-control"]}
    monkeypatch.setattr(metadata, "packages_distributions", lambda: found)
    assert identity.foreign_owner() is None  # a folder that nobody installs into
    monkeypatch.setattr(
        identity, "find_spec", lambda name: ModuleSpec(name, None, origin=f"/{name}/x/y")
    )
    assert identity.foreign_owner() == (
        "package 'control' is also provided by python-control: install skadi into an environment of its own"
    )
