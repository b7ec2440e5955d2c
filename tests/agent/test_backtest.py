"""What first steps are worth, by hand; and two models on one history, as a person asks it."""

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from agent.backtest import Wish, difference, earlier, saving
from agent.cli.replay import replay as command
from agent.clock import VirtualClock, utc
from agent.history.service import History
from agent.training import TrainOptions, train
from config.loader import load_site
from config.site import Site
from control.monitor import Trained
from control.types import Quality, Reading


def test_a_wish_counts_until_it_is_wished_again_or_half_an_hour() -> None:
    wishes = [Wish(0, "fan", "row:A", -2.0, 0.5), Wish(900, "fan", "row:A", -4.0, 0.5),
              Wish(1_000, "pump", "hall", -1.0, 0.2), Wish(3_500, "fan", "row:B", 3.0, 0.0)]  # fmt: skip
    found = saving(wishes, 3_600)
    assert found["kwh"] == pytest.approx(2 * 0.25 + 4 * 0.5 + 1 * 0.5 - 3 * 100 / 3_600)
    half = 1.96 * ((0.5 * 0.75) ** 2 + (0.2 * 0.5) ** 2) ** 0.5
    assert (found["high"] - found["kwh"], found["kwh"] - found["low"]) == pytest.approx(
        (half, half)
    )
    assert saving([], 10)["kwh"] == 0


def test_the_difference_carries_both_doubts() -> None:
    ours, theirs = {"kwh": 5.0, "high": 8.0}, {"kwh": 3.0, "high": 7.0}
    assert difference(ours, theirs) == {"unit": "kWh", "kwh": 2.0, "low": -3.0, "high": 7.0}


def test_an_earlier_replay_is_told_from_a_model(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text(json.dumps({"saving": {"kwh": 1, "low": 0, "high": 2}}))
    assert earlier(file) == {"kwh": 1.0, "low": 0.0, "high": 2.0}
    file.write_text(json.dumps({"format": "model"}))
    assert earlier(file) is None
    file.write_text(json.dumps({"saving": {"kwh": "much"}}))
    with pytest.raises(ValueError, match="saving"):
        earlier(file)


T0 = 1_767_225_600.0
SITE = """config_version = 1
[site]
id = "x"
area = "hall"
timezone = "UTC"
[agent]
data_dir = "{folder}"
[[device]]
id = "rack"
protocol = "push"
"""
POINT = '[[device.point]]\nid = "{0}"\nquantity = "{0}"\nrack = "A01"\nrow = "A"\n'


async def filled(site: Site, rng: np.random.Generator) -> None:
    history = History(site, VirtualClock(T0))
    assert await history.start()
    for i in range(240):
        at_s, x = T0 + 5.0 * i, (22.0 + rng.normal(0, 0.2), 8.0 + rng.normal(0, 0.2))
        keys = (f"rack/{name}" for name in ("inlet_c", "pdu_kw"))
        readings = [Reading(k, v, at_s, Quality.GOOD) for k, v in zip(keys, x, strict=True)]
        history.add_readings(site.devices[0], readings)
    assert await history.flush()
    await history.close()


def test_two_models_on_one_history(tmp_path: Path) -> None:
    """The second expects air 4 K colder than it was: persistent where the first finds nothing."""
    file = tmp_path / "site.toml"
    points = "".join(map(POINT.format, ("inlet_c", "pdu_kw")))
    file.write_text(SITE.format(folder=tmp_path) + points)
    rng = np.random.default_rng(3)
    asyncio.run(filled(load_site(file), rng))
    for name, inlet_c in (("fits", 22.0), ("colder", 18.0)):
        rows = rng.normal([inlet_c, 8.0], 0.2, (400, 2))
        model = Trained(train(rows, ["inlet_c", "pdu_kw"], TrainOptions(clusters=1)))
        (tmp_path / f"{name}.json").write_text(json.dumps(model.to_dict()))

    def asked(*arguments: str) -> Result:
        span = ("--since", utc(T0), "--until", utc(T0 + 1_200))
        return CliRunner().invoke(command, ["-c", str(file), *span, "--json", *arguments])

    def replay(*arguments: str) -> Any:
        done = asked(*arguments)
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    fits, colder, release = (str(tmp_path / f"{x}.json") for x in ("fits", "colder", "release"))
    first = replay("--model", fits, "--against", colder)
    assert "persistent" not in first["states"]["row:A"]
    assert first["against"]["file"] == "colder.json"
    assert set(first["against"]["difference"]) == {"unit", "kwh", "low", "high"}
    second = replay("--model", colder)
    assert second["states"]["row:A"]["persistent"] > 100
    Path(release).write_text(json.dumps(second))
    third = replay("--model", fits, "--against", release)
    assert third["against"]["saving"]["kwh"] == second["saving"]["kwh"]

    (tmp_path / "junk.json").write_text("{")
    for name in ("junk.json", "site.toml"):
        refused = asked("--model", fits, "--against", str(tmp_path / name))
        assert (refused.exit_code, name in refused.output) == (78, True), refused.output
