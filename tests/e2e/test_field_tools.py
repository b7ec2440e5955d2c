"""Single points from a terminal: read, watch, write, commission, as the devices saw them."""

import json
from pathlib import Path

from tests.e2e.world import Hall, agent, hall, skadi, until

POINT = "crac-a1/supply_air_setpoint_c"
FAST = {"speed": 20.0}


def rows(text: str) -> dict[str, float]:
    return {r["key"]: r["value"] for r in json.loads(text)}


def polled(at: Hall) -> bool:
    """Whether the running agent has read the point; until then read ends with 75."""
    return rows(skadi("read", "-c", at.site, POINT, "--json", cwd=at.folder).stdout)[POINT] == 18.0


def test_read_and_watch_without_an_agent_ask_the_devices(tmp_path: Path) -> None:
    with hall(tmp_path, speed=1.0) as at:
        found = skadi(
            "read", "-c", at.site, "crac-a1/*setpoint*", "bms/outdoor_c", "--json", cwd=tmp_path
        )
        assert found.returncode == 0, found.stderr
        values = rows(found.stdout)
        assert set(values) == {POINT, "crac-a1/fan_rpm_setpoint_pct", "bms/outdoor_c"}
        assert values[POINT] == at.values()[POINT]
        assert "from the devices" in found.stderr
        seen = skadi(
            "watch", "-c", at.site, POINT, "--count", "2", "--every", "1s", "--json", cwd=tmp_path
        )
        assert [json.loads(line)["key"] for line in seen.stdout.splitlines()] == [POINT]
        wrong = skadi("read", "-c", at.site, "crac-a1/suply_air_c", cwd=tmp_path)
        assert wrong.returncode == 2
        assert "did you mean crac-a1/supply_air_c?" in wrong.stderr
        at.post("/devices/crac-a1", {"action": "stop"})
        assert skadi("read", "-c", at.site, "crac-a1", cwd=tmp_path).returncode == 75
        assert skadi("write", "-c", at.site, POINT, "19", "--yes", cwd=tmp_path).returncode == 75
        assert at.wire() == []


