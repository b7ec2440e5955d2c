"""Prometheus profiles against cases: two expositions and the values that must come out."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from config.loader import load_site
from drivers.prometheus import PrometheusDriver
from tests.drivers.test_prometheus import http, serve

FILES = sorted((Path(__file__).parents[1] / "cases" / "prometheus").glob("*.toml"))
CASES = [pytest.param(tomllib.loads(f.read_text()), id=f.stem) for f in FILES]


def site_text(case: dict[str, Any], url: str) -> str:
    hosts = ", ".join(f'{k} = "{v}"' for k, v in case.get("hosts", {}).items())
    return "\n".join([
        'config_version = 1\n[site]\nid = "t"',
        f'[limits]\nlatency_metric = "{case.get("latency_metric", "ttft")}"',
        f"latency_p95_max_ms = {case.get('latency_p95_max_ms', 250)}",
        f'[[device]]\nid = "d"\nprotocol = "prometheus"\nurl = "{url}"\nprofile = "{case["profile"]}"',
        f"hosts = {{ {hosts} }}" if hosts else "",
    ])  # fmt: skip


def test_there_are_cases() -> None:
    assert FILES


@pytest.mark.parametrize("case", CASES)
async def test_a_case_comes_out(case: dict[str, Any], tmp_path: Path) -> None:
    answer = [http(case["first"])]
    async with serve(answer) as (url, _):
        file = tmp_path / "site.toml"
        file.write_text(site_text(case, url))
        driver = PrometheusDriver(load_site(file, {}).devices[0], {})
        readings = await driver.read(0.0)
        if "second" in case:
            answer[0] = http(case["second"])
            readings = await driver.read(float(case["seconds"]))
        await driver.close()
    by_id = {r.point.partition("/")[2]: r for r in readings}
    for id_, wanted in case["points"].items():
        if isinstance(wanted, str):
            assert (by_id[id_].value, by_id[id_].quality) == (None, wanted), id_
        else:
            assert by_id[id_].value == pytest.approx(wanted), (id_, by_id[id_].reason)
