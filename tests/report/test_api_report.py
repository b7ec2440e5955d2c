"""POST /report never holds up the agent: another process draws, in bounded time, one at a time."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs

from agent.api import report as api_report
from agent.reports import worker
from tests.api.make import House, get, hall_site, house, post
from tests.peers import until


@pytest.fixture
async def hall(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, hall_site(tmp_path)) as made:
        await made.minutes(3)
        yield made


@pytest.mark.parametrize(("form", "begins"), [("html", b"<!doctype html>"), ("pdf", b"%PDF-")])
async def test_pages_are_drawn_by_another_process(hall: House, form: str, begins: bytes) -> None:
    async with aiohttp.ClientSession() as session:
        answer = await session.post(hall.url + "/report", json={"format": form})
        body = await answer.read()
    assert (answer.status, answer.content_type) == (200, api_report.MEDIA[form].split(";")[0])
    assert body.startswith(begins)


async def test_rehearsals_that_are_kept_stand_in_it(hall: House) -> None:
    folder = Path(hall.site.agent.data_dir) / "rehearsals"
    folder.mkdir()
    for controller in ("fixed", "oracle"):
        account = {
            "controller": controller,
            "wh_per_prompt": 1.0,
            "total_kwh": 1.0,
            "prompts": 1000.0,
        }
        (folder / f"{controller}.json").write_text(json.dumps(account))
    (folder / "broken.json").write_text("{")
    status, body = await post(hall, "/report/judges", {})
    assert status == 200
    assert [r["controller"] for r in body["rehearsal"]["runs"]] == ["fixed", "oracle"]
    assert [c["id"] for c in body["charts"] if c["kind"] == "bars"] == ["rehearsal"]


async def test_a_report_that_cant_be_drawn_is_a_clean_error(
    hall: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "MODULE", "agent.reports.nowhere")
    with capture_logs() as logs:
        status, body = await post(hall, "/report", {"format": "pdf"})
    assert (status, body["error"]["code"]) == (503, "service_unavailable")
    assert "log has the reason" in body["error"]["message"]
    assert any("agent.reports.nowhere" in line.get("reason", "") for line in logs)


async def test_a_slow_report_ends_in_time_and_holds_up_nobody(
    hall: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()

    async def slow(*_: Any) -> bytes:
        begun.set()
        await asyncio.sleep(3_600)
        raise AssertionError

    monkeypatch.setattr(worker, "drawn", slow)
    monkeypatch.setattr(api_report, "REPORT_S", 5.0)
    first = asyncio.create_task(post(hall, "/report", {"format": "pdf"}))
    await begun.wait()
    assert (await get(hall, "/healthz"))[0] == 200
    status, body = await post(hall, "/report", {"format": "json"})
    assert (status, "another report" in body["error"]["message"]) == (429, True)
    status, body = await first
    assert (status, "not ready within 5 s" in body["error"]["message"]) == (503, True)
    assert (await post(hall, "/report", {}))[0] == 200  # and the next one is made


async def test_the_process_ends_with_who_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[asyncio.subprocess.Process] = []
    start = asyncio.create_subprocess_exec

    async def kept(*args: Any, **more: Any) -> asyncio.subprocess.Process:
        made.append(await start(*args, **more))
        return made[0]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", kept)
    drawing = asyncio.create_task(worker.drawn({"schema": 2}, "pdf"))
    await until(lambda: made)
    drawing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await drawing
    assert made[0].returncode is not None
