"""What a stage of the safety run came to: how much was tried, and what was broken."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(slots=True)
class Tally:
    """cases: independent trials; figures: what else was counted; broken: each a line for people."""

    cases: int = 0
    broken: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)

    def count(self, name: str, by: float = 1) -> None:
        """Count something beside the cases."""
        self.figures[name] = self.figures.get(name, 0) + by

    def add(self, other: "Tally") -> None:
        """Take another run of the same stage in."""
        self.cases += other.cases
        self.broken += other.broken
        for name, by in other.figures.items():
            self.count(name, by)


# (first seed, how many, a folder of its own, processes at once) -> Tally
Runner = Callable[[int, int, Path, int], Tally]
