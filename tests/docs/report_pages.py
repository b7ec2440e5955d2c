"""Draws docs/images/report-N.png: a simulated day as a report, each page of its PDF a picture.

    .venv/bin/python -m tests.docs.report_pages [FOLDER]

Needs pdftoppm (poppler-utils). The whole agent in virtual time, beside the same day left alone, under
a rule of the trade, and with the future known; a person looks at the pages before they are kept.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog

from agent.commissioning import train_on_plant
from agent.references.controllers import run_reference
from agent.rehearse import Rehearsal
from agent.reports.gather import report
from agent.reports.html import render
from agent.reports.pdf import render_pdf
from tests.api.make import House, hall_site
from tests.docs.screens import IMAGES

HOURS, TRAIN_HOURS = 24.0, 6.0
REFERENCES = ("fixed", "trim-respond", "oracle")
DPI = 80


async def day() -> dict[str, Any]:
    """Run the day and report it."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    args = {"seed": "1", "scenario": "heat-spike"}
    model = await train_on_plant(Rehearsal("hall", {"seed": "1"}, hours=TRAIN_HOURS))
    with tempfile.TemporaryDirectory() as name:
        site = hall_site(Path(name), push=False)
        plan = Rehearsal("hall", args, HOURS, site=site, model=model)
        hall = House(Path(name), site, plan)
        await hall.history.start()
        for _ in range(round(HOURS * 6)):  # history is written as time goes by
            await hall.minutes(10)
        same = {"plant": "hall", "seed": 1, "hours": HOURS, "scenario": args["scenario"]}
        truth = hall.run.plant.truth()  # type: ignore[attr-defined]
        runs = [run_reference(c, replace(plan, site=None, model=None)) | same for c in REFERENCES]
        now_s = hall.clock.now_s()
        runs.append({**truth, "controller": "skadi", **same})
        found = await report(hall.history, site, now_s - 3_600 * HOURS, now_s, now_s, runs)
        await hall.history.close()
        hall.run.close()
    return found


def draw(found: dict[str, Any], folder: Path) -> None:
    """Its pages as pictures; elsewhere than in docs/images also the files themselves."""
    for old in folder.glob("report*"):
        old.unlink()
    pdf = folder / "report.pdf"
    pdf.write_bytes(render_pdf(found))
    pages = ["pdftoppm", "-png", "-r", str(DPI), str(pdf), str(folder / "report")]
    subprocess.run(pages, check=True)
    if folder == IMAGES:
        pdf.unlink()
    else:
        (folder / "report.html").write_text(render(found), encoding="utf-8")
        (folder / "report.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    draw(asyncio.run(day()), Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES)
