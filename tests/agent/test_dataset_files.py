"""Other people's files: how they write times, numbers and units; each is read right or refused with
its file, line or row, column and what to do."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from agent.dataset import mix as mixer
from agent.dataset.sources import Source, read_source
from agent.dataset.times import Written
from agent.table import TableError
from tests.agent.test_dataset import mix

NOON_S = 1_782_907_200.0  # 2026-07-01 12:00 UTC
BERLIN = Written("Europe/Berlin")
TURN_S = 1_792_890_000.0  # 2026-10-25 01:00 UTC: clocks in Berlin go back


def read(folder: Path, text: str | bytes, how: Written = BERLIN, name: str = "room.csv") -> Source:
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return read_source(folder / name, "", how)


@pytest.mark.parametrize(("header", "cells"), [
    ("time", ("2026-07-01T12:00:00Z", "2026-07-01T12:10:00Z")),
    ("time", ("2026-07-01 14:00:00", "2026-07-01 14:10:00")),
    ("time", ("2026-07-01 07:00:00-05:00", "2026-07-01 07:10:00-05:00")),
    ("time", ("2026-07-01 08:00:00 -0400", "2026-07-01 08:10:00 -0400")),
    ("time", ("2026-07-01 12:00:00.000 UTC", "2026-07-01 12:10:00 UTC")),
    ("Zeit", ("2026-07-01 14:00", "2026-07-01 14:10")),
    ("DateTime", ("01.07.2026 14:00", "1.7.2026 14:10:00")),
    ("Date/Time", ("2026/07/01 14:00", "2026/7/1 14:10")),
    ("Time (UTC+3)", ("2026-07-01 15:00", "2026-07-01 15:10")),
    ("timeUTC", ("2026-07-01 12:00", "2026-07-01 12:10")),
    ("ts", ("1782907200", "1782907800")),
    ("ts", ("1782907200000", "1782907800000")),
    ("epoch", ("1782907200000000000", "1782907800000000000")),
    ("time_min", ("29715120", "29715130")),
    ("timestamp", ("20260701140000", "20260701141000")),
    ("Watts,timestamp", ("17,1782907200", "18,1782907800")),
])  # fmt: skip
def test_any_way_to_write_a_time(tmp_path: Path, header: str, cells: tuple[str, str]) -> None:
    source = read(tmp_path, f"{header},inlet_temp_c\n{cells[0]},20\n{cells[1]},21\n")
    assert source.dated
    assert source.series[0].times_s.tolist() == [NOON_S, NOON_S + 600]
    assert source.series[0].values.tolist() == [20.0, 21.0]


def test_a_format_of_its_own(tmp_path: Path) -> None:
    text = "time,inlet_temp_c\n7/1/2026 2:00 PM,20\n7/1/2026 2:10 PM,21\n"
    source = read(tmp_path, text, Written("Europe/Berlin", "%m/%d/%Y %I:%M %p"))
    assert source.series[0].times_s.tolist() == [NOON_S, NOON_S + 600]


@pytest.mark.parametrize("minutes", [1, 10, 30, 45, 60])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("racks", [1, 3])
def test_over_the_hour_that_comes_twice(
    tmp_path: Path, minutes: int, turned: bool, racks: int
) -> None:
    at = [TURN_S - 4 * 3_600 + 60 * minutes * k for k in range(8 * 60 // minutes)]
    walls = [datetime.fromtimestamp(t, ZoneInfo("Europe/Berlin")).replace(tzinfo=None) for t in at]
    rows = [f"{w},{20 + k / 100}" for k, w in enumerate(walls) for _ in range(racks)]
    if minutes == 60 and racks > 1:
        rows = [row for k, row in enumerate(rows) if walls[k // racks].hour != 2]  # none can tell
        at = [t for t, w in zip(at, walls, strict=True) if w.hour != 2]
    rows = rows[::-1] if turned else rows
    source = read(tmp_path, "\n".join(["time,inlet_temp_c", *rows]))
    assert source.series[0].times_s.tolist() == at
    assert (np.diff(source.series[0].values) > 0).all()


def test_numbers_with_commas_gaps_and_doubled_rows(tmp_path: Path) -> None:
    source = read(tmp_path, (
        '\ufeff"Zeitpunkt";"Inlet, left (°F)";"Inlet (°F)";"Fan Speed (%)";Note\r\n'
        "01.07.2026 14:20;79;77;-999;x\r\n"
        "01.07.2026 14:00;77;;50;x\r\n"
        "01.07.2026 14:10;78,8;n/a;60,5;x\r\n"
        "01.07.2026 14:10;78,8;;60,5;x\r\n"
        "01.07.2026 14:20;75;77;70;x\r\n"
    ))  # fmt: skip
    assert source.left_out == ("Note",)
    inlet, fan = source.series
    assert inlet.times_s.tolist() == [NOON_S, NOON_S + 600, NOON_S + 1_200]
    assert inlet.values.tolist() == pytest.approx([25.0, 26.0, 25.0])
    assert fan.values.tolist() == [50.0, 60.5, 70.0], "what no fan can turn at is no reading"


@pytest.mark.parametrize(("name", "text", "says"), [
    ("room.csv", "time,inlet_c\n2026-03-29 02:30,20\n", r"room.csv:2: column time: .*never was in Europe/Berlin"),
    ("room.csv", "time,inlet_c\n2026-07-01,20\n\n,21\n", r"room.csv:4: column time: '' is not a time"),
    ("room.csv", "time,inlet_c\n1782907200,20\n2026-07-01,20\n", r"room.csv:3: column time: .*another way"),
    ("room.csv", "Date,Time,inlet_c\n2026-07-01,14:00,20\n", r"room.csv:1: Date and Time: put date and time into one"),
    ("room.csv", "time,inlet_c\n2026-07-01,warm\n", r"room.csv:2: column inlet_c: 'warm' is not a number; write"),
    ("room.csv", 'time,inlet_c\n2026-07-01,"21,5"\n', r"room.csv:2: column inlet_c: '21,5' is not .*decimal point"),
    ("room.csv", "time,inlet_c\n2026-07-01,295.1\n2026-07-02,296\n", r"room.csv: column inlet_c: 295.1 degC in row 1"),
    ("room.csv", "rack,inlet_c\n1,20\n", r"room.csv:1: no column of times"),
    ("room.csv", "time_s,inlet_c\n5,20\n0,20\n", r"room.csv: column time_s: goes from 5 s back to 0 s in row 2"),
    ("room.csv", "time,inlet_c\n2026-07-01,20,3\n", r"room.csv:2: 3 cells, the header has 2"),
    ("room.csv", "time,inlet_c,inlet_c\n2026-07-01,20,3\n", r"room.csv:1: column inlet_c: appears twice.*rename one"),
    ("google.csv", "time,cpu\n2026-07-01,40\n2026-07-02,50\n", r"google.csv: column cpu: 50 is no share of 1"),
    ("google.csv", ",cpu\n1,0.4\n1,0.5\n0,0.5\n", r"google.csv: column column 1: goes from"),
    ("room.csv", "time,inlet (°C)\n2026-07-01,20\n".encode("latin-1"), r"room.csv:1: not UTF-8.*save it as UTF-8"),
    ("room.csv", "time,inlet_c\n2026-07-01,20\n2026,°\n".encode("latin-1"), r"room.csv:3: not UTF-8"),
    ("room.csv", "time,inlet_temp_c\n7/1/2026 2:00 PM,20\n", r"room.csv:2: column time: .*--time-format"),
])  # fmt: skip
def test_what_is_refused_says_where_and_what_to_do(
    tmp_path: Path, name: str, text: str | bytes, says: str
) -> None:
    with pytest.raises(TableError, match=says):
        read(tmp_path, text, name=name)


def test_cpu_loads_of_any_sampling_keep_their_holes(tmp_path: Path) -> None:
    source = read(tmp_path, ",cpu_load\n5,0.5\n6,0.25\n9,1.0\n", name="google.csv")
    assert source.series[0].times_s.tolist() == [5 * 3_600.0, 6 * 3_600.0, 9 * 3_600.0]
    assert source.series[0].values.tolist() == [50.0, 25.0, 100.0]
    text = "time_stamp,cpu_util_percent\n1782907200,40\n1782907500,50\n1782907500,60\n"
    source = read(tmp_path, text, name="alibaba_machines.csv")
    assert (source.dated, source.series[0].values.tolist()) == (True, [40.0, 55.0])


def test_requests_in_any_order_with_an_offset(tmp_path: Path) -> None:
    text = (
        "timestamp,contexttokens,generatedtokens\n2024-05-10 00:02:00.5+00:00,10,4\n"
        "2024-05-10 00:00:00.009930+00:00,5,1\n2024-05-10 02:01:30+02:00,7,2\n"
        "2024-05-10 00:00:00.009930+00:00,5,1\n"
    )
    source = read(tmp_path, text, name="azure.csv")
    prompts, tokens, _ = source.series
    assert source.reader == "azure-llm"
    assert (prompts.values.sum(), tokens.values.tolist()) == (4, [1, 1, 2, 4]), (
        "two at once are two"
    )
    times_s = mixer.grid(prompts.times_s[0], prompts.times_s[-1], 60)
    rate = mixer.laid(source, times_s, 60)[0][0].values
    assert rate[~np.isnan(rate)].tolist() == pytest.approx([1 / 60])


@pytest.mark.parametrize(("kind", "cells"), [
    (pa.timestamp("ns", "America/New_York"), [datetime(2026, 7, 1, 12, 0, 0, 7, UTC) + timedelta(minutes=m) for m in (0, 10)]),
    (pa.timestamp("ms"), [datetime(2026, 7, 1, 14, m) for m in (0, 10)]),  # noqa: DTZ001  as the file has it
    (pa.int64(), [1_782_907_200_000, 1_782_907_800_000]),
    (pa.string(), ["2026-07-01 14:00", "2026-07-01T12:10:00Z"]),
])  # fmt: skip
def test_parquet_times_of_any_type(tmp_path: Path, kind: pa.DataType, cells: list[object]) -> None:
    name = "__index_level_0__" if pa.types.is_timestamp(kind) else "time"
    columns = {"inlet_temp_c": pa.array([20, None], pa.int32()), "humidity (%)": pa.array(["40", "41.5"]),
               name: pa.array(cells, kind)}  # fmt: skip
    parquet.write_table(pa.table(columns), tmp_path / "room.parquet")
    source = read_source(tmp_path / "room.parquet", "", BERLIN)
    assert source.series[0].times_s.tolist() == pytest.approx([NOON_S, NOON_S + 600], abs=1e-4)
    assert [s.values.tolist()[0] for s in source.series] == [20.0, 40.0]
    assert np.isnan(source.series[0].values[1])
    assert source.series[1].values[1] == 41.5


@pytest.mark.parametrize(("columns", "says"), [
    ({"time": [NOON_S, None], "inlet_c": [20.0, 21.0]}, r"row 2: column time: no time"),
    ({"time": ["2026-07-01", "soon"], "inlet_c": [20.0, 21.0]}, r"row 2: column time: 'soon' is not a time"),
    ({"time": [NOON_S, NOON_S], "inlet_c": ["20", "warm"]}, r"column inlet_c: .*warm.*; write numbers"),
])  # fmt: skip
def test_parquet_that_is_refused(
    tmp_path: Path, columns: dict[str, list[object]], says: str
) -> None:
    parquet.write_table(pa.table(columns), tmp_path / "room.parquet")
    with pytest.raises(TableError, match=f"room.parquet: {says}"):
        read_source(tmp_path / "room.parquet", "", BERLIN)


def test_samples_that_come_late_leave_no_hole(tmp_path: Path) -> None:
    rows = [f"{NOON_S + 61 * k},{k / 10}" for k in range(120) if not 60 <= k < 80]
    source = read(tmp_path, "\n".join(["time,inlet_temp_c", *rows]))
    (column,), _ = mixer.laid(source, mixer.grid(NOON_S, NOON_S + 7_200, 60), 60)
    missing = np.flatnonzero(np.isnan(column.values))
    assert (missing.min(), missing.max(), len(missing)) == (60, 80, 21), "but for the hole"
    rows = [f"{NOON_S + 58 * k + k % 2 * 20},{k / 10}" for k in range(120)]
    source = read(tmp_path, "\n".join(["time,inlet_temp_c", *rows]))
    (column,), _ = mixer.laid(source, mixer.grid(NOON_S, NOON_S + 6_900, 60), 60)
    assert not np.isnan(column.values).any()


def test_each_file_has_its_own_zone_and_format(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("time,inlet_c\n2026-07-01 14:00,20\n2026-07-01 15:00,20\n")
    (tmp_path / "b.csv").write_text("time,outlet_c\n07/01/26 08:00,30\n07/01/26 09:00,30\n")
    zones = ("--timezone", "Europe/Berlin", "--timezone", "b.csv=America/New_York")
    done = mix("a.csv", "b.csv", *zones, "--time-format", "b.csv=%m/%d/%y %H:%M", "-o", "out", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    table = parquet.read_table(tmp_path / "out" / "mix.parquet").to_pydict()
    assert table["time"][0] == datetime.fromtimestamp(NOON_S, UTC)
    assert table["b:outlet_c"][:60] == [30.0] * 60
    wrong = mix("a.csv", "--licence", "c.csv=MIT", "-o", "out", cwd=tmp_path)
    assert (wrong.returncode, "--licence c.csv=: no such file" in wrong.stderr) == (1, True)
    twice = mix("a.csv", "a.csv", "-o", "out", cwd=tmp_path)
    assert (twice.returncode, "two sources are called a" in twice.stderr) == (1, True)
