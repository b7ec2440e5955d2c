"""A profile held against a case: what a device holds, and the points that must come out.

A case is one TOML file, facts only, no network: [oids] maps OIDs to values as a device gives
them ("int:5", "gauge:7", "text:C", "oid:1.3.6.1"), `profile` names what scan must choose,
`points` what it must find, `absent` what it must not. `skadi profile test CASE.toml`.
"""

import asyncio
import math
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.scan.snmp import Walker, choose, collect, identify
from agent.scan.tables import Found, for_device
from config.addressing import parse_oid
from drivers.snmp_ber import Absent, Oid, Value, decode_oid


class CaseError(Exception):
    """A case that can't be read. The message says where and why."""


@dataclass(frozen=True, slots=True)
class Case:
    """A parsed case."""

    name: str
    profile: str
    held: dict[Oid, Value]
    points: dict[str, dict[str, Any]]
    absent: tuple[str, ...]


def read_case(path: Path) -> Case:
    """Read a case file. Raises CaseError."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        held = {parse_oid(oid): _value(text) for oid, text in raw["oids"].items()}
        return Case(
            path.stem, raw["profile"], held, raw.get("points", {}), tuple(raw.get("absent", ()))
        )
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError, ValueError) as error:
        raise CaseError(f"{path}: {type(error).__name__}: {error}") from None


def _value(text: str) -> Value:
    kind, _, rest = text.partition(":")
    match kind:
        case "int" | "gauge" | "counter":
            return int(rest)
        case "text":
            return rest.encode()
        case "hex":
            return bytes.fromhex(rest)
        case "oid":
            return parse_oid(rest)
        case _:
            raise ValueError(f"{text!r}: begin with int:, gauge:, counter:, text:, hex: or oid:")


def run_case(case: Case) -> list[str]:
    """Everything in which the outcome differs from the case; empty when it passes."""
    device = _Held(case.held)
    chosen, found = asyncio.run(_scan(device))
    problems = [] if chosen == case.profile else [f"profile {chosen}, not {case.profile}"]
    by_id = {p.id: p for p in found}
    for id_, wanted in case.points.items():
        point = by_id.get(id_)
        if point is None:
            problems.append(
                f"{id_}: not found; there are {', '.join(sorted(by_id)) or 'no points'}"
            )
        else:
            problems += _differences(point, wanted)
    return problems + [f"{id_}: must not be there" for id_ in case.absent if id_ in by_id]


def _differences(point: Found, wanted: dict[str, Any]) -> list[str]:
    problems = []
    for key, value in wanted.items():
        is_: Any = dict(point.valid_while) if key == "valid_while" else getattr(point, key)
        same = math.isclose(is_, value, rel_tol=1e-9) if isinstance(value, float) else is_ == value
        if not same:
            problems.append(f"{point.id}: {key} is {is_!r}, not {value!r}")
    return problems


async def _scan(device: "_Held") -> tuple[str | None, list[Found]]:
    walker = Walker(device)
    about = await identify(device)
    for profile in await choose(walker, about):
        found = await collect(walker, for_device(profile.tables, about.object_id))
        return profile.name, found.points
    return None, []


class _Held:
    """A device in memory: what Session offers to a walk, without a network."""

    requests = 0

    def __init__(self, held: dict[Oid, Value]) -> None:
        self._held = dict(sorted(held.items()))

    async def get(self, oids: list[bytes]) -> list[Value]:
        return [self._held.get(decode_oid(o[2:]), Absent.NO_SUCH_INSTANCE) for o in oids]

    async def next(self, oid: Oid, repetitions: int) -> list[tuple[Oid, Value]]:
        after = [(o, v) for o, v in self._held.items() if o > oid][:repetitions]
        return after or [(oid, Absent.END_OF_MIB)]
