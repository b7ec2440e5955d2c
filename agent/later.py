"""Something that is imported and made only when it is first used.

For parts that the first readings need not wait for: the database's libraries take longer to
import than everything else together.
"""

from collections.abc import Callable
from typing import Any


class Later:
    """Stands for what `make` returns; any use of it makes it. For one event loop."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def __getattr__(self, name: str) -> Any:
        """Called for what this object itself has not: all but `_make` and `_made`."""
        if name == "_made":
            self._made = self._make()
            return self._made
        return getattr(self._made, name)
