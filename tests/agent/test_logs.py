import io
import json
import logging
import os
import sys
from collections.abc import Iterator

import pytest
import structlog
from pydantic import SecretStr
from structlog.testing import capture_logs

from agent.clock import VirtualClock
from agent.logs import Outage, configure, masked

SECRET = "hunter2-very-secret"


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def lines(out: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_json_lines_carry_the_agents_own_time() -> None:
    out = io.StringIO()
    configure(clock=VirtualClock(start_s=0.5), stream=out)
    structlog.get_logger("skadi.test").warning("device lost", device="crac-a1", tries=3)
    logging.getLogger("some.library").warning("spoke %s", "too")
    ours, theirs = lines(out)
    assert ours == {
        "ts": "1970-01-01T00:00:00.500Z", "level": "warning", "event": "device lost",
        "logger": "skadi.test", "device": "crac-a1", "tries": 3,
    }  # fmt: skip
    assert theirs["event"] == "spoke too"
    assert theirs["level"] == "warning"


def test_the_default_is_stderr_and_stdout_stays_clean(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    structlog.get_logger("x").info("hello")
    seen = capsys.readouterr()
    assert seen.out == ""
    assert json.loads(seen.err)["event"] == "hello"


def test_a_terminal_gets_readable_lines() -> None:
    master, slave = os.openpty()
    with os.fdopen(slave, "w") as terminal:
        configure(stream=terminal)
        structlog.get_logger("x").info("hello", row="A")
        shown = os.read(master, 4096).decode()
    os.close(master)
    assert "hello" in shown
    assert not shown.lstrip().startswith("{")


def test_journald_gets_priorities(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(f"{tmp_path}/journal", "w+") as journal:
        about = os.fstat(journal.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{about.st_dev}:{about.st_ino}")
        configure(stream=journal)
        structlog.get_logger("x").error("bad")
        structlog.get_logger("x").info("fine")
        journal.seek(0)
        written = journal.read().splitlines()
    assert [line[:4] for line in written] == ["<3>{", "<6>{"]


@pytest.mark.parametrize("as_json", [True, False])
def test_no_secret_gets_through(as_json: bool) -> None:
    out = io.StringIO()
    configure(stream=out, as_json=as_json)
    log = structlog.get_logger("x").bind(community=SECRET)
    log.info("connect", auth={"auth_password": SECRET, "nested": [{"token": SECRET}]})
    log.info("secret value", value=SecretStr(SECRET), listed=[SecretStr(SECRET)])
    log.info(f"cannot reach mqtts://skadi:{SECRET}@broker", url=f"postgresql://u:{SECRET}@h/db")
    log.info("header", sent=f"Authorization: Bearer {SECRET}")
    logging.getLogger("lib").error("postgresql://u:%s@host", SECRET)
    try:
        hidden_in_a_local = SECRET
        raise ValueError(f"https://skadi:{SECRET}@host failed", len(hidden_in_a_local))
    except ValueError:
        log.exception("failed")
    said = out.getvalue()
    assert SECRET not in said
    assert said.count("***") >= 8
    assert "ValueError" in said


def test_what_only_sounds_secret_is_shown() -> None:
    seen = masked({"tokens_ps": 3.5, "author": "me", "url": "http://10.0.0.1:9400/metrics"})
    assert seen == {"tokens_ps": 3.5, "author": "me", "url": "http://10.0.0.1:9400/metrics"}


def test_deep_and_odd_values_stay_bounded() -> None:
    deep: list[object] = [SecretStr(SECRET)]
    for _ in range(50):
        deep = [deep]
    assert SECRET not in json.dumps(masked({"x": deep, "o": object(), "b": b"bytes"}))


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="loud"):
        configure("loud", stream=sys.stderr)


def test_an_outage_is_said_once_each_way() -> None:
    with capture_logs() as logs:
        outage = Outage("device", device="crac-a1")
        outage.worked()
        for _ in range(50):
            outage.failed("timed out")
        assert (outage.lost, outage.failures, outage.reason) == (True, 50, "timed out")
        outage.worked()
        outage.worked()
        assert not outage.lost
        outage.failed("refused")
    assert [(line["event"], line["device"]) for line in logs] == [
        ("device lost", "crac-a1"), ("device back", "crac-a1"), ("device lost", "crac-a1"),
    ]  # fmt: skip
    assert logs[1]["after_failures"] == 50
