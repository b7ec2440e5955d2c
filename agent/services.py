"""What operations may need beside the agent itself: set by whoever runs the site, None where absent.

Decides nothing. An operation that needs a service which is not there says so as its result.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent.alarms import AlarmDesk
    from agent.api.views import Seen
    from agent.history.service import History
    from agent.models import Models

# What a service answers: whether it was done, and its detail as plain JSON values.
Answer = tuple[bool, dict[str, Any]]


class HistoryDown(Exception):
    """The history database can't answer now. The message says which one and why."""


@dataclass(frozen=True, slots=True)
class HistoryStatus:
    """How history is doing. lost: why it can't be written, empty when it can."""

    place: str
    lost: str
    queued: int
    written: int
    dropped: int


@dataclass(slots=True)
class Services:
    """The running site's other parts, as far as operations use them.

    scenario: starts or stops an overlay of the simulated hall (name, action, duration_s).
    seen: all that can be looked at. reload: takes the site file over (done, detail, refused).
    """

    history: "History | None" = None
    alarms: "AlarmDesk | None" = None
    seen: "Seen | None" = None
    reload: Callable[[], Awaitable[tuple[bool, dict[str, Any], bool]]] | None = None
    models: "Models | None" = None
    scenario: Callable[[str, str, float | None], Awaitable[Answer]] | None = None
