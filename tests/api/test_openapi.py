"""The whole OpenAPI against the running API: no 5xx, nothing that the schema does not say."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from html import unescape
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from agent.api.app import make_app
from agent.mqtt.schema import SCHEMAS
from tests.api.make import ENVIRON, House, get, hall_site, house

EXAMPLES = 12  # of each operation, each of schemathesis' phases


@pytest.fixture
async def hall(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, hall_site(tmp_path)) as made:
        yield made


async def attack(hall: House, token: str, *options: str) -> str:
    """Run schemathesis in a process of its own; what it said. Fails when it finds anything."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "schemathesis.cli", "run", f"{hall.url}/openapi.json",
        "-H", f"Authorization: Bearer {token}", "--max-examples", str(EXAMPLES), "--seed", "7",
        "--checks", "all", "--exclude-checks", "ignored_auth,positive_data_acceptance",
        "--phases", "examples,coverage,fuzzing", "--no-color", "--request-timeout", "20", *options,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=hall.site.agent.data_dir,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()[-8_000:]
    return out.decode()


async def test_schemathesis_finds_no_5xx_and_no_schema_violation(hall: House) -> None:
    said = await attack(hall, ENVIRON["ENGINEER"], "--exclude-path", "/telemetry")
    count = re.search(r"(\d+) generated, (\d+) passed", said)
    assert count is not None
    assert int(count[1]) == int(count[2]) > 500
    print(f"schemathesis: {count[0]}")
    await attack(hall, ENVIRON["PUSH"], "--include-path", "/telemetry")
    assert (await get(hall, "/healthz"))[0] == 200


def test_skadi_schema_openapi_is_what_is_served() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "agent", "schema", "openapi"], capture_output=True, check=True
    )
    shown: dict[str, Any] = json.loads(told.stdout)
    paths = set(shown["paths"])
    assert {
        "/telemetry", "/state/overview", "/heatmap", "/timeline", "/optimizer/tick", "/actions/apply",
        "/actions/log", "/mode", "/demo/scenario", "/healthz", "/readyz", "/metrics",
    } <= paths  # fmt: skip
    assert shown == make_app(None).openapi()


def test_every_member_and_parameter_of_the_contracts_says_what_it_is() -> None:
    api = make_app(None).openapi()
    methods = {(p, n): m for p, ms in api["paths"].items() for n, m in ms.items()}
    mute = {(p, n, t["name"]) for (p, n), m in methods.items() for t in m.get("parameters", ())
            if not t["description"]}  # fmt: skip
    for shapes in (api["components"]["schemas"], SCHEMAS):
        mute |= {(name, m) for name, shape in shapes.items() for m in _mute(shape)}
    assert not mute, "agent/glossary.py has no word for them"
    open_ = {path for (path, _), m in methods.items() if "security" not in m}
    assert open_ == {"/healthz", "/readyz"}


def _mute(schema: Any) -> Iterator[str]:
    """Members anywhere in a schema that have no description."""
    if isinstance(schema, dict):
        members = schema.get("properties")
        for name, field in members.items() if isinstance(members, dict) else ():
            if not field.get("description"):
                yield name
    for inner in schema.values() if isinstance(schema, dict) else schema:
        if isinstance(inner, dict | list):
            yield from _mute(inner)


async def test_the_page_of_the_api_needs_no_other_host(hall: House) -> None:
    async with aiohttp.ClientSession() as session, session.get(hall.url + "/docs") as answer:
        page, policy = await answer.text(), answer.headers["Content-Security-Policy"]
    assert (answer.status, policy) == (200, "default-src 'none'; style-src 'unsafe-inline'")
    assert not re.search(r"<script|src=|href=\"(?!#|openapi\.json)|//[a-z]", page)
    api = make_app(None).openapi()
    for name in (*api["paths"], *api["components"]["schemas"]):
        assert f"<code>{name}</code>" in page
    shown = [json.loads(unescape(t)) for t in re.findall(r"<pre>(.*?)</pre>", page)]
    assert {"scenario": "add_ai_nodes_row_c", "action": "start", "duration_s": 300} in shown
    for target in re.findall(r'href="#(\w+)"', page):
        assert f'id="{target}"' in page
