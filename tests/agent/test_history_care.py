"""Backup, restore, check and vacuum, on both databases and across; and kill -9 at any moment."""

import asyncio
import json
import sqlite3
import subprocess
import sys
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.clock import VirtualClock
from agent.history.archive import ArchiveError, export, restore
from agent.history.care import check, vacuum
from agent.history.service import History
from control.types import Finding
from tests.agent import make
from tests.agent.history_kills import campaign
from tests.agent.postgres import Lent, Postgres
from tests.agent.test_history import INLET, SUPPLY, T0, Place, add, place, postgres  # noqa: F401

ME = ("ber1", "hall-a")
EVER = (0.0, 4e9)


async def filled(place: Place) -> History:  # noqa: F811
    history = place.history()
    assert await history.start()
    add(history, INLET, *((i * 5.0, 20 + i / 7) for i in range(2_000)), (99_000.5, None))
    add(history, SUPPLY, (3, 18.125), (3_700, 0.1))
    history.add_scores(T0, [Finding("row:A", 1.5, 1.25, "transient", T0 - 9, ("ü",), heat=0.5)])
    history.add_action({"type": "action", "ts_s": T0, "why": "näher"})
    await history.flush()
    await history.save_model({"id": "m1", "k": [0.1]}, "first")
    await history.activate_model(1)
    await history.set_setting("x", {"a": 1})
    await history.rollup(T0 + 200_000)
    return history


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


async def test_a_restored_history_is_the_same_to_the_byte_on_the_other_database(
    place: Place, tmp_path: Path, postgres: Postgres | Lent  # noqa: F811
) -> None:  # fmt: skip
    history = await filled(place)
    first, second = tmp_path / "a.zip", tmp_path / "b.zip"
    manifest = await export(await history._open(), ME, first, *EVER)
    await history.close()
    assert manifest["tables"]["telemetry_raw"]["rows"] == 2_003
    other = Place(tmp_path / "other", None if place.postgres else postgres)
    if other.postgres:
        other.ask("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    restored = other.history()
    assert await restored.start()
    engine = await restored._open()
    for _ in range(2):  # a second time nothing changes
        await restore(engine, first)
    await restored.rollup(T0 + 200_000)
    found = await check(engine, ME, 0, 4e9)
    assert (found["problems"], found["minutes_behind"]) == ([], 0)
    await export(engine, ME, second, *EVER)
    assert contents(first) == contents(second)
    active = await restored.active_model()
    assert active is not None
    assert active.document == {"id": "m1", "k": [0.1]}
    await restored.close()


async def test_an_export_is_one_moment_while_rows_come_in(place: Place, tmp_path: Path) -> None:  # noqa: F811
    history = await filled(place)
    engine = await history._open()

    async def more() -> None:
        for i in range(100):
            add(history, INLET, (200_000.0 + i, 1.0))
            await history.flush()
            await history.rollup(T0 + 300_000)

    writing = asyncio.create_task(more())
    for i in range(3):
        path = tmp_path / f"{i}.zip"
        manifest = await export(engine, ME, path, *EVER)
        raw = [json.loads(line) for line in contents(path)["telemetry_raw"].splitlines()]
        late = [row for row in raw if row[3] >= (T0 + 200_000) * 1000]
        assert [row[3] for row in late] == [(T0 + 200_000 + k) * 1000 for k in range(len(late))]
        assert manifest["tables"]["telemetry_raw"]["rows"] == 2_003 + len(late)
    await writing
    span = await export(engine, ME, tmp_path / "span.zip", T0, T0 + 10)
    assert span["tables"]["telemetry_raw"]["rows"] == 3
    await history.close()


async def test_merging_an_archive_rolls_its_minutes_up_again(place: Place, tmp_path: Path) -> None:  # noqa: F811
    history = await filled(place)
    engine = await history._open()
    await export(engine, ME, tmp_path / "a.zip", *EVER)
    place.ask("DELETE FROM telemetry_raw; DELETE FROM rollups_1m; DELETE FROM rollups_1h")
    add(history, INLET, (1.0, 99.0))
    await history.save_model({"id": "m2"})
    await history.activate_model(2)
    await history.flush()
    await history.rollup(T0 + 200_000)
    await restore(engine, tmp_path / "a.zip")
    await history.rollup(T0 + 200_000)
    minute, *_ = await history.series(INLET, T0, T0 + 60, 60)
    assert (minute.n, minute.high) == (13, 99.0)
    assert (await check(engine, ME, 0, 4e9))["problems"] == []
    assert [m.version for m in await history.list_models() if m.active] == [2]
    await history.close()


async def test_check_finds_what_does_not_add_up_and_vacuum_gives_space_back(place: Place) -> None:  # noqa: F811
    history = await filled(place)
    engine = await history._open()
    assert (await check(engine, ME, 0, 4e9))["wrong"] == 0
    place.ask("UPDATE rollups_1m SET mean = mean + 1 WHERE n = 12; SELECT 1")
    place.ask("DELETE FROM rollups_1h WHERE point LIKE 'crac%'; SELECT 1")
    found = await check(engine, ME, 0, 4e9)
    assert found["wrong"] > 100
    place.ask("DELETE FROM telemetry_raw; SELECT 1")
    before, after = await vacuum(engine)
    assert place.postgres or after < before
    assert (await check(engine, ME, 0, 4e9))["bytes"] > 0  # PostgreSQL counts rows when it vacuums
    await history.close()


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")

    async def make_it() -> None:
        history = await filled(Place(folder, None))
        await export(await history._open(), ME, folder / "whole.zip", *EVER)
        await history.close()

    asyncio.run(make_it())
    return folder / "whole.zip"


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25
)
@given(st.integers(0, 2**31), st.binary(min_size=1, max_size=40), st.booleans())
def test_a_damaged_archive_is_refused_and_nothing_is_written(
    tmp_path: Path, archive: Path, at: int, junk: bytes, cut: bool
) -> None:
    whole = archive.read_bytes()
    at %= len(whole)
    damaged = whole[:at] if cut else whole[:at] + junk + whole[at + len(junk) :]
    (tmp_path / "bad.zip").write_bytes(damaged)

    async def try_it() -> tuple[bool, dict[str, int]]:
        history = History(make.site(tmp_path), VirtualClock(T0))
        engine, refused = await history._open(), False
        try:
            await restore(engine, tmp_path / "bad.zip")
        except ArchiveError:
            refused = True
        rows: dict[str, int] = (await check(engine, ME, 4e9, 4e9))["rows"]
        await history.close()
        return refused, rows

    refused, rows = asyncio.run(try_it())
    # Where nothing is said (a date, a comment) a byte may change and all is still there.
    assert rows["telemetry_raw"] == (0 if refused else 2_003)
    assert not refused or sum(n for name, n in rows.items() if name != "series") == 0
    for file in tmp_path.glob("history.db*"):
        file.unlink()