def test_write_goes_through_both_rings_and_is_given_back(tmp_path: Path) -> None:
    closed = {"SKADI_AGENT__MODE": "closed_loop", "SKADI_AGENT__ARMED": '["row:A"]',
              "SKADI_OPTIMIZER__MOVES": "[]"}  # fmt: skip
    with hall(tmp_path, **FAST) as at, agent(at, **closed):
        until(lambda: polled(at), "it is polled")
        done = skadi("write", "-c", at.site, POINT, "19", "--yes", "--for", "30m", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        for part in ("18 -> 19 degC", "giving back: ", "read back: 19", "(30 min)"):
            assert part in done.stdout
        assert at.values()[POINT] == 19.0
        held = json.loads(_cli(at, "status", "--json"))["leases"][POINT]
        assert (held["value"], held["baseline"], held["priority"]) == (19.0, 18.0, None)
        wire = len(at.wire())
        for point, value, rule in (
            (POINT, "22", "step"),
            (POINT, "40", "envelope"),
            ("crac-b1/supply_air_setpoint_c", "19", "mode"),
            ("crac-a1/supply_air_c", "19", "known"),
        ):
            refused = skadi("write", "-c", at.site, point, value, "--yes", "--json", cwd=tmp_path)
            assert refused.returncode == 77, (refused.stdout, refused.stderr)
            said = json.loads(refused.stdout)
            assert (said["applied"], said["rule"]) == (False, rule)
            assert said["numbers"]
            assert f"refused by {rule}: " in refused.stderr
        assert len(at.wire()) == wire
        back = skadi("release", "-c", at.site, "--point", POINT, cwd=tmp_path)
        assert back.returncode == 0, back.stderr
        assert at.values()[POINT] == 18.0
        [intent, outcome] = [e for e in json.loads(_cli(at, "log", "--json"))
                             if e["kind"] in ("intent", "outcome")][:2]  # fmt: skip
        assert intent["leases"][0]["value"] == 19.0
        assert outcome["intent"] == intent["seq"]
        assert _cli(at, "audit", "verify") == "the log is whole\n"


def test_advisory_writes_nothing_whoever_asks(tmp_path: Path) -> None:
    with hall(tmp_path, **FAST) as at, agent(at):
        until(lambda: polled(at), "it is polled")
        refused = skadi("write", "-c", at.site, POINT, "19", "--yes", cwd=tmp_path)
        assert refused.returncode == 77
        assert "refused by mode: mode advisory" in refused.stderr
        refused = skadi("commission", "-c", at.site, POINT, "--yes", cwd=tmp_path)
        assert refused.returncode == 77
        assert at.wire() == []


def test_a_real_site_writes_a_point_only_once_it_is_commissioned(tmp_path: Path) -> None:
    with hall(tmp_path, speed=1.0) as at:  # a site that is not simulated runs in real time
        text = at.site.read_text().replace("simulated = true", "simulated = false")
        at.site.write_text(text)
        closed = {"SKADI_AGENT__MODE": "closed_loop", "SKADI_AGENT__ARMED": '["equipment:crac-a1"]'}
        with agent(at, real_time=True, **closed) as running:
            until(lambda: running.said("running"), "it runs")
            [said] = running.said("not commissioned: the loops leave these points alone")
            assert POINT in said["points"]
            until(lambda: polled(at), "it is polled")
            refused = skadi("write", "-c", at.site, POINT, "19", "--yes", cwd=tmp_path)
            assert refused.returncode == 77
            assert f"skadi commission {POINT}" in refused.stderr

            def asks() -> bool:  # interlocks hold until each of their inputs was read once
                unasked = skadi("commission", "-c", at.site, POINT, cwd=tmp_path)
                assert unasked.returncode == 2 or "refused by interlock" in unasked.stderr
                return unasked.returncode == 2

            until(asks, "no consent, no step")
            assert at.wire() == []
        check = skadi("check", "-c", at.site, cwd=tmp_path, env=_env(closed))
        assert check.returncode == 0
        assert f"{POINT}: not commissioned" in check.stderr


def test_the_doctor_looks_at_devices_or_asks_the_agent(tmp_path: Path) -> None:
    with hall(tmp_path, speed=1.0) as at:
        alone = skadi("doctor", "-c", at.site, "--json", "--units", tmp_path, cwd=tmp_path)
        assert alone.returncode == 0, alone.stdout
        found = json.loads(alone.stdout)
        assert found["source"] == "the devices"
        assert found["capability"]["crac-a1"]["supply_air_c"] == {
            "found": 1,
            "stale": 0,
            "missing": 0,
        }
        assert (
            "Null at priority 12" in found["writable"]["bms/chilled_water_setpoint_c"]["given_back"]
        )
        at.post("/devices/pump-a", {"action": "stop"})
        silent = skadi("doctor", "-c", at.site, "--units", tmp_path, cwd=tmp_path)
        assert silent.returncode == 75
        assert (
            next(line for line in silent.stdout.splitlines() if line.startswith("silent")).split()[
                2
            ]
            == "pump-a"
        )
        with agent(at, real_time=True) as running:
            until(lambda: running.said("device does not answer"), "it has looked")
            asked = skadi("doctor", "-c", at.site, "--json", "--units", tmp_path, cwd=tmp_path)
            found = json.loads(asked.stdout)
            assert found["source"] == "the running agent"
            assert set(found["silent"]) == {"pump-a"}
            assert any(n["about"] == "lock" and n["level"] == "ok" for n in found["notes"])
        assert at.wire() == []


def _env(settings: dict[str, str]) -> dict[str, str]:
    from tests.e2e.world import environment

    return environment(**settings)


def _cli(at: Hall, *arguments: str) -> str:
    done = skadi(arguments[0], "-c", at.site, *arguments[1:], cwd=at.folder)
    assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    return done.stdout
