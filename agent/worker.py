"""Processes of our own that do what the agent's loop has no time for: training, drawing reports.

`finished` is for the agent, `lowered` for the process. Decides nothing of what is done there.
"""

import asyncio
import contextlib
import os


class WorkerFailed(Exception):
    """The process ended badly. The message has its exit status and the last line it said."""


async def finished(worker: asyncio.subprocess.Process, sent: bytes | None = None) -> bytes:
    """Wait for it and return what it wrote on a piped stdout; whatever ends this call ends the
    process. Raises WorkerFailed."""
    try:
        made, said = await worker.communicate(sent)
    finally:
        if worker.returncode is None:
            worker.kill()
            await worker.wait()
    if worker.returncode:
        last = said.decode(errors="replace").strip().splitlines()[-1:] or ["nothing"]
        raise WorkerFailed(f"ended with {worker.returncode}: {last[0]}")
    return made


def lowered() -> None:
    """Give way to the agent and its hall."""
    with contextlib.suppress(PermissionError):  # a sandbox may forbid even that
        os.nice(10)
