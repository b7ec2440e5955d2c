"""One run of a policy on a plant, and what it gave."""

from dataclasses import dataclass, field
from typing import Any

from agent.rehearse import Rehearsal


@dataclass(frozen=True, slots=True)
class Trial:
    """One run. policy: a name of POLICIES; values: its set points, plain JSON values."""

    plan: Rehearsal
    policy: str = "fixed"
    values: Any = None


@dataclass(frozen=True, slots=True)
class Played:
    """What a run gave: the rehearsal's result, and each hour's kWh and steps over a limit."""

    result: dict[str, Any]
    hours_kwh: list[float] = field(default_factory=list)
    hours_over: list[int] = field(default_factory=list)

    @property
    def cost(self) -> float:
        """Wh/prompt where there are prompts, else kWh: what is compared."""
        per = self.result["wh_per_prompt"]
        return float(self.result["total_kwh"] if per is None else per)

    @property
    def over(self) -> int:
        """Steps over any limit."""
        return sum(self.result["violation_steps"].values())
