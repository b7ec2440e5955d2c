"""Reading CSVs: what is a number, what is missing, and errors that say where."""

import math
from pathlib import Path

import pytest

from agent.table import Layout, Table, TableError


def read(tmp_path: Path, text: str | bytes, layout: Layout | None = None) -> tuple[Table, list]:
    path = tmp_path / "in.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with Table(path, layout or Layout()) as table:
        return table, list(table)


@pytest.mark.parametrize("sep", [",", ";", "\t", "|"])
def test_the_separator_is_found(tmp_path: Path, sep: str) -> None:
    table, rows = read(tmp_path, f"a{sep}b\n1{sep}2.5\n-3e2{sep}4\n")
    assert table.columns == ("a", "b")
    assert [r.values.tolist() for r in rows] == [[1.0, 2.5], [-300.0, 4.0]]
    assert [r.number for r in rows] == [0, 1]


def test_missing_values_are_nan_and_infinities_too(tmp_path: Path) -> None:
    _, rows = read(tmp_path, "a,b,c\n,NaN,null\nN/A,inf,-1e999\n")
    assert all(math.isnan(v) for r in rows for v in r.values)


def test_a_first_column_of_dates_is_the_time(tmp_path: Path) -> None:
    table, rows = read(tmp_path, "when;a\n2020-03-09 10:14:33;1\n2020-03-09 10:14:34;2\n")
    assert table.columns == ("a",)
    assert rows[1].time_s is not None
    assert rows[0].time_s is not None
    assert rows[1].time_s - rows[0].time_s == 1.0


def test_time_column_ignore_and_only(tmp_path: Path) -> None:
    text = "a,t,b,note\n1,10,2,x\n3,20,4,y\n"
    table, rows = read(tmp_path, text, Layout(time_column="t", ignore=("note",)))
    assert table.columns == ("a", "b")
    assert [r.time_s for r in rows] == [10.0, 20.0]
    table, rows = read(tmp_path, text, Layout(only=("b", "a")))
    assert table.columns == ("b", "a")
    assert rows[0].values.tolist() == [2.0, 1.0]


def test_a_byte_order_mark_and_blank_lines_do_no_harm(tmp_path: Path) -> None:
    table, rows = read(tmp_path, b"\xef\xbb\xbfa,b\r\n\r\n1,2\r\n\r\n3,4\r\n")
    assert table.columns == ("a", "b")
    assert [r.number for r in rows] == [0, 1]


def test_a_decimal_comma_is_found_or_given(tmp_path: Path) -> None:
    _, rows = read(tmp_path, "a;b\n20,5;3\n-1,5e2;4,25\n")
    assert [r.values.tolist() for r in rows] == [[20.5, 3.0], [-150.0, 4.25]]
    _, rows = read(tmp_path, "a;b\n20;3\n1;4,25\n", Layout(decimal=","))
    assert rows[1].values.tolist() == [1.0, 4.25]


def test_columns_without_a_name_get_one_and_twins_may_be_left_out(tmp_path: Path) -> None:
    table, _ = read(tmp_path, ",a,\n0,1,2\n")
    assert table.columns == ("column 1", "a", "column 3")
    table, rows = read(tmp_path, "b,a,b\n0,1,2\n", Layout(ignore=("b",)))
    assert (table.columns, rows[0].values.tolist()) == (("a",), [1.0])


BAD = [
    (b"a;b\n1;2\n1;2,5\n", r"in.csv:3: column b: '2,5' is not a number; give --decimal ,"),
    (b"a;b\n1,5;2\n1.5;2\n", r"in.csv:3: column a: '1.5' is not a number"),
    (b"a,b\n1,2\n1,x\n", r"in.csv:3: column b: 'x' is not a number"),
    (b"a,b\n1,1_000\n", r"in.csv:2: column b"),
    (b"a,b\n1,2\n1\n", r"in.csv:3: 1 cells, the header has 2"),
    (b"a,b\n1,2,3\n", r"in.csv:2: 3 cells"),
    (b"a,a\n1,2\n", r"in.csv:1: column a: appears twice"),
    (b"", r"in.csv:1: no header"),
    (b"\n", r"in.csv:1: no header"),
    (b"a,b\n\xff\xfe,1\n", r"in.csv:1: not UTF-8"),
    (b'a,b\n"1,2\n3,4\n', r"in.csv:"),
    (b"a,b\n" + b"1" * 5000 + b",2\n", r"in.csv:2: .*limit"),
    (b"a,b\n0x10,2\n", r"in.csv:2: column a"),
]


@pytest.mark.parametrize(("text", "message"), BAD)
def test_what_is_no_table_is_refused_with_its_place(
    tmp_path: Path, text: bytes, message: str
) -> None:
    with pytest.raises(TableError, match=message):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (Layout(ignore=("z",)), "column z: no such column; the header has a, b"),
        (Layout(time_column="z"), "column z"),
        (Layout(only=("a", "z")), "column z"),
        (Layout(ignore=("a", "b")), "no column is left"),
        (Layout(time_column="b"), "in.csv:2: column b: 'x' is not a time"),
    ],
)
def test_wrong_columns_are_named(tmp_path: Path, layout: Layout, message: str) -> None:
    with pytest.raises(TableError, match=message):
        read(tmp_path, "a,b\n1,x\n", layout)


def test_rows_come_one_at_a_time(tmp_path: Path) -> None:
    """A bad last row does not keep the first from being handed out."""
    path = tmp_path / "in.csv"
    path.write_text("a\n1\n2\nx\n")
    with Table(path, Layout()) as table:
        rows = iter(table)
        assert next(rows).values.tolist() == [1.0]
        assert next(rows).values.tolist() == [2.0]
        with pytest.raises(TableError, match=":4:"):
            next(rows)
