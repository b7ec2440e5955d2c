"""What a person at the terminal asks of single points: which they mean, and how they stand.

Pure looks at a site and at a running agent's store; decides nothing and touches no device.
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from agent.clock import utc
from agent.reading_json import reading_json
from config.site import Point, Site
from control.types import Lease, Reading

if TYPE_CHECKING:
    from agent.core import Agent

MOST_PATTERNS = 64


class NoSuchPoint(ValueError):
    """Nothing of the site has this name. The message says what comes near."""


def matching(site: Site, wanted: Sequence[str]) -> list[Point]:
    """The points meant by keys, device ids, quantities or patterns (`crac-*/supply*`).

    In the order of the site file, all of them when nothing is wanted. Raises NoSuchPoint.
    """
    if not wanted:
        return list(site.points.values())
    keys: set[str] = set()
    for name in wanted:
        found = {
            p.key
            for p in site.points.values()
            if name in (p.key, p.device, p.quantity) or fnmatchcase(p.key, name)
        }
        if not found:
            near = get_close_matches(name, [*site.points, *site.device], n=1, cutoff=0.4)
            hint = f"did you mean {near[0]}?" if near else "skadi read  lists them all"
            raise NoSuchPoint(f"nothing here is called {name[:130]!r}; {hint}")
        keys |= found
    return [p for k, p in site.points.items() if k in keys]


def readings(agent: "Agent", wanted: Sequence[str]) -> list[dict[str, Any]]:
    """What a running agent has of these points, stamped by the wall clock. Raises NoSuchPoint."""
    points = matching(agent.site, wanted)
    found = agent.clock.stamped(agent.store.readings(agent.clock.now_s(), [p.key for p in points]))
    return rows(points, found, agent.control.leases)


def rows(
    points: Iterable[Point], found: Iterable[Reading], leases: dict[str, Lease] | Any = ()
) -> list[dict[str, Any]]:
    """Points with their readings as JSON; `held`: the value that is ours, None: nothing is."""
    held = dict(leases)
    return [
        reading_json(p, r)
        | {
            "key": p.key,
            "writable": p.writable is not None,
            "held": held[p.key].value if p.key in held else None,
        }
        for p, r in zip(points, found, strict=True)
    ]


def baseline_age_s(agent: "Agent", lease: Lease) -> float | None:
    """How long ago the baseline was read, None: not known, which counts as too long."""
    return None if lease.baseline_s is None else agent.clock.now_s() - lease.baseline_s


def baseline_is_old(agent: "Agent", lease: Lease) -> bool:
    """True when giving back would write the safe value because the baseline was read too long ago."""
    bounds = agent.site.points[lease.point].limits
    if bounds.relinquish or bounds.safe_value is None or lease.baseline is None:
        return False
    age_s = baseline_age_s(agent, lease)
    return age_s is None or age_s > bounds.baseline_max_age_s


def held(agent: "Agent", key: str) -> dict[str, Any] | None:
    """What we hold on a point: value, until when, at which priority. None: nothing."""
    lease = agent.control.leases.get(key)
    if lease is None:
        return None
    point = agent.site.points[key]
    left_s = lease.expires_s - agent.clock.now_s()
    relinquish = point.writable is not None and point.writable.relinquish
    return {
        "value": lease.value, "baseline": lease.baseline, "certain": lease.certain,
        "baseline_age_s": baseline_age_s(agent, lease),
        "expires_s": left_s, "expires": utc(lease.expires_s + agent.clock.offset_s()),
        "priority": agent.site.device[point.device].write_priority if relinquish else None,
    }  # fmt: skip
