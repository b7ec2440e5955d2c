"""Draws docs/images/{status,top,log,explain}.svg: the terminal on a hall whose row C warms.

    .venv/bin/python -m tests.docs.screens [FOLDER]

The whole agent in virtual time, asked by the commands themselves; the pictures are looked at by a
person before they are kept.
"""

import asyncio
import contextlib
import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import structlog
from click.testing import CliRunner
from rich.console import Console
from rich.text import Text

from agent.cli import skadi
from agent.cli.explain import show
from agent.commissioning import train_on_plant
from agent.local import LocalDoor
from agent.polling import DeviceStats
from agent.rehearse import Rehearsal
from agent.reports.explain import explain
from agent.screen.draw import picture
from tests.api.make import House, hall_site

IMAGES = Path(__file__).parents[2] / "docs" / "images"
WIDTH, HEIGHT = 118, 46
TRAIN_HOURS, MINUTES = 12.0, 32.0  # the spike comes after 20
COMMANDS = {"status": ["status"], "log": ["log", "actions", "--limit", "24"]}


def draw(name: str, title: str, ansi: str, folder: Path, width: int = WIDTH) -> None:
    """One picture of what a terminal has shown."""
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(ansi.rstrip("\n") + "\n"))  # a line more: the last one is clipped
    (folder / f"{name}.svg").write_text(picture(console, title), encoding="utf-8")


async def main(folder: Path) -> None:
    """Run the hall, then ask."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    model = await train_on_plant(Rehearsal("hall", {"seed": "1"}, hours=TRAIN_HOURS))
    with tempfile.TemporaryDirectory() as name:
        site = hall_site(Path(name), push=False)
        plan = Rehearsal("hall", {"seed": "1", "scenario": "heat-spike"}, site=site, model=model)
        hall = House(Path(name), site, plan)
        await hall.history.start()
        await hall.minutes(MINUTES)
        for device in site.devices:  # a rehearsal polls nobody: its plant always answers
            hall.polls[device.id] = DeviceStats(polls=1, last_good_s=hall.clock.now_s())
        hall.agent.services.seen = hall.api.context
        door = LocalDoor(hall.agent, Path(name))
        await door.open()
        file = Path(name) / "site.toml"
        file.write_text(
            f'config_version = 1\n[site]\nid = "{site.id}"\narea = "{site.area}"\n[agent]\n'
            f'data_dir = "{name}"\n[history]\nurl = "sqlite:///{name}/history.db"\n'
        )
        for image, command in COMMANDS.items():
            args = [command[0], *command[1:], "-c", str(file)]
            done = await asyncio.to_thread(CliRunner().invoke, skadi, args, color=True)
            widest = max(map(len, done.output.splitlines()))
            draw(image, " ".join(["skadi", *command]), done.output, folder, max(WIDTH, widest))
        env = os.environ | {
            "FORCE_COLOR": "1",
            "COLORTERM": "truecolor",
            "COLUMNS": str(WIDTH),
            "LINES": str(HEIGHT),
        }
        top = [sys.executable, "-m", "agent", "top", "--once", "-c", str(file)]
        shown = await asyncio.to_thread(
            subprocess.run, top, env=env, capture_output=True, text=True, check=True
        )
        draw("top", "skadi top", shown.stdout, folder)
        out, os.environ["COLUMNS"] = io.StringIO(), str(WIDTH)
        with contextlib.redirect_stdout(out):
            show(await explain(hall.history, site))
        draw("explain", "skadi explain", out.getvalue(), folder)
        await door.close()
        await hall.history.close()
        hall.run.close()


if __name__ == "__main__":
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES
    place.mkdir(parents=True, exist_ok=True)
    asyncio.run(main(place))
