"""A history that can't be opened: the hall is controlled all the same, and everybody is told."""

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from agent import records
from agent.api.server import Api
from agent.clock import WallClock
from agent.doctor.examine import services
from agent.history.service import History
from agent.records import Records
from agent.services import HistoryDown
from agent.surfaces import facts
from tests.api.make import ENVIRON, House, get, hall_site


async def test_a_history_that_fails_to_open_is_shown_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_: object) -> bool:
        raise RuntimeError("planted")

    hall = House(tmp_path, hall_site(tmp_path))
    kept = Records(hall.agent, hall.site, WallClock(), ENVIRON)
    assert kept.history is not None
    assert kept.history.status.lost == ""  # nobody makes it by asking how it is
    monkeypatch.setattr(History, "start", broken)
    api = Api(hall.agent, hall.hub, "0.1.0", kept.history, None, {}, ENVIRON)
    hall.url = await api.start()
    with capture_logs() as logs:
        kept.open()
        assert kept._opening is not None
        await asyncio.wait({kept._opening})
        await hall.minutes(1)  # the loops go on, and so do its jobs
        await kept._rollup()
    assert [e["log_level"] for e in logs if e["event"] == records.RESTART] == ["critical"]
    lost = "no history until restart: RuntimeError: planted"
    with pytest.raises(HistoryDown, match="planted"):
        await kept.history.get_setting("x")
    assert facts(hall.agent, kept.history, None, {}).history_lost == lost
    status, ready = await get(hall, "/readyz")
    assert (status, ready["degraded"]) == (200, [f"history: {lost}"])
    assert (await get(hall, "/healthz"))[1]["degraded"] == [f"history: {lost}"]
    overview = (await get(hall, "/state/overview"))[1]
    assert overview["history"]["lost"] == lost
    assert [(n.level, n.about) for n in services(overview)] == [("bad", "history")]
    assert (await get(hall, "/actions/log"))[0] == 503
    await kept.close()
    await api.stop()
    await hall.history.close()
    hall.run.close()
