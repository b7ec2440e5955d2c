"""Operations on models: begin a training, list them, let one take over. Adapters over agent.models."""

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from agent.clock import moment, utc
from agent.services import HistoryDown
from config.schema import Scope

if TYPE_CHECKING:
    from agent.core import Agent
    from agent.training_history import Asked

Answer = tuple[bool, dict[str, Any], bool]  # ok, detail, refused
When = Annotated[str, Field(min_length=2, max_length=40)]
ABSENT: Answer = (False, {"reason": "this agent keeps no models"}, False)


class TrainArguments(BaseModel):
    """What to train on: from `since` to `until`, as 90m, 24h, 10d (before now) or as ISO 8601."""

    model_config = ConfigDict(extra="forbid", strict=True)

    since: When = "10d"
    until: When | None = None
    note: Annotated[str, Field(max_length=200)] = ""
    trust_alarms: bool = True


class ActivateArguments(BaseModel):
    """The version that is to judge. `force`: although it has not run in shadow for long enough."""

    model_config = ConfigDict(extra="forbid", strict=True)

    version: Annotated[int, Field(ge=1, le=2**31 - 1)]
    force: bool = False


class ExcludeArguments(BaseModel):
    """A stretch that no model may learn from: somebody worked there, or it was not usual."""

    model_config = ConfigDict(extra="forbid", strict=True)

    scope: Scope
    since: When
    until: When
    note: Annotated[str, Field(min_length=1, max_length=200)]


def asked(arguments: TrainArguments, now_s: float) -> "Asked | str":
    """The times meant, or why they are none."""
    from agent.training_history import Asked

    since_s = moment(arguments.since, now_s)
    until_s = now_s if arguments.until is None else moment(arguments.until, now_s)
    if since_s is None or until_s is None:
        return "write times as 90m, 24h, 10d, or 2026-01-31T12:00:00Z"
    if not 0 < until_s - since_s <= 366 * 86_400.0:
        return "until comes after since, by a year at most"
    return Asked(since_s, until_s, arguments.trust_alarms)


async def train(agent: "Agent", arguments: TrainArguments, by: str) -> Answer:
    """Begin a training in the worker process; the answer says that it has begun."""
    models = agent.services.models
    if models is None:
        return ABSENT
    span = asked(arguments, agent.clock.now_s())
    if isinstance(span, str):
        return False, {"reason": span}, False
    return *models.train(span, arguments.note, by), False


async def exclude(agent: "Agent", arguments: ExcludeArguments, by: str) -> Answer:
    """Mark a stretch that is never trained on."""
    history, now_s = agent.services.history, agent.clock.now_s()
    if history is None:
        return ABSENT
    record = stretch(arguments, now_s, by)
    if isinstance(record, str):
        return False, {"reason": record}, False
    history.add_action(record)
    return True, {k: record[k] for k in ("scope", "until", "note")}, False


def stretch(arguments: ExcludeArguments, now_s: float, by: str) -> dict[str, Any] | str:
    """The record of a marked stretch, or why it is none."""
    since_s, until_s = moment(arguments.since, now_s), moment(arguments.until, now_s)
    if since_s is None or until_s is None or not 0 < until_s - since_s <= 366 * 86_400.0:
        return "write times as 90m, 24h, 10d, or 2026-01-31T12:00:00Z; until comes after since"
    return {"type": "maintenance", "ts_s": since_s, "scope": arguments.scope, "until": utc(until_s),
            "note": arguments.note, "by": by}  # fmt: skip


async def listed(agent: "Agent") -> Answer:
    """Every version, the training under way, and the shadow."""
    models = agent.services.models
    if models is None:
        return ABSENT
    try:
        return True, await models.listed(), False
    except HistoryDown as error:
        return False, {"reason": str(error)}, False


async def activate(agent: "Agent", arguments: ActivateArguments, by: str) -> Answer:
    """Let a version take over."""
    models = agent.services.models
    if models is None:
        return ABSENT
    try:
        return await models.activate(arguments.version, arguments.force, by)
    except HistoryDown as error:
        return False, {"reason": str(error)}, False
