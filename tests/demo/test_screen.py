"""The screen as text: what must be readable on it, in a wide and in a narrow terminal."""

import json
from io import StringIO

import pytest
from rich.console import Console

from agent.demo.stage import Stage
from agent.demo.verdict import Limits
from agent.screen.draw import Frame, draw, plain
from agent.screen.view import View
from tests.demo.test_verdict import result

FRAME = Frame("demo: heat-spike", baseline_wh=0.6)


def seen() -> View:
    view = View()
    for row in "ABCDEF":
        points = {
            f"inlet_c.{row}{n:02}": {
                "value": 18.0 + n / 2, "quality": "good", "quantity": "inlet_c",
                "rack": f"{row}{n:02}", "row": row,
            }
            for n in range(1, 13)
        }  # fmt: skip
        send(view, f"device/pdu-{row.lower()}/state", points=points)
        send(view, f"row/{row}/state", ts="2026-05-15T07:30:00Z", ema=6.2, tau_fast=4.4,
             tau_persist=5.0, state="persistent" if row == "C" else "nominal")  # fmt: skip
    send(view, "_agent/status", state="online", ts="2026-05-15T07:00:00Z")
    send(view, "mode", mode="closed_loop", armed=["hall"])
    send(view, "kpi", ts="2026-05-15T07:30:00Z", wh_per_prompt=0.58, wh_per_prompt_mean=0.585,
         pue=1.41, worst_inlet_c=24.0, counts={"writes": 7, "confirmed": 7})  # fmt: skip
    send(view, "action", type="ending", ts="2026-05-15T07:31:00Z", point="crac-c1/fan [bold]",
         target="baseline", receipt="applied", reason="[red]trouble is over[/red]")  # fmt: skip
    return view


def send(view: View, topic: str, **body: object) -> None:
    view.take(topic, json.dumps(body).encode())


def drawn(view: View, width: int, height: int) -> str:
    console = Console(file=StringIO(), record=True, width=width, height=height)
    console.print(draw(view, FRAME, width, height))
    return console.export_text()


@pytest.mark.parametrize("size", [(160, 50), (120, 40), (100, 50), (80, 45)])
def test_everything_is_on_the_screen(size: tuple[int, int]) -> None:
    text = drawn(seen(), *size)
    assert len(text.splitlines()) <= size[1] + 1
    wide = size[0] in (160, 100)  # a narrow map shows whole degrees
    for what in ("18.5" if wide else " 18 ", "24.0" if wide else " 24 ", "persistent", "0.585", "-2.5 %", "agent online", "closed_loop",
                 "crac-c1/fan [bold] given back", "6 of 6 devices answer", "pdu-f"):  # fmt: skip
        assert what in text, what


def test_a_small_terminal_has_the_figures_as_one_line() -> None:
    text = drawn(seen(), 80, 24)
    assert len(text.splitlines()) <= 25
    for what in (" 24 ", "persistent", "mean 0.585", "given back", "6 of 6 devices answer"):
        assert what in text, what


def test_nothing_known_yet_is_a_screen_too() -> None:
    assert "connecting" in drawn(View(), 100, 40)
    assert "0 of 0 devices" in plain(View(), FRAME)


def test_plain_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    stage, view = Stage(to_stderr=True), seen()
    with stage.screen(view, "demo", 0.6, Limits(28.0, 250.0, 12.0)):
        stage.line(view.lines[-1])
        stage.draw()
        stage.draw()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("Wh/prompt") == 1
    assert "[red]trouble is over[/red]" in err


def test_the_picture_asks_nobody_for_a_font() -> None:
    stage = Stage(to_stderr=True)
    with stage.screen(seen(), "demo", 0.6, Limits(28.0, 250.0, 12.0)):
        pass
    svg = stage.picture(result(0.57))
    assert svg.startswith("<svg")
    assert "persistent" in svg
    assert "14&#160;by&#160;modbus-tcp" in svg
    assert "@font-face" not in svg
    assert "url(" not in svg.replace("url(#", "")
    # The name of the SVG dialect is the only address in it.
    assert svg.count("http") == svg.count("http://www.w3.org/")
