"""`skadi train` and `skadi score` as issue 7 writes them down, on files of our own."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from agent.cli import main

NAMES = ["inlet_c", "pdu_kw", "fan_rpm_pct"]


@pytest.fixture(scope="module")
def table() -> np.ndarray:
    """900 rows; rows 600 to 750 have a fan that lost a fifth of its speed."""
    rng = np.random.default_rng(5)
    x = rng.normal([22.0, 8.0, 60.0], [0.2, 0.3, 1.0], (900, 3))
    x[600:750, 2] -= 12.0
    return x


def write(path: Path, x: np.ndarray, missing: tuple[int, int] | None = None) -> Path:
    with path.open("w", newline="") as file:
        out = csv.writer(file, delimiter=";")
        out.writerow(["time", *NAMES, "label"])
        for i, row in enumerate(x):
            cells = [f"{v:.5f}" for v in row]
            if missing and missing[0] == i:
                cells[missing[1]] = ""
            out.writerow([f"2025-01-01 00:{i // 60:02d}:{i % 60:02d}", *cells, "0"])
    return path


def skadi(*argv: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in argv])
    return int(stop.value.code or 0)


def results(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


COMMON = ("--sep", ";", "--time-column", "time", "--ignore", "label")


@pytest.fixture(scope="module")
def model(table: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    source, out = write(folder / "in.csv", table), folder / "model.json"
    argv = ["train", "--csv", source, "--rows", "400", *COMMON, "-o", out]
    assert skadi(*argv) == 0
    return out


def test_a_fault_is_found_named_and_over_when_it_is_over(
    table: np.ndarray, model: Path, tmp_path: Path
) -> None:
    source, out = write(tmp_path / "in.csv", table), tmp_path / "out.csv"
    argv = ["score", "--model", model, "--csv", source, "--rows-from", "400", *COMMON, "-o", out]
    assert skadi(*argv) == 0
    rows = results(out)
    assert len(rows) == 500
    assert list(rows[0]) == ["deviation", "ema", "state", "unknown", "top1", "top2", "top3"]
    alarm = [i + 400 for i, r in enumerate(rows) if r["state"] == "persistent"]
    assert 600 <= alarm[0] <= 615
    assert 750 <= alarm[-1] <= 775
    assert alarm == list(range(alarm[0], alarm[-1] + 1))
    assert {rows[i - 400]["top1"] for i in range(620, 750)} == {"fan_rpm_pct"}
    assert {r["unknown"] for r in rows} == {"0"}


def test_a_row_never_depends_on_later_rows(table: np.ndarray, model: Path, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.csv", tmp_path / "cut.csv"
    common = ["score", "--model", model, "--rows-from", "400", *COMMON]
    assert skadi(*common, "--csv", write(tmp_path / "a.csv", table), "-o", whole) == 0
    for end in (401, 612, 760):
        changed = table[:end]
        assert skadi(*common, "--csv", write(tmp_path / "b.csv", changed), "-o", cut) == 0
        assert results(cut) == results(whole)[: end - 400]


def test_a_missing_value_is_unknown_never_nominal(
    table: np.ndarray, model: Path, tmp_path: Path
) -> None:
    source, out = write(tmp_path / "in.csv", table, missing=(500, 1)), tmp_path / "out.csv"
    assert skadi("score", "--model", model, "--csv", source, *COMMON, "-o", out) == 0
    row = results(out)[500]
    assert row == {
        "deviation": "", "ema": "", "state": "unknown", "unknown": "1",
        "top1": "", "top2": "", "top3": "",
    }  # fmt: skip
    assert results(out)[501]["state"] == "nominal"


def test_scores_are_what_the_model_file_says(
    table: np.ndarray, model: Path, tmp_path: Path
) -> None:
    """D(x) once more, in plain Python from the JSON: a second implementation of the format."""
    source, out = write(tmp_path / "in.csv", table), tmp_path / "out.csv"
    assert skadi("score", "--model", model, "--csv", source, *COMMON, "-o", out) == 0
    m = json.loads(model.read_text())["ims"]
    f, mean = range(len(m["features"])), None
    regions = list(zip(m["centres"], m["half_widths"], strict=True))
    reach = m["tau_persist"] / m["smooth_alpha"]
    low = [min(c[j] - w[j] for c, w in regions) - reach for j in f]
    high = [max(c[j] + w[j] for c, w in regions) + reach for j in f]
    for x, got in zip(table, results(out), strict=True):
        x = [float(f"{v:.5f}") for v in x]
        z = [sum((x[i] - m["offset"][i]) * m["transform"][i][j] for i in f) for j in f]
        z = [min(max(z[j], low[j]), high[j]) for j in f]
        if mean is None:
            mean = min((c for c, _ in regions), key=lambda c: sum(abs(z[j] - c[j]) for j in f))
        mean = [mean[j] + m["smooth_alpha"] * (z[j] - mean[j]) for j in f]
        d = min(
            sum(max(abs(mean[j] - c[j]) - w[j], 0.0) ** 4 for j in f) ** 0.25 for c, w in regions
        )
        assert float(got["deviation"]) == pytest.approx(d, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_a_replay_says_what_score_says_and_draws_it(
    table: np.ndarray, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    source, out, plot = (
        write(tmp_path / "in.csv", table),
        tmp_path / "o.csv",
        tmp_path / f"p{suffix}",
    )
    common = ["--model", model, "--csv", source, "--rows-from", "400", *COMMON]
    assert skadi("score", *common, "-o", out) == 0
    capsys.readouterr()
    assert skadi("replay", *common, "--plot", plot, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    scored = [r["state"] for r in results(out)]
    assert told["states"]["in"] == {s: scored.count(s) for s in set(scored)}
    firsts = [c for c in told["changes"] if c["state"] == "persistent"]
    at = 400 + scored.index("persistent")
    assert firsts[0]["at"] == f"2025-01-01T00:{at // 60:02d}:{at % 60:02d}.000Z"
    assert firsts[0]["top"][0] == "fan_rpm_pct"
    assert plot.read_bytes()[:4] in (b"\x89PNG", b"<?xm")
    assert plot.stat().st_size > 10_000
    assert skadi("replay", *common, "--plot", tmp_path / "p.gif") == 2
    assert skadi("replay", "--csv", source) == 2


def test_json_is_alone_on_stdout(
    table: np.ndarray, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = write(tmp_path / "in.csv", table), tmp_path / "out.csv"
    assert skadi("score", "--model", model, "--csv", source, *COMMON, "-o", out, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["rows"] == 900
    assert sum(printed["states"].values()) == 900


def test_errors_name_the_place_and_leave_no_output(
    table: np.ndarray, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path / "in.csv", table)
    broken = tmp_path / "broken.csv"
    broken.write_text(source.read_text() + "2025-01-01 00:15:00;1;2;three;0\n")
    out = tmp_path / "out.csv"
    cases: list[tuple[list[object], int, str]] = [
        (["train", "--csv", broken, *COMMON, "-o", out], 78, "broken.csv:902: column fan_rpm_pct"),
        (["train", "--csv", source, "--rows", "20", *COMMON, "-o", out], 78, "in.csv: 20 rows; at least 60"),
        (["train", "--csv", source, "--ignore", "nope", "-o", out], 78, "column nope"),
        (["train", "--csv", tmp_path / "none.csv", "-o", out], 2, "none.csv"),
        (["train", "--csv", source, "--sep", "ab", "-o", out], 2, "--sep"),
        (["score", "--model", source, "--csv", source, "-o", out], 78, "in.csv: "),
        (["score", "--model", model, "--csv", broken, *COMMON, "-o", out], 78, "broken.csv:902"),
        (["score", "--model", model, "--csv", source, "--ignore", "pdu_kw", "-o", out], 2, "pdu_kw"),
        (["train", "--csv", source, *COMMON, "-o", tmp_path / "no" / "m.json"], 1, "No such file"),
    ]  # fmt: skip
    for argv, code, text in cases:
        assert skadi(*argv) == code  # type: ignore[arg-type]
        assert text in capsys.readouterr().err
    spoiled = tmp_path / "spoiled.json"
    for text in ("{}", "[]", "3", "[" * 100_000, '{"skadi_model": 1}', '{"skadi_model": 1, "ims": 3}',
                 model.read_text().replace('"tau_fast": ', '"tau_fast": 1')):  # fmt: skip
        spoiled.write_text(text)
        assert skadi("score", "--model", spoiled, "--csv", source, "-o", out) == 78
        assert "spoiled.json" in capsys.readouterr().err
    spoiled.unlink()
    assert not out.exists()
    assert {p.name for p in tmp_path.iterdir()} == {"in.csv", "broken.csv"}


def test_a_model_that_needs_another_column_says_so(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.csv"
    other.write_text("inlet_c,pdu_kw\n22,8\n")
    assert skadi("score", "--model", model, "--csv", other, "-o", tmp_path / "o.csv") == 78
    assert "fan_rpm_pct" in capsys.readouterr().err


IMPORT_ALL = """
import importlib, pathlib, sys
names = [
    ".".join(p.with_suffix("").parts).removesuffix(".__init__")
    for folder in ("control", "agent", "config")
    for p in sorted(pathlib.Path(folder).rglob("*.py"))
    if "migrations" not in p.parts and p.name != "__main__.py"
]
assert "agent.training" in names
for name in names:
    importlib.import_module(name)
heavy = sorted({m.split(".")[0] for m in sys.modules} & {"sklearn", "scipy"})
sys.exit(", ".join(heavy) or 0)
"""


def test_scikit_learn_is_absent_from_the_agents_modules() -> None:
    """Everything the agent and the commands import, training included, without loading it."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
