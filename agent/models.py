"""The models of a running agent: training one, scoring it in shadow, letting it take over.

    trained ── newest: scored beside the active one, acts on nothing ── approved ──► active
                 a model that was active before may come back at once ◄── replaced ──┘

Decides when a model may judge: never by itself. A person approves, and a model that has not run in
shadow for SHADOW_S beside an active one takes over only when they insist. Must never train in this
process, nor let a shadow's findings reach the decision path.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import structlog

from agent.clock import utc
from agent.core import Agent
from agent.history.service import History, HistoryDown
from agent.history.store import StoredModel
from agent.records import KEEP_S
from agent.services import Answer
from agent.training import TrainingError
from agent.training_history import Asked, train_from_history
from control import monitor as monitoring
from control.ims_model import ModelError
from control.interlocks import under_maintenance
from control.layout import Layout
from control.mms import STATE_NAMES
from control.monitor import Monitor, MonitorState, Trained, fit
from control.sensors import believed

log = structlog.get_logger(__name__)

SHADOW_S = 3_600.0
SHADOW, TAKEN, DRIFT = "ims_shadow", "ims_taken", "ims_drift"  # settings in history
DRIFT_KEPT_S = 7 * 86_400.0  # what was learned longer ago is of another season


@dataclass(slots=True)
class Shadow:
    """A model that is scored beside the active one. Counts are ticks times units."""

    version: int
    monitor: Monitor
    layout: Layout
    since_s: float
    seconds: float = 0.0
    state: MonitorState | None = None
    active: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STATE_NAMES, 0))
    candidate: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STATE_NAMES, 0))
    agree: int = 0

    def told(self) -> dict[str, Any]:
        """The tally as plain JSON values."""
        return {"version": self.version, "since_s": self.since_s, "seconds": round(self.seconds, 1),
                "active": self.active, "candidate": self.candidate, "agree": self.agree}  # fmt: skip


class Models:
    """`start()` before the loops, `keep()` every KEEP_S, `listen` is a listener of the agent."""

    def __init__(self, agent: Agent, history: History, environ: Mapping[str, str]) -> None:
        self._agent, self._history, self._environ = agent, history, environ
        self._task: asyncio.Task[None] | None = None
        self.training: dict[str, Any] = {"running": False}
        self.shadow: Shadow | None = None
        self._active: int | None = None
        self._recalled = False
        self._sought = agent.site.ims.model is not None  # the site file's model needs no looking up

    async def start(self) -> None:
        """Judge by the active model of history, unless the site file names one. Never raises."""
        try:
            await self._take_up()
        except HistoryDown as error:
            log.warning("no model from history yet", reason=str(error))

    async def _take_up(self) -> None:
        stored = await self._history.active_model()
        self._active = stored.version if stored else None
        if stored is not None and not self._sought:
            try:
                self._agent.use_model(trained_of(stored))
            except ValueError as error:
                log.error(
                    "the active model does not fit", version=stored.version, reason=str(error)
                )
        self._sought = True
        if not self._recalled:
            await self._recall_drift()

    async def _recall_drift(self) -> None:
        """Go on, once, from the drift that a former run learned with the same model."""
        told, self._recalled = await self._history.get_setting(DRIFT), True
        agent, monitor = self._agent, self._agent.setting.monitor
        now_s = agent.clock.now_s()
        if monitor is None or not told or told["model"] != monitor.model.id:
            return
        if told["units"] == list(monitor.units) and now_s - told["at_s"] < DRIFT_KEPT_S:
            state = agent.control.monitor or monitoring.begin(monitor, now_s)
            drift = np.array(told["drift"], dtype=np.float64)
            agent.control = replace(agent.control, monitor=monitoring.with_drift(state, drift))

    async def _keep_drift(self) -> None:
        monitor, state = self._agent.setting.monitor, self._agent.control.monitor
        if monitor is not None and state is not None and state.ims.drift.any():
            told = {"model": monitor.model.id, "units": monitor.units, "drift": state.ims.drift.round(6).tolist(),
                    "at_s": self._agent.clock.now_s()}  # fmt: skip
            await self._history.set_setting(DRIFT, told)

    async def stop(self) -> None:
        """End a training that still runs."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    # -- training

    def train(self, asked: Asked, note: str, by: str) -> Answer:
        """Begin to train; what came of it is an event and stands in `training`."""
        if self._task is not None and not self._task.done():
            return False, {"reason": "a training is running; see models.list"}
        span = {"since": utc(asked.since_s), "until": utc(asked.until_s)}
        self.training = {"running": True, "by": by, **span}
        self._task = asyncio.create_task(self._train(asked, note, by), name="models: training")
        return True, {"started": True, **span}

    async def _train(self, asked: Asked, note: str, by: str) -> None:
        try:
            lesson = await train_from_history(self._agent.site, self._environ, asked)
            version = await self._history.save_model(lesson.document(), note or f"trained by {by}")
        except (TrainingError, HistoryDown, ModelError, OSError) as error:
            self.training = {"running": False, "ok": False, "reason": str(error)}
            self._agent.note("training_failed", {"by": by, "reason": str(error)})
            return
        self.training = {"running": False, "ok": True, "version": version}
        self._agent.note("model_trained", {"by": by, "version": version, "id": lesson.model.ims.id})

    # -- shadow

    def listen(self, kind: str, detail: dict[str, Any]) -> None:
        """Score the candidate on what the active model has just been scored on."""
        shadow = self.shadow
        if kind != "findings" or shadow is None or not detail["findings"]:
            return
        if shadow.layout is not self._agent.layout:  # the site file was taken over anew
            self.shadow = None
            return
        snapshot, looked = self._agent.snapshot(), self._agent.control.looked
        if looked is not None:
            snapshot = believed(looked, snapshot)
        before = shadow.state or monitoring.begin(shadow.monitor, snapshot.now_s)
        tags = under_maintenance(self._agent.site, snapshot, self._agent.control.trips)
        shadow.state, found = monitoring.tick(
            shadow.monitor, self._agent.layout, snapshot, before, tags
        )
        if before.at_s > 0.0:
            shadow.seconds += min(max(snapshot.now_s - before.at_s, 0.0), KEEP_S)
        for unit, finding in detail["findings"].items():
            shadow.active[finding.state] += 1
            shadow.candidate[found[unit].state] += 1
            shadow.agree += finding.state == found[unit].state

    async def keep(self) -> None:
        """Keep the tally; begin with a model that is newer than the active one. Raises HistoryDown."""
        if not self._sought or self._active is None:
            await self._take_up()
        await self._keep_drift()
        newest = next(iter(await self._history.list_models()), None)
        shadow = self.shadow
        if (
            newest is None
            or self._agent.setting.monitor is None
            or newest.version <= (self._active or 0)
        ):
            self.shadow = None
        elif shadow is None or shadow.version != newest.version:
            await self._cast(newest.version)
        if self.shadow is not None:
            await self._history.set_setting(SHADOW, self.shadow.told())

    async def _cast(self, version: int) -> None:
        """Begin a shadow, or go on with the tally of a former run."""
        stored = await self._history.model(version)
        if stored is None:
            return
        try:
            monitor = fit(self._agent.layout, trained_of(stored))
        except ValueError as error:
            log.warning("a model can't be scored in shadow", version=version, reason=str(error))
            return
        self.shadow = Shadow(version, monitor, self._agent.layout, self._agent.clock.now_s())
        told = await self._history.get_setting(SHADOW)
        if told and told["version"] == version:
            for key in ("since_s", "seconds", "active", "candidate", "agree"):
                setattr(self.shadow, key, told[key])

    # -- taking over

    async def activate(
        self, version: int, force: bool, by: str
    ) -> tuple[bool, dict[str, Any], bool]:
        """Let a version judge from now on, here and after a restart."""
        if self._agent.site.ims.model is not None:
            return (
                False,
                {"reason": "ims.model in the site file names the model: remove it first"},
                True,
            )
        if self.shadow is not None:
            await self._history.set_setting(SHADOW, self.shadow.told())
        stored = await self._history.model(version)
        try:
            trained = None if stored is None else trained_of(stored)
            if trained is not None:
                fit(self._agent.layout, trained)
        except ValueError as error:
            return False, {"reason": f"version {version}: {error}"}, False
        answer = await take_over(self._history, version, force, by, self._agent.clock.now_s())
        if answer[0] and trained is not None:
            self._agent.use_model(trained)
            self._active, self.shadow = version, None
        return answer

    async def listed(self) -> dict[str, Any]:
        """Every version, the training, and the shadow."""
        kept = await overview(self._history)
        return kept | {"training": self.training}


