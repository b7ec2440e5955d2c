"""A report drawn in a process of its own: pages and PDFs take seconds that the agent's loop has not.

`drawn` is for the agent; the process is `python -m agent.reports.worker FORMAT`, the report's JSON
comes on its stdin and the file leaves on its stdout. It reads and writes nothing else.
"""

import asyncio
import json
import os
import sys
from typing import Any

from agent.plain import strict_json

MODULE = "agent.reports.worker"


class NotDrawn(Exception):
    """The report could not be drawn. The message says why."""


async def drawn(report: dict[str, Any], form: str) -> bytes:
    """The report as a file, from a process of low priority that ends with this call, whatever
    ends it. Raises NotDrawn."""
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", MODULE, form, stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        text = await asyncio.to_thread(strict_json, report)
        made, said = await worker.communicate(text.encode())
    finally:
        if worker.returncode is None:
            worker.kill()
            await worker.wait()
    if worker.returncode:
        last = said.decode(errors="replace").strip().splitlines()[-1:] or ["nothing"]
        raise NotDrawn(f"drawing it ended with {worker.returncode}: {last[0][:300]}")
    return made


def main(form: str) -> None:
    """What the process does."""
    os.nice(10)
    report = json.load(sys.stdin)
    if form == "pdf":
        from agent.reports.pdf import render_pdf

        made = render_pdf(report)
    else:
        from agent.reports.html import render

        made = render(report).encode()
    sys.stdout.buffer.write(made)


if __name__ == "__main__":
    main(sys.argv[1])
