"""status, top, log, explain on a running hall; the man page and completion from the commands."""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from agent.cli import COMMANDS, skadi
from agent.cli.man import below, page
from agent.clock import utc
from agent.local import LocalDoor
from agent.screen.local import fill
from agent.screen.view import View
from tests.api.make import House, hall_site, house

SITE = """\
config_version = 1
[site]
id = "{id}"
area = "{area}"
[agent]
data_dir = "{folder}"
[history]
url = "sqlite:///{folder}/history.db"
"""


@dataclass
class Terminal:
    """A hall that has run for a while, and a site file to reach it by."""

    hall: House
    site: Path

    async def says(self, *words: str, code: int = 0, columns: int = 80) -> str:
        """What a command prints; its people's lines too when it fails."""
        env = {**os.environ, "COLUMNS": str(columns), "LINES": "24" if columns == 80 else "50"}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "agent", *words, "-c", str(self.site), env=env,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        assert process.returncode == code, err.decode()
        return out.decode() + (err.decode() if code else "")


@pytest.fixture
async def terminal(tmp_path: Path) -> AsyncIterator[Terminal]:
    async with house(tmp_path, hall_site(tmp_path, push=False), minutes=12) as hall:
        hall.agent.services.seen = hall.api.context
        door = LocalDoor(hall.agent, tmp_path)
        await door.open()
        about = {"id": hall.site.id, "area": hall.site.area, "folder": str(tmp_path)}
        file = tmp_path / "site.toml"
        file.write_text(SITE.format(**about))
        yield Terminal(hall, file)
        await door.close()


@pytest.mark.parametrize("columns", [80, 160])
async def test_top_shows_the_hall_as_it_stands(terminal: Terminal, columns: int) -> None:
    said = await terminal.says("top", "--once", columns=columns)
    assert max(map(len, said.splitlines())) <= columns
    for what in ("rehearsal/hall", "closed_loop", "agent online", "Wh/prompt", "slow "):
        assert what in said, what
    inlet = terminal.hall.agent.snapshot().value("pdu-a/inlet_c.A01")
    row = next(line for line in said.splitlines() if line.startswith("│ A "))
    shown = float(row.split()[2])
    assert inlet is not None
    assert abs(shown - inlet) <= (0.51 if columns == 80 else 0.051)


