"""What the rules, the endings and the loops look at. Holds, decides nothing."""

from dataclasses import dataclass

from config.site import Point
from control.layout import Layout
from control.state import ControlState
from control.types import Snapshot


@dataclass(frozen=True, slots=True)
class Case:
    """The instant, the memory, the structure, and what monitors say.

    tau_persist: the monitor's threshold, None without a model.
    """

    snapshot: Snapshot
    state: ControlState
    layout: Layout
    tau_persist: float | None = None

    def point(self, key: str) -> Point:
        """A point of the site by its key. Raises KeyError."""
        return self.layout.site.points[key]
