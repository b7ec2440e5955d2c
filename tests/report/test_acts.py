"""What a report says of acts: savings add up over the time moves were held, alarms are counted once."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.clock import utc
from agent.history.query import Action
from agent.journal import Journal
from agent.reports.acts import alarms, audit, saving, timeline
from agent.reports.grid import Grid, Span
from agent.reports.page import rehearsal_page
from agent.reports.pdf import pdf_of
from agent.reports.rehearsal import bars, compare, kept, read_results, write_report
from tests.api.make import hall_site

H = 3_600.0
SPAN = Span.of(1_000_000.0 * H, 1_000_004.0 * H)
NOTHING_HELD = Grid((), *(np.empty((0, SPAN.steps)) for _ in range(3)))
FAN, SHARE = "crac-a1/fan_rpm_setpoint_pct", "router/share_a"


def at(hours: float, kind: str, **detail: Any) -> Action:
    ts_s = SPAN.since_s + hours * H
    named = {k: detail.get(k) for k in ("loop", "move", "scope")}
    return Action(ts_s, "s1", kind, **named, detail=detail, uid=f"{kind}{hours}")


def made(hours: float, id_: str, kw: float, sigma_kw: float = 0.0, point: str = FAN) -> Action:
    return at(hours, "action", id=id_, loop="slow", move="fan", scope=point, complete=True,
              changes={point: [100.0, 95.0]}, predicted_kw=kw, predicted_sigma_kw=sigma_kw)  # fmt: skip


def ended(hours: float, target: str, point: str = FAN, receipt: str = "applied") -> Action:
    return at(hours, "ending", point=point, target=target, receipt=receipt, reason="because")


def saved(tmp_path: Path, *acts: Action, total_kwh: float | None = 100.0) -> dict[str, Any]:
    newest_first = sorted(acts, key=lambda a: -a.ts_s)
    return saving(hall_site(tmp_path, push=False), newest_first, SPAN, NOTHING_HELD, total_kwh)


@pytest.mark.parametrize(
    ("acts", "kwh"),
    [
        ([made(1, "a", -2.0)], 6.0),
        ([made(-3, "a", -2.0)], 8.0),  # made before the span, held through it
        ([made(-3, "a", -2.0), ended(-1, "baseline")], 0.0),
        ([made(0, "a", -2.0), made(1, "b", -1.0)], 11.0),
        ([made(0, "a", -2.0), made(1, "b", -1.0), ended(2, "baseline")], 5.0),
        ([made(0, "a", -2.0), made(1, "b", -1.0), ended(2, "previous")], 9.0),
        ([made(0, "a", -2.0), ended(2, "baseline", receipt="failed")], 8.0),  # it still stands
        ([made(0, "a", +1.0)], -4.0),
        ([made(0, "a", -2.0), at(1, "judged", id="a", realised_kw=0.0)], 0.0),
        ([made(0, "a", -2.0), at(1, "judged", id="a", realised_kw=-0.5)], 2.0),
        ([made(0, "a", -2.0), at(1, "judged", id="a", realised_kw=None)], 8.0),
    ],
)
def test_a_saving_is_power_times_the_time_a_move_was_held(
    tmp_path: Path, acts: list[Action], kwh: float
) -> None:
    found = saved(tmp_path, *acts)
    assert found["kwh"] == pytest.approx(kwh)
    assert sum(found["split"].values()) == pytest.approx(kwh)
    assert found["pct"] == pytest.approx(100 * kwh / (100 + kwh))


def test_doubt_adds_up_within_a_knob_and_in_squares_between_knobs(tmp_path: Path) -> None:
    same = saved(tmp_path, made(0, "a", -2.0, 1.0), made(0, "b", -2.0, 1.0))
    assert same["high"] - same["kwh"] == pytest.approx(1.96 * 8.0)
    apart = saved(tmp_path, made(0, "a", -2.0, 1.0), made(0, "b", -2.0, 1.0, "pump-a/x"))
    assert apart["high"] - apart["kwh"] == pytest.approx(1.96 * 32.0**0.5)


def test_advisory_says_what_it_would_have_begun_with(tmp_path: Path) -> None:
    denied = [at(h, "decision", id=f"d{h}", loop="slow", move="fan", scope=FAN, rule="mode",
                 would=True, predicted_kw=-kw) for h, kw in ((0, 2.0), (1, 4.0))]  # fmt: skip
    found = saved(tmp_path, *denied, total_kwh=None)
    assert found["would"] == {"proposals": 2, "knobs": 1, "first_step_kw": -3.0, "unit": "kW"}
    assert (found["kwh"], found["pct"]) == (0.0, None)


def test_one_alarm_that_changes_its_face_is_one_alarm() -> None:
    def told(hours: float, name: str, state: str, calls: bool) -> Action:
        return at(hours, "alarm", id=name, state=state, calls=calls, severity="high", text="t",
                  since=utc(SPAN.since_s + hours * H))  # fmt: skip

    acts = [told(0, "a", "unacknowledged", False), told(0.1, "a", "unacknowledged", True), told(0.2, "a", "acknowledged", True),
            told(1, "a", "normal", False), told(2, "a", "unacknowledged", True), told(2.05, "b", "unacknowledged", True)]  # fmt: skip
    found = alarms(acts[::-1])
    assert (found["raised"], found["called"], found["most_in_10_min"]) == (3, 3, 2)
    assert [bool(x["until"]) for x in found["list"]] == [True, False, False]


def test_the_timeline_tells_what_came_of_each_act() -> None:
    acts = [made(0, "a", -2.0), made(1, "b", -1.0), at(2, "judged", id="a", realised_kw=-1.5),
            at(2, "judged", id="b", realised_kw=0.4, undo="dearer")]  # fmt: skip
    told = timeline(acts[::-1])
    assert [(t["id"], t["realised_kw"], t["outcome"]) for t in told] == [
        ("a", -1.5, "kept"),
        ("b", 0.4, "undone: dearer"),
    ]


def test_the_journal_of_another_host_and_one_that_was_changed_are_said(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    assert audit(path, SPAN)["chain"] is None
    journal = Journal(path)
    journal.note(SPAN.since_s + 5, "mode", {"change": "lower", "role": "operator"})
    journal.note(SPAN.until_s + 5, "mode", {"change": "raise", "role": "engineer"})
    found = audit(path, SPAN)
    assert (found["chain"], found["entries"], found["people"][0]["role"]) == (
        "whole",
        1,
        "operator",
    )
    journal._db.execute("UPDATE entry SET body = '{}' WHERE seq = 1")
    assert audit(path, SPAN)["chain"] == "broken"
    journal.close()


def result(controller: str, kwh: float, **more: Any) -> dict[str, Any]:
    return {"controller": controller, "plant": "hall", "scenario": "default", "seed": 1, "hours": 1.0,
            "wh_per_prompt": kwh, "total_kwh": kwh, "it_kwh": 0.7 * kwh, "cooling_kwh": 0.2 * kwh,
            "prompts": 1000.0, **more}  # fmt: skip


def test_a_saving_is_only_between_runs_of_the_same_hall() -> None:
    runs = [result("oracle", 8.0), result("skadi", 9.0), result("fixed", 10.0), result("pid", 9.5, seed=2)]  # fmt: skip
    compared = compare(runs)
    assert compared is not None
    assert [(r["controller"], r["saving_pct"]) for r in compared["runs"]] == [
        ("fixed", None), ("pid", None), ("skadi", pytest.approx(10.0)), ("oracle", pytest.approx(20.0)),
    ]  # fmt: skip
    [skadi] = [r for r in compared["runs"] if r["controller"] == "skadi"]
    assert sum(skadi["saving_split"].values()) == pytest.approx(10.0)
    [chart] = bars(compared)
    assert [
        sum(v) for v in zip(*(s["values"] for s in chart["series"]), strict=True)
    ] == pytest.approx([10, 9.5, 9, 8])
    assert pdf_of(rehearsal_page(compared, [chart])).startswith(b"%PDF-")
    assert compare([]) is None


def test_deferred_work_is_charged_from_the_plants_own_account() -> None:
    truth = result("", 10.0) | {"deferred_kwh": 1.0, "total_kwh": 11.0, "wh_per_prompt": 11.0}
    compared = compare([result("fixed", 10.0), result("skadi", 10.0, truth=truth)])
    assert compared is not None
    assert compared["runs"][1]["saving_split"]["deferred work"] == pytest.approx(-10.0)
    assert compared["runs"][1]["saving_pct"] == pytest.approx(-10.0)


@pytest.mark.parametrize("text", [
    "", "[1]", "{}", '{"controller": "skadi"}', "not json", '{"controller": "skadi", "wh_per_prompt": 1}',
    '{"controller": "skadi", "wh_per_prompt": 1, "total_kwh": []}', '{"baseline": 1, "skadi": 2}',
])  # fmt: skip
def test_a_file_that_is_no_rehearsal_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "x.json"
    file.write_text(text)
    if text:
        with pytest.raises(ValueError, match=r"."):
            read_results(file)
    else:
        assert read_results(file) == []


def test_what_lies_in_the_folder_is_taken_and_what_is_wrong_is_named(tmp_path: Path) -> None:
    assert kept(tmp_path) == ([], [])
    folder = tmp_path / "rehearsals"
    folder.mkdir()
    (folder / "a.json").write_text(json.dumps(result("fixed", 10.0)))
    (folder / "b.json").write_text("{}")
    found, [wrong] = kept(tmp_path)
    assert ([r["controller"] for r in found], "b.json: not a result" in wrong) == (["fixed"], True)


def test_rehearsals_become_a_file_of_their_own(tmp_path: Path) -> None:
    runs = [result("skadi", 9.0), result("fixed", 10.0)]
    for name, begins in (("r.html", b"<!doctype html>"), ("r.pdf", b"%PDF-"), ("r.json", b"{")):
        write_report(runs, tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(begins)
    assert "+7.0" in (tmp_path / "r.html").read_text()  # points saved at the IT
    for wrong in ("r.txt", "r"):
        with pytest.raises(ValueError, match="end it in"):
            write_report(runs, tmp_path / wrong)
    with pytest.raises(ValueError, match="no results"):
        write_report([], tmp_path / "r.html")
