"""A report against what the hall's own account says, its page, and explanations of acts."""

import json
import re
from collections.abc import AsyncIterator
from html import unescape
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pypdf import PdfReader

from agent.cli.report import moment, summary
from agent.clock import utc
from agent.history.query import Sample
from agent.reports.draw import draw
from agent.reports.explain import NothingToExplain, explain
from agent.reports.gather import report
from agent.reports.grid import Span
from agent.reports.html import render, svg
from agent.reports.pdf import render_pdf
from control.modes import Event
from tests.api.make import House, get, hall_site, house, post


@pytest.fixture
async def hall(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, hall_site(tmp_path, push=False)) as made:
        yield made


async def some_time(hall: House, minutes: int) -> tuple[float, float]:
    """Let time pass in stretches that history keeps up with; (since, until) on whole minutes."""
    since_s = hall.clock.now_s() // 60 * 60 + 60
    while hall.clock.now_s() < since_s + minutes * 60 + 30:
        await hall.minutes(3)
    return since_s, since_s + minutes * 60


async def test_energy_and_work_are_those_of_the_plant(hall: House) -> None:
    before = hall.run.tally.result(hall.site.limits)
    start_s = hall.clock.now_s()
    await some_time(hall, 12)
    end_s = hall.clock.now_s()
    after = hall.run.tally.result(hall.site.limits)
    found = await report(hall.history, hall.site, start_s, end_s, end_s)
    hours = (end_s - start_s) / 3600
    terms = found["energy"]["terms"]
    assert terms["total"]["source"] == "metered"
    assert terms["total"]["known_pct"] == 100
    true_kwh = (after["total_kwh"] - before["total_kwh"]) / hours
    steps_h = len(found["charts"][0]["x"]["values"]) / 60
    assert terms["total"]["kwh"] / steps_h == pytest.approx(true_kwh, rel=0.005)
    wh = 1000 * (after["total_kwh"] - before["total_kwh"]) / (after["prompts"] - before["prompts"])
    kpi = found["kpi"]["wh_per_prompt"]
    assert kpi["value"] == pytest.approx(wh, rel=0.005)
    assert kpi["low"] < kpi["value"] < kpi["high"]
    assert found["compliance"][0]["kept_pct"] == 100
    made = sum(m["made"] for m in found["actions"]["moves"])
    assert made == len(await hall.history.actions(start_s // 60 * 60, 9999, None, ("action",)))
    assert made > 0
    json.dumps(found, allow_nan=False)


async def test_without_cooling_there_is_no_wh_per_prompt(hall: House) -> None:
    since_s, until_s = await some_time(hall, 6)
    blind = ("cooling_power_kw", "total_power_kw")
    keys = {p.key for p in hall.site.points.values() if p.quantity in blind}
    real = hall.history.series

    async def series(point: str, *more: Any) -> list[Sample]:
        return [] if point in keys else await real(point, *more)

    hall.history.series = series  # type: ignore[method-assign]
    found = await report(hall.history, hall.site, since_s, until_s, until_s)
    assert found["energy"]["terms"]["cooling"] == {
        "kwh": None, "unit": "kWh", "source": "missing", "known_pct": 0.0,
    }  # fmt: skip
    assert found["energy"]["terms"]["it"]["kwh"] > 0
    assert found["kpi"]["wh_per_prompt"]["value"] is None
    assert "a term is missing" in render(found)


async def test_a_hole_is_a_hole(hall: House) -> None:
    await some_time(hall, 4)
    hall.clock.advance(600)
    until_s = hall.clock.now_s()
    found = await report(hall.history, hall.site, until_s - 900, until_s, until_s)
    known = found["energy"]["terms"]["total"]["known_pct"]
    assert 10 < known < 50
    assert "nothing is filled in" in render(found)
    values = found["charts"][0]["series"][0]["values"]
    assert values[-5:] == [None] * 5


class _Page(HTMLParser):
    """What a page would fetch, and whether its tags match."""

    VOID = frozenset({"meta", "br", "hr", "img", "link", "line", "path", "rect"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [v or "" for k, v in attrs if k in ("src", "href", "srcset", "xlink:href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID or (self.open and self.open[-1] == tag):
            assert self.open.pop() == tag


async def test_the_page_is_one_file_and_hostile_names_stay_text(hall: House) -> None:
    since_s, until_s = await some_time(hall, 9)
    found = await report(hall.history, hall.site, since_s, until_s, until_s)
    found["area"] = "<script>alert(1)</script>"
    found["actions"]["given_back"] = {"<img src=x onerror=alert(1)>": 1}
    found["charts"][0]["series"][0]["name"] = "<b onclick=x>"
    found["charts"][0]["marks"] = [{"ts": found["until"], "text": "</title><script>x</script>"}]
    found["charts"][0]["title"] = '"><script>'
    html = render(found)
    page = _Page()
    page.feed(html)
    assert page.open == []
    assert page.fetched == []
    assert not {"script", "img", "b onclick", "link", "iframe"} & set(page.tags)
    assert not re.search(r"url\(|@import|https?://", html)
    assert html.count("<svg") == sum(c["kind"] == "line" for c in found["charts"])
    pdf = PdfReader(BytesIO(render_pdf(found)))
    text = "".join(p.extract_text() for p in pdf.pages)
    assert "<script>alert(1)</script>" in text
    assert not any("/URI" in str(p.get("/Annots")) for p in pdf.pages)


@pytest.mark.parametrize(("mute", "says"), [
    ((), ("3 of 3", "limits kept", "no limit was crossed.", "No limit was nearly reached")),
    ((2,), ("2 of 2", "limits kept, 1 not measured", "no limit was crossed (rack power: not measured)")),
    ((0, 1, 2), ("whether a limit was crossed is not known", "limits kept, 3 not measured", "Nothing was measured;")),
])  # fmt: skip
async def test_what_was_not_measured_is_not_said_to_be_kept(
    hall: House, mute: tuple[int, ...], says: tuple[str, ...]
) -> None:
    since_s, until_s = await some_time(hall, 3)
    found = await report(hall.history, hall.site, since_s, until_s, until_s)
    for at in mute:
        found["compliance"][at] |= {"kept_pct": None, "minutes_over": 0, "worst": None, "at": None}
    found["near"] = []
    text = unescape(render(found))
    assert not [words for words in says if words not in text]


def test_a_chart_lifts_its_pen_over_holes_and_says_when_nothing_is_known() -> None:
    x = {
        "label": "time",
        "unit": "UTC",
        "values": [f"2026-01-01T00:0{i}:00.000Z" for i in range(6)],
    }
    chart = {"id": "x", "kind": "line", "from_zero": False, "title": "t", "x": x, "y": {"label": "t", "unit": "kW"}, "limit": None,
             "band": None, "marks": [], "series": [{"name": "a", "values": [1, 2, None, None, 5, 5]}]}  # fmt: skip
    lines = [s for s in draw(chart, 400, 200) if s.width > 1]
    assert [len(s.points) for s in lines] == [2, 2]
    chart["series"] = [{"name": "a", "values": [None] * 6}]
    assert draw(chart, 400, 200) == []
    assert "no reading" in svg(chart)
    chart["series"] = [{"name": "a", "values": [3.0] * 6}]
    assert "<svg" in svg(chart)  # a flat line has a range too


async def test_the_api_reports_and_explains(hall: House) -> None:
    await some_time(hall, 6)
    for path in ("/report", "/report/judges"):
        status, found = await post(hall, path, {})
        assert (status, found["schema"]) == (200, 2)
    assert (
        await post(
            hall, "/report", {"since": "2026-01-01T00:00:00Z", "until": "2025-01-01T00:00:00Z"}
        )
    )[0] == 422
    status, ladder = await get(hall, "/explain")
    assert status == 200
    assert [r["step"] for r in ladder["rungs"] if r["decisive"]]
    assert (await get(hall, "/explain?act=nothing"))[0] == 404
    assert (await get(hall, "/explain?at=1980-01-01T00:00:00Z"))[0] == 404
    assert (await get(hall, "/explain?at=noon"))[0] == 422
    [act] = await hall.history.actions(0, 1, None, ("action",))
    then = utc(act.ts_s).replace("+00:00", "Z")
    status, ladder = await get(hall, f"/explain?at={then}")
    assert (status, ladder["id"]) == (200, act.detail["id"])
    timeline = (await post(hall, "/report", {}))[1]["timeline"]
    [told] = [t for t in timeline if t["id"] == ladder["id"]]
    assert told["candidates"] == act.detail["candidates"]


async def test_an_act_is_explained_from_what_was_measured_to_what_decided(hall: House) -> None:
    await some_time(hall, 9)
    [act] = await hall.history.actions(0, 1, None, ("action",))
    ladder = await explain(hall.history, hall.site, act.detail["id"])
    rungs = {r.step: r for r in ladder.rungs}
    assert rungs["prediction"].decisive
    assert sum(r.decisive for r in ladder.rungs) == 1
    weighed = rungs["candidates"].numbers["candidates"]
    assert weighed == act.detail["candidates"]
    made = next(c for c in weighed if c["point"] in act.detail["changes"] and c["against"] is None)
    assert made["predicted_kw"] == pytest.approx(act.detail["predicted_kw"], abs=0.01)
    worth = [c["worth_kw"] for c in weighed]
    assert worth == sorted(worth, reverse=True)
    assert all(c["predicted_sigma_kw"] > 0 for c in weighed)
    assert any(":" in c["against"] or "wanted" in c["against"] for c in weighed if c["against"])
    assert (await explain(hall.history, hall.site, None, act.ts_s + 0.001)).id == ladder.id
    with pytest.raises(NothingToExplain, match="until then"):
        await explain(hall.history, hall.site, None, 1.0)
    inlet = rungs["inputs"].numbers["inlet_c"]
    at = await hall.history.series(inlet["point"], act.ts_s - 60, act.ts_s + 0.001)
    assert inlet["value"] == at[-1].value
    await hall.agent.change_mode(Event.LOWER, "", "cli", "engineer")
    await hall.minutes(6)
    [refused] = await hall.history.actions(0, 1, None, ("decision",))
    ladder = await explain(hall.history, hall.site, refused.uid)
    [decisive] = [r for r in ladder.rungs if r.decisive]
    assert (decisive.step, "mode" in decisive.text) == ("verdict", True)
    earlier = await explain(hall.history, hall.site, act.detail["id"])
    assert "no longer armed" in earlier.rungs[-1].text
    with pytest.raises(NothingToExplain, match="the latest are"):
        await explain(hall.history, hall.site, "nothing")


@pytest.mark.parametrize(("text", "ago_s"), [("90m", 5_400), ("24h", 86_400), ("7d", 604_800)])
def test_since_says_how_far_back(text: str, ago_s: float) -> None:
    assert moment(text, 1e9) == 1e9 - ago_s


@pytest.mark.parametrize("pair", [(2.0, 1.0), (0.0, 400 * 86_400.0), (5.0, 5.0)])
def test_a_span_that_is_none_is_refused(pair: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="up to a year"):
        Span.of(*pair)


async def test_the_commands_read_the_same_history(hall: House, tmp_path: Path) -> None:
    import asyncio

    since_s, until_s = await some_time(hall, 6)
    found = await report(hall.history, hall.site, since_s, until_s, until_s)
    assert any("Wh/prompt" in line for line in summary(found))
    from agent.cli import skadi
    from agent.clock import utc

    file = tmp_path / "site.toml"
    file.write_text(
        f'config_version = 1\n[site]\nid = "rehearsal"\narea = "hall"\n[agent]\ndata_dir = "{tmp_path}"\n'
        f'[history]\nurl = "sqlite:///{tmp_path}/history.db"\n'
        '[[device]]\nid = "gate"\nprotocol = "push"\n[[device.point]]\nid = "x"\nquantity = "inlet_c"\n'
    )
    page = tmp_path / "page.html"
    args = [
        "report",
        "-c",
        str(file),
        "--since",
        utc(since_s),
        "--until",
        utc(until_s),
        "--html",
        str(page),
        "--pdf",
        str(page.with_suffix(".pdf")),
        "--json",
        "-",
    ]
    result = await asyncio.to_thread(CliRunner().invoke, skadi, args)
    assert result.exit_code == 0, result.output
    assert page.read_text().startswith("<!doctype html>")
    assert page.with_suffix(".pdf").read_bytes().startswith(b"%PDF-")
    told = json.loads(result.stdout)
    assert told["actions"]["moves"] == found["actions"]["moves"]
    result = await asyncio.to_thread(
        CliRunner().invoke, skadi, ["explain", "-c", str(file), "--json"]
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["rungs"]
    result = await asyncio.to_thread(
        CliRunner().invoke, skadi, ["report", "-c", str(file), "--since", "soon"]
    )
    assert result.exit_code == 2
