"""Reads a device profile: the points every device of a model has, as data.

A profile is `config/profiles/NAME.toml` with a [profile] table (title, protocol, source,
verified) and [[point]] entries with the same keys as in a site file.
"""

import tomllib
from functools import cache
from importlib import resources
from typing import Any

from config.schema import closest


class ProfileError(Exception):
    """A profile that doesn't exist or can't be used."""


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
