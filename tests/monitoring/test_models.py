"""Models in history: what they are trained on, who lets them judge, and the way back."""

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from agent.cli.models import difference
from agent.clock import VirtualClock
from agent.history.service import History
from agent.models import DRIFT, SHADOW, SHADOW_S, Models, take_over, trained_of
from agent.nominal import Out, left_out, mask
from agent.operations.table import Caller, Result, call
from agent.replay.play import replay_history
from agent.replay.plot import draw
from agent.training import TrainingError, TrainOptions, train
from agent.training_history import Asked, train_from_history
from config.schema import ImsSection
from control.features import unit_names
from control.layout import Layout
from control.monitor import Trained, with_drift
from control.types import Finding
from tests.agent.make import site
from tests.api.make import ENVIRON, hall_site, house, post

T0 = 1_767_225_600.0
ENGINEER = Caller("ann", "cli", "engineer")


def document(seed: int = 1) -> dict[str, object]:
    x = np.random.default_rng(seed).normal([22.0 + seed, 8.0], [0.2, 0.3], (200, 2))
    model = Trained(train(x, ["inlet_c", "pdu_kw"], TrainOptions(clusters=2)))
    return {"id": model.ims.id, **model.to_dict()}


@pytest.fixture
async def history(tmp_path: Path):
    made = History(site(tmp_path), VirtualClock(T0))
    await made.start()
    yield made
    await made.close()


def finding(unit: str, state: str) -> Finding:
    return Finding(unit, 1.0, 1.0, state, T0)


ACTIONS: list[tuple[dict[str, object], list[tuple[str, float, float, str]]]] = [
    ({"type": "action", "loop": "operator", "receipts": {"crac-a1/supply_air_c": "applied"}},
     [("row:A", -60, 1800, "work by hand")]),
    ({"type": "action", "loop": "slow", "receipts": {"crac-a1/supply_air_c": "overridden"}},
     [("row:A", -60, 1800, "work by hand")]),
    ({"type": "action", "loop": "slow", "receipts": {"crac-a1/supply_air_c": "applied"}}, []),
    ({"type": "maintenance", "scope": "rack:A01", "until": "2026-01-01T03:00:00Z"},
     [("rack:A01", 0, 7200, "maintenance")]),
    ({"type": "alarm", "id": "row:A", "state": "unacknowledged"}, [("row:A", -600, 10_200, "alarm")]),
    ({"type": "alarm", "id": "network", "state": "shelved"}, [("hall", -600, 10_200, "alarm")]),
    ({"type": "alarm", "id": "mqtt", "state": "unacknowledged"}, []),
]  # fmt: skip


@pytest.mark.parametrize(("record", "expected"), ACTIONS)
async def test_each_rule_leaves_out_its_own(
    history: History, record: dict[str, object], expected: list[tuple[str, float, float, str]]
) -> None:
    """Records at T0 + 3600, asked until T0 + 13200."""
    history.add_action({"ts_s": T0 + 3600, **record})
    await history.flush()
    out = await left_out(history, site(), T0, T0 + 13_200, trust_alarms=True)
    assert [(o.scope, o.since_s - T0 - 3600, o.until_s - T0 - 3600, o.why) for o in out] == expected


async def test_an_alarm_ends_and_what_was_persistent_is_left_out_unless_distrusted(
    history: History,
) -> None:
    for at_s, state in ((0, "unacknowledged"), (60, "acknowledged"), (600, "normal")):
        for name in ("row:A", "hall"):
            history.add_action({"ts_s": T0 + at_s, "type": "alarm", "id": name, "state": state})
    for k in range(100):
        state = "persistent" if 50 <= k < 60 else "nominal"
        history.add_scores(T0 + 6000 + 10 * k, [finding("rack:A01", state)])
    await history.flush()
    out = await left_out(history, site(), T0 - 10, T0 + 13_200, trust_alarms=True)
    assert {(o.scope, o.since_s - T0, o.until_s - T0) for o in out} == {
        ("hall", -600, 1200), ("row:A", -600, 1200), ("rack:A01", 5400, 7200),
    }  # fmt: skip
    assert await left_out(history, site(), T0 - 10, T0 + 13_200, trust_alarms=False) == []


