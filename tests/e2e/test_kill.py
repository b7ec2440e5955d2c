"""P10 as a person meets it: the kill switch by signal, on processes, with no broker and no API."""

import signal
from pathlib import Path

from tests.e2e.world import CLOSED_LOOP, Agent, Hall, agent, hall, skadi, until

DEBUG = ("--log-level", "debug")


def test_the_kill_signal_gives_back_survives_a_restart_and_is_cleared_on_the_host(
    tmp_path: Path,
) -> None:
    with hall(tmp_path) as at:
        before = at.values()
        with agent(at, *DEBUG, **CLOSED_LOOP) as running:
            until(lambda: at.applied(), "a write")
            running.process.send_signal(signal.SIGUSR1)
            until(lambda: held_back(running), "a decision that the kill switch holds back")
            written = {w["point"] for w in at.wire()}
            until(lambda: given_back(at, written, before), "everything is given back")
            quiet = len(at.wire())
            more = len(held_back(running)) + 2
            until(lambda: len(held_back(running)) >= more, "more decisions that are held back")
            assert len(at.wire()) == quiet
            assert (running.said("mode")[-1]["killed"], running.stop()) == (True, 0)
        with agent(at, *DEBUG, **CLOSED_LOOP) as running:
            until(lambda: held_back(running), "a decision that the kill switch still holds back")
            assert len(at.wire()) == quiet
            cleared = skadi("kill", "--clear", "-c", at.site, cwd=tmp_path)
            assert cleared.returncode == 0, cleared.stderr
            last = until(lambda: running.said("mode"), "the switch is cleared")[-1]
            assert (last["killed"], last["mode"]) == (False, "advisory")
            assert running.stop() == 0
        assert len(at.wire()) == quiet


def held_back(running: Agent) -> list[object]:
    """Decisions that the kill switch denied."""
    denied = running.said("denied")
    return [d for d in denied if d["rule"] == "mode" and "kill switch" in d["numbers"]]


def given_back(at: Hall, written: set[str], before: dict[str, float]) -> bool:
    """Every point is what it was, and no slot of ours has anything in it."""
    now, last = at.values(), {w["point"]: w for w in at.wire() if w["outcome"] == "applied"}
    slots = [w["new"] for w in last.values() if w["protocol"] == "bacnet-ip"]
    return slots == [None] * len(slots) and all(now[p] == before[p] for p in written)
