"""Mixed data: readers, grids, provenance, bytes, and J/prompt against the simulated hall's truth."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from agent.clock import VirtualClock
from agent.dataset import mix as mixer
from agent.dataset.sources import READERS, quantity_of, read_source
from agent.dataset.times import Written
from agent.history.service import History
from agent.rehearse import START_S, Rehearsal, Rehearsed
from agent.table import TableError
from config.schema import AgentSection
from simulators.hall.arrivals import read_trace

TRACES = Path(__file__).parents[3] / "shared" / "traces"
needs_traces = pytest.mark.skipif(not TRACES.is_dir(), reason="../shared/traces is not here")


def mix(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "agent", "dataset", "mix", *map(str, arguments)]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False, env=env
    )


@needs_traces
def test_the_shared_traces_are_read_by_name_and_mixed_the_same_to_the_byte(tmp_path: Path) -> None:
    one = mix(TRACES, "-o", tmp_path / "one", "--json", cwd=tmp_path)
    assert one.returncode == 0, one.stderr
    two = mix(*sorted(TRACES.glob("*.csv")), "-o", tmp_path / "two", cwd=tmp_path)
    assert two.returncode == 0, two.stderr
    names = sorted(p.name for p in (tmp_path / "one").iterdir())
    assert names == ["mix.csv", "mix.parquet", "summary.html", "summary.json", "workload.csv"]
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), (
            name
        )
    sources = {s["file"]: s for s in json.loads(one.stdout)["sources"]}
    assert {f: s["reader"] for f, s in sources.items()} == {
        "Alibaba_CPU_Data_Hourly_1.csv": "alibaba-cpu", "Alibaba_CPU_Data_Hourly_2.csv": "alibaba-cpu",
        "GoogleClusteData_CPU_Data_Hourly_1.csv": "google-cpu", "azure2023_code.csv": "azure-llm",
        "azure2023_conv.csv": "azure-llm",
    }  # fmt: skip
    assert sources["azure2023_conv.csv"]["licence"] == "CC-BY-4.0"
    assert sources["azure2023_conv.csv"]["rows"] == 19_366
    assert all(len(s["sha256"]) == 64 and s["origin"] for s in sources.values())
    table = parquet.read_table(tmp_path / "one" / "mix.parquet")
    rate = np.array(table["azure2023_conv:prompts_ps"].to_pylist(), dtype=float)
    minutes = np.round(rate[~np.isnan(rate)] * 60)
    assert 37 <= minutes.min() < minutes.mean() < minutes.max() <= 600
    assert minutes.sum() == pytest.approx(19_366, rel=0.02), "but for the minutes at its edges"
    assert b"azure2023_conv" in table.schema.metadata[b"skadi"]
    a_minute = read_trace(tmp_path / "one" / "workload.csv")  # what `skadi sim --trace` draws from
    assert a_minute.sum() == pytest.approx(8_819, rel=0.05), "the first trace"


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[History, Rehearsed]]:
    """Two simulated hours in a history, beside the hall that knows the truth."""
    import asyncio

    folder = tmp_path_factory.mktemp("hall")
    run = Rehearsed(Rehearsal(hours=2.0, controller="fixed", tick_s=30.0), folder)
    run.site = replace(run.site, agent=AgentSection(data_dir=str(folder)))

    async def record() -> None:
        history = History(run.site, VirtualClock(START_S))
        assert await history.start()
        for _ in range(240):
            before_s = run.clock.now_s()
            assert await run.tick()
            now_s = (before_s + run.clock.now_s()) / 2  # powers are means over the tick
            for driver in run.drivers.values():
                readings = [replace(r, taken_s=now_s) for r in await driver.read(now_s)]
                history.add_readings(driver.device, readings)
            await history.flush()
        assert await history.flush()
        await history.rollup(now_s + 1_000)
        await history.close()

    asyncio.run(record())
    yield History(run.site, VirtualClock(START_S)), run
    run.close()


async def test_joules_per_prompt_are_the_simulated_halls_own_within_one_percent(
    hall: tuple[History, Rehearsed],
) -> None:
    history, run = hall
    span = await history.span()
    assert span == (START_S, START_S + 7_200)
    times_s = mixer.grid(*span, 60)
    columns = await mixer.own_columns(history, run.site, times_s, 60)
    await history.close()
    found = mixer.energy(columns, 60)
    truth = run.plant.truth()  # type: ignore[attr-defined]
    true_j = truth["total_kwh"] * 3.6e6 / truth["prompts"]
    assert found["j_per_prompt"] is not None
    print(
        f"J/prompt {found['j_per_prompt']:.2f}, truth {true_j:.2f}, {found['known_pct']:.1f} % known"
    )
    assert abs(found["j_per_prompt"] / true_j - 1) < 0.01
    assert found["known_pct"] == 100.0
    by = {c.name: c.values for c in columns}
    assert np.nanmin(by["aux_power_kw"]) > 0
    assert (by["inlet_c"] > 10).all()


def test_units_zones_and_sampling(tmp_path: Path) -> None:
    berlin = tmp_path / "room.csv"
    berlin.write_text(
        "Timestamp,Inlet Temperature (°F),Cooling_Unit_Power_Consumption(W),Remark\n"
        "2026-07-01 12:00:00,77,1500,ok\n2026-07-01 12:10:00,86,2500,ok\n"
        "2026-07-01 12:20:00,,3500,?\n2026-07-01 13:40:00,59,1000,ok\n", "utf-8",
    )  # fmt: skip
    source = read_source(berlin, "", Written("Europe/Berlin"))
    assert (source.reader, source.dated) == ("cooling-operations", True)
    start_s = datetime(2026, 7, 1, 12, tzinfo=ZoneInfo("Europe/Berlin")).timestamp()
    assert source.series[0].times_s[0] == start_s
    times_s = mixer.grid(start_s, start_s + 7_200, 300)
    columns, how = mixer.laid(source, times_s, 300)
    by = {c.name: c for c in columns}
    inlet, power = by["room:inlet_c"], by["room:cooling_power_kw"]
    assert how == "at its own times"
    assert inlet.values[:2].tolist() == pytest.approx([26.25, 28.75]), (
        "lines between samples, in degC"
    )
    assert power.values[:2].tolist() == pytest.approx([1.75, 2.25])
    assert np.isnan(inlet.values[6:]).all(), "a hole stays a hole"
    hour, _ = mixer.laid(source, mixer.grid(start_s, start_s + 3_600, 3_600), 3_600)
    assert hour[1].values[0] == pytest.approx(2.5), "finer samples are averaged"


def test_parquet_in_any_zone_and_a_day_keeps_its_time_of_day(tmp_path: Path) -> None:
    times = [datetime(2020, 1, 1, h, tzinfo=ZoneInfo("Asia/Tokyo")) for h in range(24)]
    table = pa.table({"time": pa.array(times, pa.timestamp("us", tz="Asia/Tokyo")),
                      "supply_air_temp_c": [float(h) for h in range(24)]})  # fmt: skip
    parquet.write_table(table, tmp_path / "day.parquet")
    source = read_source(tmp_path / "day.parquet", "dc-temperatures", Written(), "CC0-1.0")
    assert source.licence == "CC0-1.0"
    days = mixer.grid(1_767_225_600.0, 1_767_225_600.0 + 3 * 86_400, 3_600)
    (column,), how = mixer.laid(source, days, 3_600)
    assert how == "repeated, at its own time of day"
    assert column.values[15 + 24] == 0.0, "midnight in Tokyo is 15:00 UTC, each day"
    assert np.nanmax(column.values) == 23.0


@pytest.mark.parametrize(("column", "expected"), [
    ("Inlet_Temperature(°C)", ("inlet_c", "degC")), ("ChilledWaterTemp_F", ("chilled_water_c", "degF")),
    ("Total Power [kW]", ("total_power_kw", "kW")), ("fan speed (rpm)", None), ("comment", None),
    ("outdoor_humidity_pct", ("outdoor_humidity_pct", "%")), ("pump flow (l/min)", ("flow_lps", "l/min")),
    ("Inlet Temp (K)", ("inlet_c", "K")), ("Inlet Humidity (%)", ("humidity_pct", "%")), ("fan_power", None),
    ("cooling power (MW)", ("cooling_power_kw", "MW")), ("server power kW", ("it_power_kw", "kW")),
    ("Cooling_Unit_Power_Consumption(kW)", ("cooling_power_kw", "kW")), ("Temperature_Deviation(°C)", None),
    ("inlet (bananas)", None), ("CPU (0-1)", ("load_pct", "0-1")),
])  # fmt: skip
def test_a_columns_name_says_its_quantity_or_nothing(column: str, expected: object) -> None:
    assert quantity_of(column) == expected


@pytest.mark.parametrize(("name", "text", "word"), [
    ("x.csv", "a,b\n1,2\n", "no reader fits"),
    ("azure.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\nyesterday,1,2\n", "azure.csv:2"),
    ("google.csv", ",cpu_load\n1,much\n", "google.csv:2"),
    ("google.csv", ",cpu_load\n", "no rows"),
    ("bad.parquet", "not parquet", "not a Parquet file"),
])  # fmt: skip
def test_what_can_not_be_read_names_file_line_and_what_to_do(
    tmp_path: Path, name: str, text: str, word: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(TableError, match=word):
        read_source(tmp_path / name, "", Written())
    done = mix(name, "-o", "out", cwd=tmp_path)
    assert (done.returncode, word in done.stderr, "Traceback" in done.stderr) == (1, True, False)


def test_the_command_line_says_what_is_missing(tmp_path: Path) -> None:
    assert mix("-o", "out", cwd=tmp_path).returncode == 2
    assert mix("x.csv", "--timezone", "Mars/Base", "-o", "out", cwd=tmp_path).returncode == 2
    (tmp_path / "google.csv").write_text(",cpu_load\n1,0.5\n2,0.6\n")
    done = mix("google.csv", "-o", "out", cwd=tmp_path)
    assert (done.returncode, "give -c SITE" in done.stderr) == (1, True)
    assert set(READERS) == {
        "azure-llm",
        "google-cpu",
        "alibaba-cpu",
        "cooling-operations",
        "dc-temperatures",
    }
