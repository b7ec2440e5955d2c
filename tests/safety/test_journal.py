"""P3, P5, P18 in the small: what is durable when, what a broken file costs, and that changes show."""

import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from agent import journal as module
from agent.audit import read_entries, verify
from agent.journal import Journal, copy_path
from agent.sealed import GENESIS, lay_reserve, link, read_sealed, replace_durably, seal, unseal
from config.site import Device
from control.types import Applied, Failed, Lease, Mismatch, Outcome, Overridden
from drivers.gate import JournalError
from tests.safety.rig import FAN, SUPPLY, WATER
from tests.safety.world import make_site

SITE = make_site()
CRAC, BMS = SITE.device["crac-a1"], SITE.device["bms"]
LEASE = Lease(SUPPLY, 19.0, 19.0, 19.8, 10.0, 900.0, "p1", False, 19.0, 10.0, 19.0)
SURE = replace(LEASE, certain=True)
COLD = Lease(WATER, None, None, 8.4, 10.0, 900.0, "p2", True, 8.0, 10.0, None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "er" / "journal.db"


def opened(path: Path) -> Journal:
    return Journal(path, lambda: ("boot-1", 5.0))


def written(journal: Journal, device: Device = CRAC, *leases: Lease) -> int:
    seq = journal.intend(10.0, "c1", "fan", device, leases or (LEASE,))
    journal.outcome(11.0, seq, [Outcome(Applied(x.point, x.value), replace(x, certain=True))
                                for x in leases or (LEASE,)])  # fmt: skip
    return seq


def held_on_disk(path: Path) -> list[str]:
    """What another process sees."""
    with sqlite3.connect(path) as other:
        return [p for (p,) in other.execute("SELECT point FROM held")]


def test_it_is_durable_and_shared(path: Path) -> None:
    journal = opened(path)
    assert journal._db.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL: sqlite.org/pragma
    assert journal._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert journal.salvaged is None
    assert journal.held() == journal.latched() == journal.devices() == {}


def test_an_intent_is_there_before_anything_else(path: Path) -> None:
    journal = opened(path)
    assert journal.intend(10.0, "c1", "fan", CRAC, [LEASE]) == 1
    assert held_on_disk(path) == [SUPPLY]
    assert journal.latest("intent", 5) == [{
        "seq": 1, "at_s": 10.0, "cycle": "c1", "move": "fan", "device": "crac-a1", "boot": ["boot-1", 5.0],
        "leases": [json.loads(json.dumps({f: getattr(LEASE, f) for f in Lease.__dataclass_fields__}))],
    }]  # fmt: skip
    assert journal.held() == {SUPPLY: LEASE}
    (device,) = journal.devices().values()
    assert (device.id, {p.key for p in device.points}) == ("crac-a1", {SUPPLY, FAN})


def test_without_a_stamp_there_is_no_boot(path: Path) -> None:
    journal = Journal(path)
    written(journal)
    assert [e["boot"] for k in ("intent", "outcome") for e in journal.latest(k, 1)] == [None, None]


def test_an_outcome_says_what_still_stands(path: Path) -> None:
    journal = opened(path)
    seq = written(journal, CRAC, LEASE, replace(LEASE, point=FAN))
    assert journal.held() == {FAN: replace(SURE, point=FAN), SUPPLY: SURE}
    assert journal.latched() == {}
    journal.outcome(12.0, seq, [Outcome(Applied(SUPPLY, 19.0), None)])
    assert journal.held() == {FAN: replace(SURE, point=FAN)}
    assert journal.latest("outcome", 1) == [{
        "seq": 3, "at_s": 12.0, "intent": 1, "boot": ["boot-1", 5.0],
        "receipts": [{"receipt": "applied", "point": SUPPLY, "value": 19.0}],
    }]  # fmt: skip
    journal.outcome(13.0, 0, [Outcome(Failed(FAN, "no"), None)])
    assert journal.devices() == {}


def test_an_outcome_of_what_is_not_held_holds_nothing(path: Path) -> None:
    journal = opened(path)
    journal.outcome(12.0, 0, [Outcome(Applied(SUPPLY, 19.0), SURE)])
    assert journal.held() == {}


def test_what_was_overridden_or_lied_is_latched_until_resumed(path: Path) -> None:
    journal = opened(path)
    written(journal, CRAC, LEASE, replace(LEASE, point=FAN))
    journal.outcome(12.0, 0, [Outcome(Overridden(SUPPLY, 8, 21.0, "hers"), None),
                              Outcome(Mismatch(FAN, 80.0, 81.0), None)])  # fmt: skip
    again = opened(path)
    assert again.latched() == {
        SUPPLY: {"receipt": "overridden", "point": SUPPLY, "priority": 8, "value": 21.0, "reason": "hers"},
        FAN: {"receipt": "mismatch", "point": FAN, "wanted": 80.0, "found": 81.0},
    }  # fmt: skip
    again.resume(13.0, SUPPLY, {"principal": "ann"})
    assert set(opened(path).latched()) == {FAN}
    assert again.latest("resume", 1) == [{"seq": 4, "at_s": 13.0, "point": SUPPLY, "principal": "ann"}]  # fmt: skip


def test_renewing_changes_the_expiry_on_disk(path: Path) -> None:
    journal = opened(path)
    written(journal)
    journal.renew(20.0, [replace(SURE, expires_s=1800.0)])
    assert opened(path).held()[SUPPLY].expires_s == 1800.0
    assert journal.latest("renew", 1) == [{"seq": 3, "at_s": 20.0, "expires_s": {SUPPLY: 1800.0}}]


def test_the_latest_entries_of_a_kind_come_newest_first(path: Path) -> None:
    journal = opened(path)
    assert [journal.note(float(i), "mode", {"i": i}) for i in range(5)] == [1, 2, 3, 4, 5]
    journal.note(9.0, "other", {})
    assert [e["i"] for e in journal.latest("mode", 3)] == [4, 3, 2]


def test_small_values_survive(path: Path) -> None:
    journal = opened(path)
    assert journal.kept("modes") is None
    journal.keep("modes", {"mode": "advisory"})
    journal.keep("modes", {"mode": "closed_loop"})
    journal.close()
    assert opened(path).kept("modes") == {"mode": "closed_loop"}


def test_a_device_is_described_as_it_was_at_the_last_intent(path: Path) -> None:
    journal = opened(path)
    journal.intend(10.0, "c1", "fan", CRAC, [LEASE])
    journal.intend(10.0, "c2", "fan", replace(CRAC, host="10.0.0.9"), [LEASE])
    assert journal.devices()["crac-a1"].host == "10.0.0.9"
    journal.intend(10.0, "c3", "fan", BMS, [COLD])
    assert sorted(journal.devices()) == ["bms", "crac-a1"]


# -- the chain


def test_the_chain_holds_and_goes_on_after_a_restart(path: Path) -> None:
    journal = opened(path)
    written(journal)
    journal.close()
    written(opened(path))
    assert verify(path) is None
    assert [e["kind"] for e in read_entries(path)] == ["intent", "outcome"] * 2
    with sqlite3.connect(path) as db:
        rows = db.execute("SELECT * FROM entry ORDER BY seq").fetchall()
    assert rows[0][4] == link(GENESIS, *rows[0][:4])
    assert rows[1][4] == link(rows[0][4], *rows[1][:4])


@pytest.mark.parametrize(("column", "value"), [
    ("at_s", 10.000001), ("kind", "x"), ("body", '{"cycle":"c2"}'), ("hash", GENESIS),
])  # fmt: skip
def test_any_change_of_an_entry_shows(path: Path, column: str, value: object) -> None:
    written(opened(path))
    with sqlite3.connect(path) as db:
        db.execute(f"UPDATE entry SET {column} = ? WHERE seq = 1", (value,))
    assert "entry 1 does not fit" in (verify(path) or "")


def contents(path: Path) -> list[list[tuple[object, ...]]]:
    """All that the tables hold, read past their text encoding."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        db.text_factory = bytes
        tables = ("entry", "held", "device", "kept")
        return [db.execute(f"SELECT * FROM {t} ORDER BY 1").fetchall() for t in tables]


@pytest.mark.parametrize("which", ["journal.db", "journal.copy.json"])
def test_any_flipped_byte_shows(path: Path, which: str) -> None:
    """P18. Wherever a byte is flipped, it is told, or it was none that says anything."""
    journal = opened(path)
    written(journal)
    written(journal, BMS, COLD)
    journal.keep("modes", {"killed": False})
    journal.close()
    file, before = path.with_name(which), contents(path)
    sound, told = file.read_bytes(), 0
    assert verify(path) is None
    random = Random(1)
    meaning = [i for i, byte in enumerate(sound) if byte]
    for at in random.sample(meaning, min(len(meaning), 1200)):
        flipped = bytearray(sound)
        flipped[at] ^= 1 << random.randrange(8)
        file.write_bytes(flipped)
        if verify(path) is not None:
            told += 1
        else:
            assert contents(path) == before, f"byte {at} of {which}: nobody noticed"
            assert which == "journal.db"
    assert told > 500


def test_a_missing_entry_and_a_missing_end_show(path: Path) -> None:
    written(opened(path))
    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM entry WHERE seq = 1")
    assert "does not fit the chain" in (verify(path) or "")
    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM entry")
    assert "the second copy knows" in (verify(path) or "")


# -- what breaks


def test_a_failed_transaction_leaves_nothing(path: Path) -> None:
    journal = opened(path)
    written(journal)

    def fail() -> None:
        journal._db.execute("DELETE FROM held")
        raise OSError(28, "No space left on device")

    with pytest.raises(JournalError, match="No space left on device: check the disk"):
        journal._append(12.0, "x", {}, fail)
    assert journal.held() == {SUPPLY: SURE}
    assert not journal._db.in_transaction
    assert journal.note(13.0, "y", {}) == 3
    assert verify(path) is None


def test_a_bug_in_a_transaction_is_rolled_back_too(path: Path) -> None:
    journal = opened(path)

    def fail() -> None:
        raise KeyError("bug")

    with pytest.raises(KeyError):
        journal._append(12.0, "x", {}, fail)
    assert not journal._db.in_transaction


def test_a_full_database_raises_and_gives_back_from_the_reserve(path: Path) -> None:
    journal = opened(path)
    written(journal)
    reserve = path.with_suffix(".reserve")
    assert reserve.stat().st_size == module.RESERVE_BYTES == 1 << 20
    real = journal._append

    def full_until_the_reserve_is_gone(*args: object, **more: object) -> int:
        if reserve.exists():
            raise JournalError("full")
        return real(*args, **more)  # type: ignore[arg-type]

    journal._append = full_until_the_reserve_is_gone  # type: ignore[method-assign]
    with pytest.raises(JournalError):
        journal.intend(12.0, "c2", "fan", CRAC, [LEASE])
    assert reserve.exists(), "the reserve is for giving back alone"
    assert journal.intend(12.0, "c2", "give_back:baseline", CRAC, [LEASE]) == 3
    assert read_sealed(copy_path(path))["seq"] == 3
    reserve.touch()
    reserve.unlink()
    journal._append = lambda *_a, **_k: (_ for _ in ()).throw(JournalError("full"))  # type: ignore
    with pytest.raises(JournalError):
        journal.intend(12.0, "c2", "give_back:baseline", CRAC, [LEASE])


def test_sqlites_own_full_disk(path: Path) -> None:
    journal = opened(path)
    pages = journal._db.execute("PRAGMA page_count").fetchone()[0]
    journal._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(JournalError, match="database or disk is full"):
        journal.note(1.0, "mode", {"text": "x" * 1_000_000})
    journal.close()
    with pytest.raises(JournalError, match="closed"):
        journal.held()


def corrupt(path: Path) -> None:
    path.write_bytes(b"not a database at all" * 500)


def scribble(path: Path) -> None:
    """A page in the middle is gone; the header is fine."""
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(4096))


def unsealed(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("UPDATE held SET body = replace(body, '19.8', '26.8')")


def no_json(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("INSERT INTO kept VALUES ('x', 'not json')")


@pytest.mark.parametrize("damage", [corrupt, scribble, unsealed, no_json])
def test_a_corrupt_file_is_set_aside_and_giving_back_goes_on(
    path: Path, damage: Callable[[Path], None]
) -> None:
    journal = opened(path)
    written(journal)
    written(journal, BMS, COLD)
    journal.close()
    damage(path)
    again = opened(path)
    assert again.salvaged is not None
    assert "journal.db was corrupt" in again.salvaged
    assert path.with_name("journal.db.bad").exists()
    assert again.held() == {WATER: replace(COLD, certain=False), SUPPLY: LEASE}
    assert sorted(again.devices()) == ["bms", "crac-a1"]
    written(again)
    assert opened(path).salvaged is None


def test_a_page_in_the_midst_of_the_log_is_looked_at_too(path: Path) -> None:
    """Nothing that is read at start lies there."""
    journal = opened(path)
    written(journal)
    for _ in range(40):
        journal.note(12.0, "mode", {"text": "x" * 1000})
    journal.close()
    content = bytearray(path.read_bytes())
    midst = len(content) // 8192 * 4096
    assert b"x" * 900 in content[midst : midst + 4096]
    content[midst : midst + 4096] = bytes(4096)
    path.write_bytes(content)
    again = opened(path)
    assert again.salvaged is not None
    assert set(again.held()) == {SUPPLY}


def test_a_database_that_lost_its_end_is_completed_from_the_copy(path: Path) -> None:
    journal = opened(path)
    journal.note(1.0, "mode", {})
    journal.close()
    old = path.read_bytes()
    journal = opened(path)
    written(journal)
    journal.close()
    path.write_bytes(old)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    again = opened(path)
    assert again.salvaged is None
    assert again.held() == {SUPPLY: LEASE}
    assert sorted(again.devices()) == ["crac-a1"]


def test_an_older_copy_is_not_believed(path: Path) -> None:
    journal = opened(path)
    written(journal)
    old = copy_path(path).read_text()
    journal.outcome(12.0, 0, [Outcome(Applied(SUPPLY, 19.0), None)])
    journal.close()
    copy_path(path).write_text(old)
    assert opened(path).held() == {}


def test_the_copy_of_the_last_transaction_is_not_taken_twice(path: Path) -> None:
    journal = opened(path)
    written(journal)
    journal.close()
    assert opened(path).held() == {SUPPLY: SURE}, "a doubt would be written again"


def test_a_corrupt_file_without_a_copy_begins_anew(path: Path) -> None:
    journal = opened(path)
    written(journal)
    journal.close()
    copy_path(path).write_text("[]")
    corrupt(path)
    again = opened(path)
    assert again.salvaged
    assert again.held() == {}


# PERM, BUSY, LOCKED, NOMEM, READONLY, IOERR, FULL, CANTOPEN; each with something in the bits above.
@pytest.mark.parametrize("code", [3, 5, 6, 7, 8, 10, 13, 14])
def test_trouble_with_the_disk_is_not_trouble_with_the_file(
    path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """A locked or unreadable database is as good as ever: it must not be set aside."""
    opened(path).close()
    busy = sqlite3.OperationalError("no way in")
    busy.sqlite_errorcode = code | (1 << 8)

    def locked(*_: object, **__: object) -> None:
        raise busy

    monkeypatch.setattr(module.sqlite3, "connect", locked)
    with pytest.raises(JournalError, match="no way in: check the disk"):
        opened(path)
    assert not path.with_name("journal.db.bad").exists()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match="check the disk and the file's owner"):
        opened(tmp_path / "file" / "journal.db")


def test_the_copy_is_written_before_the_commit(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = opened(path)
    seen: list[list[str]] = []
    real = module.replace_durably

    def replacing(target: Path, text: str) -> None:
        real(target, text)
        seen.append(held_on_disk(path))

    monkeypatch.setattr(module, "replace_durably", replacing)
    journal.intend(10.0, "c1", "fan", CRAC, [LEASE])
    assert seen == [[]], "the copy is on disk while the database does not hold it yet"
    assert read_sealed(copy_path(path))["seq"] == 1
    assert read_sealed(copy_path(path))["before"] == [0, GENESIS]
    journal.note(11.0, "mode", {})
    assert len(seen) == 1


def test_a_copy_that_cannot_be_written_stops_the_intent(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = opened(path)

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(module, "replace_durably", fail)
    with pytest.raises(JournalError, match="Input/output error"):
        journal.intend(10.0, "c1", "fan", CRAC, [LEASE])
    assert held_on_disk(path) == []


# -- seals and files


def test_a_seal_shows_any_change() -> None:
    sealed = seal({"a": [1, 2.5, None, "x"]}, "here")
    assert unseal(sealed, "here") == {"a": [1, 2.5, None, "x"]}
    with pytest.raises(ValueError, match="does not fit its checksum"):
        unseal(sealed, "there")
    for i, char in enumerate(sealed):
        changed = sealed[:i] + ("0" if char != "0" else "1") + sealed[i + 1 :]
        with pytest.raises(ValueError):  # noqa: PT011 - JSON's own, or ours
            unseal(changed, "here")


@pytest.mark.parametrize("text", ["{}", "[]", '["x"]', '["x", "y", "z"]', "7", "", "null"])
def test_what_is_no_seal(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        unseal(text)


def test_a_link_depends_on_everything() -> None:
    base = ("h", 1, 2.0, "k", "b")
    changed = [("g", 1, 2.0, "k", "b"), ("h", 2, 2.0, "k", "b"), ("h", 1, 2.5, "k", "b"),
               ("h", 1, 2.0, "l", "b"), ("h", 1, 2.0, "k", "c")]  # fmt: skip
    assert len({link(*x) for x in (base, *changed)}) == 6
    assert len(link(*base)) == 64
    assert GENESIS == "0" * 64, "every journal's chain begins there"


def _where(descriptor: Path) -> Path | None:
    """What a descriptor is open on; None when it has been closed meanwhile."""
    try:
        return descriptor.readlink()
    except FileNotFoundError:
        return None


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    replace_durably(file, "one")
    replace_durably(file, "two")
    held = [p for p in Path("/proc/self/fd").iterdir() if str(tmp_path) in str(_where(p))]
    assert held == [], "nothing is left open"
    assert file.read_text() == "two"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_content_and_folder_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[bool, str]] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        real(fd)
        is_folder = Path(f"/proc/self/fd/{fd}").resolve().is_dir()
        text = "" if is_folder else (tmp_path / "a.json.new").read_text()
        synced.append((is_folder, text))

    monkeypatch.setattr(os, "fsync", fsync)
    replace_durably(tmp_path / "a.json", "content")
    assert synced == [(False, "content"), (True, "")]


def test_what_cannot_be_read_as_sealed_is_nothing(tmp_path: Path) -> None:
    assert read_sealed(tmp_path / "none") == {}
    (tmp_path / "half").write_text(seal({"a": 1})[:-5])
    assert read_sealed(tmp_path / "half") == {}
    (tmp_path / "whole").write_text(seal({"a": 1}))
    assert read_sealed(tmp_path / "whole") == {"a": 1}


def test_a_reserve_is_laid_once_and_never_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve = tmp_path / "r"
    lay_reserve(reserve, 5000)
    assert reserve.stat().st_size == 5000
    lay_reserve(reserve, 9000)
    assert reserve.stat().st_size == 5000
    reserve.unlink()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    lay_reserve(reserve, 5000)
    assert not reserve.exists()
    nowhere = tmp_path / "no" / "folder"
    lay_reserve(nowhere, 5000)
    assert not nowhere.exists()
