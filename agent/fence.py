"""Until when `skadi release` may write for an agent of a pair that is dead: a file in data_dir.

Decides that it must not once the other agent may have taken over, or when that is not known: the
file can't be read, or is of another boot. Needs neither database nor configuration.
"""

import json
from collections.abc import Callable
from pathlib import Path

from agent.clock import WallClock

FENCE_FILE = "pair.json"


def fence_of(folder: Path, clock: WallClock) -> Callable[[], bool]:
    """True from when nothing may be sent any more. Always False where there is no pair."""
    try:
        found = json.loads((folder / FENCE_FILE).read_text(encoding="utf-8"))
        boot_id, until_s = str(found["boot_id"]), float(found["until_s"])
    except FileNotFoundError:
        return lambda: False
    except (OSError, ValueError, KeyError, TypeError):
        return lambda: True
    return lambda: clock.boot_id != boot_id or clock.boot_s() / clock.speed >= until_s
