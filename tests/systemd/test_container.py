"""Containerfile and compose as linters and parsers read them; no engine is needed."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "systemd" / "container"


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yml").read_text())
    return found


def test_hadolint_finds_nothing() -> None:
    program = Path(sys.executable).parent / "hadolint"
    ran = subprocess.run(
        [program, FOLDER / "Containerfile"], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stdout) == (0, "")


def test_the_image_copies_and_starts_what_is_there() -> None:
    text = (FOLDER / "Containerfile").read_text()
    for line in text.splitlines():
        if line.startswith("COPY requirements/"):
            assert all((ROOT / name).exists() for name in line.split()[1:-1]), line
    assert 'ENTRYPOINT ["skadi"]' in text
    assert "USER 990" in text


@pytest.mark.parametrize("name", ["hall", "agent", "broker", "prometheus", "grafana"])
def test_each_service_mounts_files_that_exist_and_volumes_that_are_declared(name: str) -> None:
    whole = compose()
    service = whole["services"][name]
    assert "image" in service
    for mount in service.get("volumes", []):
        source = mount.split(":")[0]
        known = source in whole["volumes"] or (FOLDER / source).exists()
        assert known, mount
    for other in service.get("depends_on", []):
        assert other in whole["services"]
    assert service.get("network_mode", "service:hall").removeprefix("service:") in whole["services"]
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:"), "nothing is published beyond this host"


def test_the_commands_are_skadis_own() -> None:
    from agent.cli import COMMANDS

    for name in ("hall", "agent"):
        assert compose()["services"][name]["command"][0] in COMMANDS


def test_the_rest_parses() -> None:
    for name in ("prometheus.yml", "grafana.yml"):
        assert yaml.safe_load((FOLDER / name).read_text())