@pytest.mark.parametrize("change", [
    {"format": 99}, {"revision": "9999"}, {"tables": {"nope": {}}}, {"tables": 5},
    {"tables": {"settings": {"rows": 0, "sha256": "", "columns": ["x"]}}},
])  # fmt: skip
async def test_a_manifest_that_is_not_ours_is_refused(
    tmp_path: Path, archive: Path, change: dict[str, Any]
) -> None:
    bad = tmp_path / "bad.zip"
    parts = contents(archive)
    parts["manifest.json"] = json.dumps(json.loads(parts["manifest.json"]) | change).encode()
    with zipfile.ZipFile(bad, "w") as made:
        for name, body in parts.items():
            made.writestr(name, body)
    history = History(make.site(tmp_path), VirtualClock(T0))
    with pytest.raises(ArchiveError, match=r"bad\.zip"):
        await restore(await history._open(), bad)
    await history.close()


def run(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "agent", "history", *map(str, arguments)]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_command_line_on_a_site_that_is_being_written(tmp_path: Path, archive: Path) -> None:
    site = tmp_path / "site.toml"
    site.write_text(
        f'config_version = 1\n[site]\nid = "ber1"\narea = "hall-a"\n[agent]\ndata_dir = "{tmp_path}"\n'
    )
    done = run(tmp_path, "import", "-c", site, archive)
    assert (done.returncode, "2003 telemetry_raw" in done.stdout) == (0, True), done.stderr
    with closing(sqlite3.connect(tmp_path / "history.db", isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        assert run(tmp_path, "export", "-c", site, "out.zip").returncode == 0
        writer.execute("ROLLBACK")
    assert run(tmp_path, "export", "-c", site, "out.zip").returncode == 2, "it exists"
    assert contents(tmp_path / "out.zip")["telemetry_raw"] == contents(archive)["telemetry_raw"]
    found = run(tmp_path, "check", "-c", site, "--json", "--since", "all")
    assert found.returncode == 0
    assert json.loads(found.stdout)["compared"] > 160
    assert json.loads(run(tmp_path, "vacuum", "-c", site, "--json").stdout)["bytes"] > 0
    (tmp_path / "junk.zip").write_bytes(b"PK junk")
    refused = run(tmp_path, "import", "-c", site, "junk.zip")
    assert (refused.returncode, "junk.zip" in refused.stderr) == (1, True)
    with closing(sqlite3.connect(tmp_path / "history.db")) as broken:
        broken.execute("UPDATE rollups_1h SET n = n - 1")
        broken.execute("DELETE FROM rollup_dirty")
        hole = ("ber1", "hall-a", "telemetry_raw", 1_700_000_000_000, 1_700_000_060_000, 7)
        broken.execute("INSERT INTO history_gaps VALUES (?, ?, ?, ?, ?, ?)", hole)
        broken.commit()
    found = run(tmp_path, "check", "-c", site, "--since", "all")
    assert found.returncode == 1
    assert "gap in telemetry_raw: 2023-11-14T22:13:20.000Z to 2023-11-14T22:14:20.000Z, 7 rows" in found.stdout  # fmt: skip


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_kill_9_during_ingest_rollup_and_migration(
    tmp_path: Path, request: pytest.FixtureRequest, kind: str
) -> None:
    """A few; python -m tests.agent.history_kills does hundreds."""
    server = None
    if kind == "postgresql":
        server = request.getfixturevalue("postgres")
        Place(tmp_path, server).ask("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    assert await campaign(tmp_path, server, 3, seed=1) == []