def trained_of(stored: StoredModel) -> Trained:
    """The model that is kept under a version. Raises ModelError."""
    try:
        return Trained.from_dict(dict(stored.document or {}))
    except KeyError as error:
        raise ModelError(f"version {stored.version}: {error} is missing: train again") from error


async def take_over(
    history: History, version: int, force: bool, by: str, now_s: float
) -> tuple[bool, dict[str, Any], bool]:
    """Make a version the active one in history, if that is allowed. (ok, detail, refused)."""
    active = await history.active_model()
    taken: list[dict[str, Any]] = await history.get_setting(TAKEN, [])
    shadow = await history.get_setting(SHADOW) or {}
    seen_s = shadow.get("seconds", 0.0) if shadow.get("version") == version else 0.0
    known = any(t["version"] == version for t in taken)
    if active is not None and active.version == version:
        return False, {"reason": f"version {version} is active already"}, False
    if active is not None and not known and not force and seen_s < SHADOW_S:
        return False, {"reason": f"version {version} ran in shadow for {seen_s / 60:.0f} min of "
                       f"{SHADOW_S / 60:.0f}: wait, or insist (--force)"}, True  # fmt: skip
    if not await history.activate_model(version):
        return False, {"reason": f"no version {version}: skadi models list"}, False
    entry = {"version": version, "at_s": now_s, "by": by, "forced": force, "shadow_s": seen_s}
    await history.set_setting(TAKEN, [*taken, entry][-100:])
    return True, {"active": version, "before": active.version if active else None}, False


async def overview(history: History) -> dict[str, Any]:
    """Every version without its document, who let it take over, and the shadow's tally."""
    taken: list[dict[str, Any]] = await history.get_setting(TAKEN, [])
    return {
        "models": [
            {"version": m.version, "id": m.id, "created": utc(m.created_s), "active": m.active,
             "note": m.note,
             "taken_over": [{"at": utc(t["at_s"]), "by": t["by"], "forced": t["forced"]}
                            for t in taken if t["version"] == m.version]}
            for m in await history.list_models()
        ],
        "shadow": await history.get_setting(SHADOW),
    }  # fmt: skip
