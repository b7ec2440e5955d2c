"""Makes sure that the five packages are ours: their names are plain, and others may use them."""

from importlib.util import find_spec
from pathlib import Path

OURS = ("agent", "config", "control", "drivers", "simulators")


def foreign_owner() -> str | None:
    """Say which other distribution provides one of our package names, or None.

    Where all five are found in one folder that is nobody's install folder, they are ours.
    """
    places = {Path(spec.origin).parents[1] for n in OURS if (spec := find_spec(n)) and spec.origin}
    if len(places) == 1 and not any(places.pop().glob("*.dist-info")):
        return None
    from importlib.metadata import packages_distributions  # reads what every package installed

    owners = packages_distributions()
    for name in OURS:
        foreign = sorted(set(owners.get(name, ())) - {"skadi"})
        if foreign:
            return (
                f"package {name!r} is also provided by {', '.join(foreign)}:"
                " install skadi into an environment of its own"
            )
    return None
