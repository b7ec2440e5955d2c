"""Makes sure that the five packages are ours: their names are plain, and others may use them."""

from importlib.metadata import packages_distributions

OURS = ("agent", "config", "control", "drivers", "simulators")


def foreign_owner() -> str | None:
    """Say which other distribution provides one of our package names, or None."""
    owners = packages_distributions()
    for name in OURS:
        foreign = sorted(set(owners.get(name, ())) - {"skadi"})
        if foreign:
            return (
                f"package {name!r} is also provided by {', '.join(foreign)}:"
                " install skadi into an environment of its own"
            )
    return None
