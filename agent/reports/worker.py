"""A report drawn in a process of its own: pages and PDFs take seconds that the agent's loop has not.

`drawn` is for the agent; the process is `python -m agent.reports.worker FORMAT`, the report's JSON
comes on its stdin and the file leaves on its stdout. It reads and writes nothing else.
"""

import asyncio
import json
import sys
from typing import Any

from agent.plain import strict_json
from agent.worker import WorkerFailed, finished, lowered

MODULE = "agent.reports.worker"


class NotDrawn(Exception):
    """The report could not be drawn. The message says why."""


async def drawn(report: dict[str, Any], form: str) -> bytes:
    """The report as a file, from a process of low priority that ends with this call, whatever
    ends it. Raises NotDrawn."""
    text = await asyncio.to_thread(strict_json, report)
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", MODULE, form, stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        return await finished(worker, text.encode())
    except WorkerFailed as error:
        raise NotDrawn(f"drawing it {str(error)[:330]}") from error


def main(form: str) -> None:
    """What the process does."""
    lowered()
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
