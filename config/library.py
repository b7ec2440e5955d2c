"""Reads device profiles: the points every device of a model has, as data.

A profile is `config/profiles/NAME.toml`; config.profile_schema says what may stand in it.
Its points come to a site in two ways:

- `profile = "NAME"` in a [[device]] gives the profile's [[point]]s. An agent that answers
  for several modules lists them, `modules = { "1" = "A01", "2" = "A02" }` (index -> rack);
  a target that answers for several hosts lists them, `hosts = { "node1" = "A01" }`. A point
  of one's own with the same id replaces the profile's.
- `skadi scan` walks the profile's [[table]]s and writes every value it finds as a point of
  the device, with `profile_points = false`: what stands in the site file is what is read.

`part = true` marks a point that is part of another (an outlet of a PDU), or is no power to
be counted (apparent power, a peak): it is read and kept, and never summed nor decided on.
"""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from pydantic import ValidationError

from config.profile_schema import AboutSection, MatchSection, TableSection
from config.schema import closest


class ProfileError(Exception):
    """A profile that doesn't exist or can't be used."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A checked profile. `points` are raw, as a site file would have them."""

    name: str
    about: AboutSection
    match: MatchSection
    tables: tuple[TableSection, ...]
    points: tuple[dict[str, Any], ...]


@cache
def profile_names() -> tuple[str, ...]:
    """The names of all bundled profiles, sorted."""
    files = resources.files("config.profiles").iterdir()
    return tuple(sorted(f.name.removesuffix(".toml") for f in files if f.name.endswith(".toml")))


@cache
def load_profile(name: str) -> dict[str, Any]:
    """Return a profile's parsed TOML. Raises ProfileError with a suggestion."""
    if name not in profile_names():
        raise ProfileError(f"unknown profile {name!r}{closest(name, profile_names())}")
    text = (resources.files("config.profiles") / f"{name}.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


@cache
def read_profile(name: str) -> Profile:
    """Return a checked profile, with the tables it takes from others. Raises ProfileError."""
    raw = load_profile(name)
    base = raw["profile"].get("base", "")
    try:
        about = AboutSection.model_validate(_absolute(raw["profile"], base))
        match = MatchSection.model_validate(_absolute(raw.get("match", {}), base))
        tables = [TableSection.model_validate(_absolute(t, base)) for t in raw.get("table", [])]
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ProfileError(f"profile {name}: {error.title} {where}: {first['msg']}") from None
    if unknown := set(raw) - {"profile", "match", "table", "point"}:
        raise ProfileError(f"profile {name}: unknown tables {sorted(unknown)}")
    for other in about.tables_of:
        tables += read_profile(other).tables
    return Profile(name, about, match, tuple(tables), tuple(raw.get("point", [])))


_OID_KEYS = ("oid", "unit_from", "scale_from", "digits", "divisor", "factor", "name", "where", "check",
             "unless", "part_if", "has", "sys_object_id", "deny")  # fmt: skip


def _absolute(table: dict[str, Any], base: str) -> dict[str, Any]:
    """Put `base` before every OID that begins with a dot."""

    def whole(value: Any) -> Any:
        if isinstance(value, str):
            return base + value if value.startswith(".") else value
        if isinstance(value, list):
            return [whole(v) for v in value]
        if isinstance(value, dict):
            return {whole(k): v for k, v in value.items()}
        return value

    return {k: whole(v) if k in _OID_KEYS else v for k, v in table.items()}


def profiles_of(protocol: str) -> tuple[Profile, ...]:
    """Every bundled profile of a protocol."""
    return tuple(
        read_profile(name)
        for name in profile_names()
        if load_profile(name)["profile"]["protocol"] == protocol
    )
