"""Slurm: jobs and partitions, through scontrol on this host.

    job:ID           100 runs, 0 does not: a pending job is held and released, a running one is
                     suspended and resumed (scontrol(1): hold, release, suspend, resume)
    partition:NAME   100 State=UP, 0 State=DOWN: what runs goes on, nothing new is started
                     (scontrol(1): update PartitionName=NAME State=...)

A point's `name` is one of these. scontrol finds its controller and its credentials (munge) itself;
the user the agent runs as must be an operator in Slurm. No shell is involved. Whether a job is to be
held or suspended is looked up right before.
"""

import asyncio
import os
import re
import signal
from asyncio.subprocess import PIPE
from collections.abc import Mapping, Sequence
from typing import ClassVar

from drivers.actuator import Actuator, State, on_or_off
from drivers.contract import NotSent, Permanent, Refused, Transient

MOST_BYTES = 65_536
_JOB = re.compile(r"^job:(\d{1,10}(_\d{1,10})?)$")
_PARTITION = re.compile(r"^partition:([A-Za-z0-9][A-Za-z0-9_.-]{0,63})$")
_PAIR = re.compile(r"(?:^|\s)([A-Za-z]\w*)=(\S*)")
_ENDED = frozenset({"COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL",
                    "DEADLINE", "OUT_OF_MEMORY"})  # fmt: skip


class SlurmDriver(Actuator):
    """See drivers.contract.Driver."""

    about: ClassVar[str] = "job:ID or partition:NAME"

    async def fetch(self, targets: Sequence[str]) -> State:
        """One `scontrol show` a target."""
        return {target: _admission(target, await self._show(target)) for target in targets}

    def plan(self, values: Mapping[str, float]) -> Sequence[tuple[str, tuple[str, ...]]]:
        """One command a target; a job's depends on its state, which is looked up when it is due."""
        steps: list[tuple[str, tuple[str, ...]]] = []
        for target, raw in values.items():
            admitted, (kind, name) = on_or_off(target, raw), self._parts(target)
            if kind == "partition":
                state = "UP" if admitted else "DOWN"
                steps.append((f"scontrol update PartitionName={name} State={state}", (target,)))
            else:
                verbs = "release or resume" if admitted else "hold or suspend"
                steps.append((f"scontrol {verbs} {name}", (target,)))
        return steps

    async def perform(self, step: str, values: Mapping[str, float]) -> None:
        """Raises NotSent where scontrol can't be started, Refused where it says no."""
        for target, raw in values.items():
            admitted, (kind, name) = on_or_off(target, raw), self._parts(target)
            if kind == "partition":
                state = "UP" if admitted else "DOWN"
                await self._run("update", f"PartitionName={name}", f"State={state}")
                continue
            job = await self._show(target)
            if isinstance(job, str):
                raise Refused(f"device {self.device.id} {target}: {job}")
            verb = _verb(job, admitted)
            if verb is None:
                raise Refused(f"device {self.device.id} {target}: is {job.get('JobState')}")
            if verb:
                await self._run(verb, name)

    def _parts(self, target: str) -> tuple[str, str]:
        if match := _JOB.match(target):
            return "job", match[1]
        if match := _PARTITION.match(target):
            return "partition", match[1]
        raise Refused(f"device {self.device.id}: {target!r} is not {self.about}")

    async def _show(self, target: str) -> dict[str, str] | str:
        """What scontrol shows of a target, or why it shows nothing."""
        kind, name = self._parts(target)
        try:
            said = await self._run("show", kind, name, "--oneliner")
        except NotSent as error:
            raise Transient(str(error)) from error
        except Refused as error:
            return str(error)
        shown = dict(_PAIR.findall(said))
        task = f"{shown.get('ArrayJobId')}_{shown.get('ArrayTaskId')}"
        if name not in (shown.get("JobId" if kind == "job" else "PartitionName"), task):
            return f"scontrol shows another than {name!r}"
        return shown

    async def _run(self, *arguments: str) -> str:
        """Raises NotSent (never started), Refused (it says no), Transient (no end in time)."""
        device, program = self.device, self.device.program or "scontrol"
        name = f"device {device.id}: {program} {' '.join(arguments)}"
        try:
            process = await asyncio.create_subprocess_exec(
                program, *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=PIPE, stderr=PIPE,
                start_new_session=True,  # with all it starts, it can be ended
            )  # fmt: skip
        except OSError as error:
            raise NotSent(f"{name}: {error.strerror}; is Slurm's client installed?") from error
        try:
            async with asyncio.timeout(device.timeout_s):
                out, err = await process.communicate()
        except TimeoutError as error:
            raise Transient(f"{name}: no end within {device.timeout_s:g} s") from error
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if len(out) > MOST_BYTES:
            raise Permanent(f"{name}: more than {MOST_BYTES} bytes")
        if process.returncode:
            why = err.decode("utf-8", "replace").strip()[:200]
            raise Refused(f"{name}: exit {process.returncode}: {why}")
        return out.decode("utf-8", "replace")


def _admission(target: str, shown: dict[str, str] | str) -> float | str:
    if isinstance(shown, str):
        return shown
    if target.startswith("partition:"):
        return {"UP": 100.0, "DOWN": 0.0}.get(shown.get("State", ""), f"State={shown.get('State')}")
    state = shown.get("JobState", "")
    if state in _ENDED:
        return f"JobState={state}"
    if state == "SUSPENDED":
        return 0.0
    return 0.0 if state == "PENDING" and shown.get("Priority") == "0" else 100.0  # held: priority 0


def _verb(job: dict[str, str], admitted: bool) -> str | None:
    """What brings a job there: "" nothing, None: it can't be."""
    state, held = job.get("JobState", ""), job.get("Priority") == "0"
    if state in _ENDED:
        return None
    if admitted:
        return (
            "resume" if state == "SUSPENDED" else "release" if state == "PENDING" and held else ""
        )
    return "suspend" if state == "RUNNING" else "hold" if state == "PENDING" and not held else ""