def test_the_mask_reaches_from_a_row_to_its_racks_and_counts_no_row_twice() -> None:
    hall, times = site(), T0 + 10.0 * np.arange(100)
    units = unit_names(Layout(hall))
    assert units == ("rack:A01", "row:A", "hall")
    out = [Out(T0, T0 + 100, "row:A", "alarm"), Out(T0 + 50, T0 + 150, "rack:A01", "persistent"),
           Out(T0 + 900, T0 + 2000, "hall", "maintenance"), Out(T0, T0 + 1000, "rack:X", "alarm")]  # fmt: skip
    gone, why = mask(hall, units, times, out)
    assert gone[:, 0].sum() == 10 + 5 + 10
    assert gone[:, 1].sum() == 10 + 10
    assert gone[:, 2].sum() == 15 + 10, "the hall is as nominal as all of its parts"
    assert why == {"alarm": 10.0, "maintenance": 10.0, "persistent": 3.33}


async def test_a_new_model_waits_in_shadow_and_an_old_one_comes_back_at_once(
    history: History,
) -> None:
    for seed in (1, 2, 3):
        await history.save_model(document(seed), f"seed {seed}")
    take = lambda v, force=False: take_over(history, v, force, "ann", T0)  # noqa: E731
    assert (await take(1))[0], "with no active model there is nothing to run beside"
    ok, detail, refused = await take(2)
    assert (ok, refused) == (False, True)
    assert "shadow for 0 min of 60" in detail["reason"]
    await history.set_setting(SHADOW, {"version": 2, "seconds": SHADOW_S})
    assert (await take(3))[2], "another version's shadow does not count"
    assert await take(2) == (True, {"active": 2, "before": 1}, False)
    assert await take(1) == (True, {"active": 1, "before": 2}, False)
    assert (await take(1))[1]["reason"] == "version 1 is active already"
    assert (await take(3, force=True))[0]
    assert (await take(9, force=True))[1]["reason"].startswith("no version 9")


def test_what_changed_is_told_in_units_and_scales() -> None:
    a, b = document(1), document(3)
    found = difference(a, b)
    low, high = found["moved"]["inlet_c"]["usual"]
    assert high - low == pytest.approx(2.0, abs=0.1)
    assert found["moved"]["inlet_c"]["scales"] == pytest.approx(
        (high - low) / found["moved"]["inlet_c"]["scale"][0]
    )
    assert abs(found["moved"]["pdu_kw"]["scales"]) < 1.0
    assert found["features_gone"] == found["units_new"] == []


async def asked(agent: object, name: str, **arguments: object) -> Result:
    return await call(agent, name, arguments, ENGINEER)  # type: ignore[arg-type]


