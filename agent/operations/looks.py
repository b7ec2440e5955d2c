"""Operations that only look: the overview, the heat map, what happened since a number.

The same shapes as over HTTP, for those who stand on the host or listen to the broker. Decide
nothing, change nothing.
"""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from agent.api import views
from agent.api.views import Seen
from agent.events import TYPES

if TYPE_CHECKING:
    from agent.core import Agent

Answer = tuple[bool, dict[str, Any]]

MOST_CHARACTERS = 1_000_000  # of events in one answer


class EventArguments(BaseModel):
    """Events after number `since`, the oldest first; without it the latest `limit`. `types`: only these."""

    model_config = ConfigDict(extra="forbid", strict=True)

    since: Annotated[int, Field(ge=0)] | None = None
    limit: Annotated[int, Field(ge=1, le=500)] = 100
    types: Annotated[list[Literal[*TYPES]], Field(max_length=len(TYPES))] = Field(  # type: ignore[valid-type]
        default_factory=list
    )


def _overview(seen: Seen, _arguments: Any) -> dict[str, Any]:
    return views.overview(seen).model_dump(mode="json")


def _devices(seen: Seen, _arguments: Any) -> dict[str, Any]:
    return {"devices": [d.model_dump(mode="json") for d in views.devices(seen)]}


def _heatmap(seen: Seen, _arguments: Any) -> dict[str, Any]:
    return views.heatmap(seen).model_dump(mode="json")


def _events(seen: Seen, arguments: EventArguments) -> dict[str, Any]:
    hub = seen.hub
    since, limit = arguments.since, arguments.limit
    latest = since is None or since > hub.seq
    kept = hub.after(0 if latest else since or 0, hub.seq)
    wanted = [e for e in kept if not arguments.types or e.type in arguments.types]
    found: list[Any] = []
    size = 0
    for event in wanted[-limit:] if latest else wanted[:limit]:
        size += len(event.text)
        if found and size > MOST_CHARACTERS:
            break
        found.append(json.loads(event.text))
    return {"boot": hub.nonce, "seq": hub.seq, "oldest": hub.oldest, "events": found}


_VIEWS: dict[str, Callable[[Seen, Any], dict[str, Any]]] = {
    "overview": _overview,
    "devices": _devices,
    "heatmap": _heatmap,
    "events": _events,
}


def _look(view: Callable[[Seen, Any], dict[str, Any]]) -> Callable[["Agent", Any], Answer]:
    def look(agent: "Agent", arguments: Any) -> Answer:
        seen = agent.services.seen
        if seen is None:
            return False, {"reason": "this agent shows nothing: it was started without surfaces"}
        return True, view(seen, arguments)

    return look


LOOKS = {name: _look(view) for name, view in _VIEWS.items()}
