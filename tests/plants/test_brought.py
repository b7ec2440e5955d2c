"""Plants that somebody brought, and what is wrong with them: said by name, in one line, and closed."""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from agent.cli.rehearse import rehearse as command
from agent.plants.site import PlantError
from agent.rehearse import Rehearsal, Rehearsed, load_plant, rehearse
from tests.plants.tiny import P, TwoZones

ME = "tests.plants.test_brought"


class Closing(TwoZones):
    """Remembers what it was asked and whether it was closed."""

    asked: list[tuple[float, dict[str, float]]] = []  # noqa: RUF012 - emptied by each test
    closed_count = 0

    def step(self, dt_s: float, setpoints: Mapping[str, float]) -> dict[str, float]:
        self.asked.append((dt_s, dict(setpoints)))
        return super().step(dt_s, setpoints)

    def close(self) -> None:
        Closing.closed_count += 1


def with_knob(**changes: Any) -> type:
    """A plant whose first knob is another."""

    def points(self: TwoZones) -> list[P]:
        *others, knob = super(cls, self).points()  # type: ignore[misc]
        return [*others, replace(knob, **changes)]

    cls = type("Changed", (Closing,), {"points": points})
    return cls


def answering(**readings: Any) -> type:
    def step(self: TwoZones, dt_s: float, setpoints: Mapping[str, float]) -> dict[str, Any]:
        return {k.replace("__", "/"): v for k, v in readings.items()}

    return type("Answering", (Closing,), {"step": step})


class Explodes(Closing):
    """Has a fault of its own."""

    def step(self, dt_s: float, setpoints: Mapping[str, float]) -> dict[str, float]:
        raise KeyError("pump")


class Bare:
    """Half a plant."""

    step_s = 60.0

    def points(self) -> list[P]:
        return [P("a/b", "zone_c", "degC")]


NanBaseline, FarBaseline = with_knob(baseline=math.nan), with_knob(baseline=40.0)
Crossed, Negative, Text = with_knob(min=27.0, max=14.0), with_knob(max_step=-1.0), with_knob(min="low")  # fmt: skip
Twice, Misspelt, Fahrenheit = with_knob(id="east/zone_c"), with_knob(quantity="suply_air_setpoint_c"), with_knob(unit="degF")  # fmt: skip
Empty = type("Empty", (Closing,), {"points": lambda _: []})
Thin = type("Thin", (Closing,), {"points": lambda _: [Bare()]})
Words = answering(meter__total_power_kw="high")

WRONG = [
    ("NanBaseline", "baseline is nan; a number within 14..27"),
    ("FarBaseline", "baseline is 40.0; a number within 14..27"),
    ("Crossed", "min 27 is above max 14"),
    ("Negative", "max_step is -1.0; a number above 0"),
    ("Text", "needs min and max, finite numbers; min is 'low'"),
    ("Twice", "'east/zone_c': listed twice"),
    ("Misspelt", "did you mean 'supply_air_setpoint_c'?"),
    ("Fahrenheit", "supply_air_setpoint_c is in 'degC', not 'degF'"),
    ("Empty", "points() is empty"),
    ("Thin", "has no id, quantity, unit"),
    ("Bare", "it has no step, close"),
    ("Nowhere", "has no attribute 'Nowhere'"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "words"), WRONG, ids=[n for n, _ in WRONG])
def test_what_is_wrong_is_said_before_anything_runs(name: str, words: str) -> None:
    before = Closing.closed_count
    with pytest.raises(PlantError) as told:
        load_plant(f"{ME}:{name}", {})
    assert str(told.value).startswith(f"--plant '{ME}:{name}': ")
    assert words in str(told.value)
    assert Closing.closed_count == before + (name not in ("Bare", "Nowhere"))


def test_an_argument_it_does_not_take_names_those_it_takes() -> None:
    with pytest.raises(PlantError, match="with one of: best_c, end_h, nan_every"):
        load_plant(f"{ME}:Closing", {"color": "red"})
    with pytest.raises(PlantError, match="on PYTHONPATH and in the current folder"):
        load_plant("no_such_module:Plant", {})


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Explodes", "KeyError: 'pump' (test_brought.py:"),
        ("Words", "'meter/total_power_kw' is 'high'"),
    ],
)
async def test_what_a_step_does_wrong_is_said_and_the_plant_closed(name: str, words: str) -> None:
    before = Closing.closed_count
    with pytest.raises(PlantError) as told:
        await rehearse(Rehearsal(f"{ME}:{name}", {}, 1.0))
    assert words in str(told.value)
    assert Closing.closed_count == before + 1


async def test_steps_are_whole_and_the_first_asks_for_nothing() -> None:
    Closing.asked.clear()
    await rehearse(Rehearsal(f"{ME}:Closing", {"end_h": "20"}, 30.0))
    assert Closing.asked[0] == (900.0, {})
    assert all(dt_s > 0 and dt_s % 900.0 == 0 for dt_s, _ in Closing.asked)
    assert any(setpoints for _, setpoints in Closing.asked)


def test_the_command_prints_the_object_and_says_no_by_its_code() -> None:
    runner = CliRunner()
    fine = runner.invoke(command, ["--plant", f"{ME}:Closing", "--hours", "30", "--json"])
    assert fine.exit_code == 0
    result = json.loads(fine.stdout)
    assert result["hours"] == 30.0
    assert len(result["daily_total_kwh"]) == 2
    assert set(result["violation_steps"]) == {"inlet", "latency", "rack"}
    wrong = runner.invoke(command, ["--plant", f"{ME}:Closing", "--hours", "nan"])
    assert wrong.exit_code == 2


Hot = type("Hot", (Closing,), {"points": lambda s: [p for p in TwoZones.points(s) if not p.writable],
                               "step": lambda s, dt_s, _: TwoZones.step(s, dt_s, {}) | {"east/zone_c": 31.0}})  # fmt: skip


def test_a_limit_that_was_broken_is_exit_1_with_the_object() -> None:
    done = CliRunner().invoke(command, ["--plant", f"{ME}:Hot", "--hours", "2", "--json"])
    assert done.exit_code == 1
    assert json.loads(done.stdout)["violation_steps"] == {"inlet": 8, "latency": 0, "rack": 0}


class Silent(TwoZones):
    """Says where its zones are once, and never again."""

    def step(self, dt_s: float, setpoints: Mapping[str, float]) -> dict[str, float]:
        """Readings; of zones the first only, then one that is absent and one that is NaN."""
        first, readings = self.now_s == 0.0, super().step(dt_s, setpoints)
        if not first:
            del readings["east/zone_c"]
            readings["west/zone_c"] = math.nan
        return readings


async def test_a_reading_that_is_lost_stands_until_it_is_too_old(tmp_path: Path) -> None:
    """As with a device that does not answer: for three steps, then nothing is known."""
    run = Rehearsed(Rehearsal(f"{ME}:Silent", hours=2.0, controller="fixed"), tmp_path)
    said = []
    for _ in range(5):
        await run.tick()
        said.append({z: run.agent.snapshot().value(f"{z}/zone_c") for z in ("east", "west")})
    run.close()
    assert said == [{"east": 21.0, "west": 21.0}] * 4 + [{"east": None, "west": None}]