async def test_from_history_to_shadow_to_judge_and_back(tmp_path: Path) -> None:
    """The whole life of a model on the bundled hall, through the one table of operations."""
    one_region = hall_site(tmp_path, push=False, ims=ImsSection(clusters=1))
    async with house(tmp_path, one_region) as hall:
        for _ in range(2):
            await hall.minutes_alone(6.0)
        assert (await asked(hall.agent, "ims.train")).detail["reason"].endswith("no models")
        models = Models(hall.agent, hall.history, ENVIRON)
        hall.agent.services.models = models
        hall.agent.listeners.append(models.listen)
        await models.start()
        assert hall.agent.setting.monitor is None
        now_s = hall.clock.now_s()
        status, answer = await post(hall, "/ims/train", {"since": "12m"}, "operator")
        assert (status, answer["detail"]["started"]) == (200, True)
        assert not (await asked(hall.agent, "ims.train", since="12m")).ok, "one at a time"
        assert (await post(hall, "/ims/train", {"since": "soon"}, "operator"))[0] == 409
        assert (await post(hall, "/ims/train", {}, "viewer"))[0] == 403
        assert models._task is not None
        await models._task
        listed = (await asked(hall.agent, "models.list")).detail
        assert listed["training"] == {"running": False, "ok": True, "version": 1}
        assert hall.agent.setting.monitor is None, "trained is not approved"
        stored = await hall.history.model(1)
        assert stored is not None
        assert stored.document is not None
        about = stored.document["about"]
        assert about["rows"] >= 130
        assert about["days"] == 1
        assert set(about["coverage"]) >= {"outdoor_c", "prompts_ps", "it_power_kw"}
        low, high = about["trained_range"]["inlet_c"]
        assert 15 < low < high < 28

        assert (await asked(hall.agent, "models.activate", version=1)).ok
        assert hall.agent.setting.monitor is not None
        assert hall.agent.setting.monitor.model.id == stored.id
        await hall.history.save_model(stored.document, "the same once more")
        await models.keep()
        assert models.shadow is not None
        assert models.shadow.version == 2
        events: list[dict[str, object]] = []
        hall.agent.listeners.append(lambda kind, d: events.append(d) if kind == "event" else None)
        await hall.minutes(3.0)
        said = [e for e in events if e.get("kind") == "mms" and e["state"] == "nominal"]
        assert {e["unit"] for e in said} == {"hall", *(f"row:{r}" for r in hall.site.rows)}
        assert all("against tau_fast" in str(e["why"]) and e["since"] for e in said)
        await models.keep()
        tally = (await asked(hall.agent, "models.list")).detail["shadow"]
        assert tally["version"] == 2
        assert 100 < tally["seconds"] <= 180
        assert sum(tally["active"].values()) == sum(tally["candidate"].values()) > 1000
        assert tally["candidate"]["persistent"] == 0
        refused = await asked(hall.agent, "models.activate", version=2)
        assert refused.refused
        assert "3 min of 60" in refused.detail["reason"]
        assert (await asked(hall.agent, "models.activate", version=2, force=True)).ok
        assert models.shadow is None
        assert (await asked(hall.agent, "models.activate", version=1)).ok, "back without a shadow"

        monitor = hall.agent.setting.monitor
        assert monitor is not None
        assert hall.agent.control.monitor is None, "a model that takes over has learned nothing yet"
        await hall.minutes(1.0)
        assert hall.agent.control.monitor is not None
        learned = np.full_like(hall.agent.control.monitor.ims.drift, 0.25)
        known = with_drift(hall.agent.control.monitor, learned)
        hall.agent.control = replace(hall.agent.control, monitor=known)
        await models.keep()
        for _ in range(2):  # two restarts: of a model in history, and of one that knows of none yet
            hall.agent.control = replace(hall.agent.control, monitor=None)
            again = Models(hall.agent, hall.history, ENVIRON)
            await again.start()
            assert hall.agent.control.monitor is not None
            assert (hall.agent.control.monitor.ims.drift == learned).all()
        kept = await hall.history.get_setting(DRIFT)
        for other in ({"model": "another"}, {"at_s": now_s - 8 * 86_400}, {"units": ["rack:A01"]}):
            await hall.history.set_setting(DRIFT, kept | other)
            await Models(hall.agent, hall.history, ENVIRON).start()
            state = hall.agent.control.monitor
            assert state is None or not state.ims.drift.any(), other

        writes = hall.run.wire.writes
        track = await replay_history(
            hall.site, hall.history, trained_of(stored), now_s - 600, now_s - 300
        )
        assert hall.run.wire.writes == writes, "a replay has no wire"
        assert len(track.times_s) == 60
        told = track.told()
        assert {u for u, s in told["states"].items() if s.get("persistent")} == set()
        assert all(s["nominal"] > 30 for s in told["states"].values())
        assert {a["done"] for a in told["actions"]} == {False}, "nothing was done, some was wished"
        saved = told["saving"]
        assert saved["steps"] == len(told["actions"]) > 0
        assert saved["low"] <= saved["kwh"] <= saved["high"]
        draw(track, tmp_path / "hall.svg", "hall")
        assert ElementTree.parse(tmp_path / "hall.svg").getroot().tag.endswith("svg")

        again = Models(hall.agent, hall.history, ENVIRON)  # a restart takes up the active one
        hall.agent.setting = replace(hall.agent.setting, monitor=None)
        await again.start()
        assert hall.agent.setting.monitor is not None

        with pytest.raises(TrainingError, match="no reading"):
            await train_from_history(hall.site, ENVIRON, Asked(now_s - 9e6, now_s - 8e6))
        marked = {"scope": "hall", "since": "2h", "until": "2027-01-01T00:00:00Z", "note": "works"}
        assert (await asked(hall.agent, "models.exclude", **marked)).ok
        await hall.history.flush()
        with pytest.raises(TrainingError, match=r"no nominal stretch.* for maintenance"):
            await train_from_history(hall.site, ENVIRON, Asked(now_s - 720, now_s))