async def test_top_reads_an_agent_elsewhere_over_http(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = await terminal.says("top", "--once", "--url", terminal.hall.url)
    assert "slow " in said
    gone = await terminal.says("top", "--url", "http://127.0.0.1:9", code=75)
    assert "127.0.0.1:9" in gone


async def test_status_fits_a_small_terminal(terminal: Terminal) -> None:
    said = await terminal.says("status")
    held = terminal.hall.agent.control.leases
    assert f"{len(held)} setpoints" in said
    assert max(map(len, said.splitlines())) <= 130
    detail = json.loads(await terminal.says("status", "--json"))
    assert set(detail["leases"]) == set(held)


async def test_status_names_an_old_baseline_and_arm_approves_it(terminal: Terminal) -> None:
    agent = terminal.hall.agent
    key, lease = next(
        (k, x) for k, x in agent.control.leases.items()
        if not agent.site.points[k].limits.relinquish and agent.site.points[k].limits.safe_value
    )  # fmt: skip
    agent.executor.prolong([replace(lease, baseline_s=0.0)])
    agent.control = replace(agent.control, leases=dict(agent.executor.held))
    assert f"too long ago: skadi arm --baseline {key}" in await terminal.says("status")
    told = await terminal.says("arm", "--baseline", key)
    assert told.startswith("baseline.approve: ")
    assert "too long ago" not in await terminal.says("status")
    both = await terminal.says("arm", "row:A", "--baseline", key, code=2)
    assert "give one of" in both


async def test_the_logs_name_acts_that_explain_explains(terminal: Terminal) -> None:
    acts = json.loads(await terminal.says("log", "actions", "--json"))
    assert [a["ts"] for a in acts] == sorted(a["ts"] for a in acts)
    act = next(a for a in acts if a["type"] == "action")
    assert act["detail"]["id"] in await terminal.says("log", "actions")
    ladder = await terminal.says("explain", act["detail"]["id"])
    assert "=>" in ladder
    at_once = await terminal.says("explain", "--at", act["ts"].replace("Z", "1Z"))
    assert at_once.split()[0] == act["ts"]
    assert "no act until then" in await terminal.says(
        "explain", "--at", "1980-01-01T00:00:00Z", code=1
    )
    assert "write 90m" in await terminal.says("explain", "--at", "noon", code=2)
    assert await terminal.says("log", "alarms", "--json") == "[]\n"
    events = json.loads(await terminal.says("log", "events", "--json"))
    assert {"intent", "outcome"} <= {e["kind"] for e in events}
    [intent] = [e for e in events if e["kind"] == "intent"][-1:]
    lease = intent["leases"][0]
    read = await terminal.says("log", "events")
    assert f"leases={lease['point']} {lease['previous']} -> {lease['value']}" in read
    last = json.loads(await terminal.says("log", "--limit", "3", "--json"))
    assert [e["seq"] for e in last] == [e["seq"] for e in events[-3:]]
    [after] = json.loads(await terminal.says("log", "--since", str(last[1]["seq"]), "--json"))
    assert after == last[2]
    at_s = events[-1]["at_s"]
    late = json.loads(await terminal.says("log", "--since", utc(at_s), "--json"))
    assert late == [e for e in events if e["at_s"] >= at_s] != events
    for what in ("events", "actions"):
        assert await terminal.says("log", what, "--since", "2026-12-31T00:00:00Z") in (
            "", "nothing of the kind is in history\n"
        )  # fmt: skip
        assert "write 90m" in await terminal.says("log", what, "--since", "noon", code=2)


async def test_silence_is_told_from_a_refusal(terminal: Terminal, tmp_path: Path) -> None:
    terminal.site.write_text(terminal.site.read_text().replace("data_dir = ", "# ", 1))
    assert "is it running?" in await terminal.says("top", code=75)


def test_what_an_agent_answers_is_checked_before_it_is_shown() -> None:
    view = View()
    fill(
        view,
        {
            "ts": 5,
            "kpi": [1],
            "modes": None,
            "devices": [None, {"device": "\x1b[2J", "failing": 0}],
        },
        {"racks": [{"rack": 7}, "x"]},
        [{"type": "action", "body": {"changes": 3}}, {"type": None}],
    )
    assert view.inlets == {}


def test_the_man_page_has_every_command_and_only_known_requests() -> None:
    text = page(skadi, "1.2.3")
    for name in COMMANDS:
        assert re.search(rf"^\.SS {name}\b", text, re.MULTILINE), name
    requests = {line.split(" ", 1)[0] for line in text.splitlines() if line[:1] in ".'"}
    assert requests <= {".TH", ".SH", ".SS", ".TP", ".B", ".I", ".PP"}


async def test_shells_complete_commands_and_choices(terminal: Terminal) -> None:
    for shell in ("bash", "zsh", "fish"):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "agent", "completion", shell, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        assert b"_SKADI_COMPLETE" in out
    for words, word in (("log al", b"alarms"), ("profile show apc-rpdu2", b"apc-rpdu2"),
                        ("call alarm.a", b"alarm.ack")):  # fmt: skip
        env = {**os.environ, "_SKADI_COMPLETE": "bash_complete", "COMP_WORDS": f"skadi {words}",
               "COMP_CWORD": str(len(words.split()))}  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "agent", env=env, stdout=asyncio.subprocess.PIPE
        )
        assert (await process.communicate())[0].split()[0] == b"plain," + word


# What has no --json, and why: everything else answers a program as well as a person.
WITHOUT_JSON = {
    "run": "it runs until a signal, says nothing on stdout, and logs JSON lines wherever no terminal reads",
    "sim": "handed on to the simulators' own command line, which has one",
}


@pytest.mark.parametrize("context", list(below(click.Context(skadi))), ids=lambda c: c.command_path)
def test_every_command_answers_a_program(context: click.Context) -> None:
    takes = any("--json" in p.opts for p in context.command.params)
    assert takes != (context.info_name in WITHOUT_JSON)


@pytest.mark.parametrize(("words", "holds"), [
    (["init", "new.toml"], {"wrote": "new.toml"}),
    (["init", "new.toml", "--drop-in", "-"], {"wrote": None, "left_out": []}),
    (["schema", "mqtt"], {"schema": 1}),
    (["schema", "man"], {}),
    (["completion", "fish"], {"shell": "fish"}),
    (["scan", "modbus", "127.0.0.1:1"], {"devices": [], "site_file": ""}),
    (["scan", "snmp", "127.0.0.1:1", "--community", "x", "--timeout", "0.1"], {"devices": [], "site_file": ""}),
])  # fmt: skip
def test_stdout_is_one_json_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], holds: dict[str, object]
) -> None:
    monkeypatch.chdir(tmp_path)
    if "--drop-in" in words:
        CliRunner().invoke(skadi, ["init", "new.toml"])
    done = CliRunner().invoke(skadi, [*words, "--json"])
    told = json.loads(done.stdout)
    assert told | holds == told
    assert done.exit_code == (75 if words[0] == "scan" else 0)
