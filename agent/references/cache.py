"""Remembers finished runs on disk, by everything that they depend on.

This file is no part of that: how runs are kept says nothing about what they give.
"""

import ast
import functools
import hashlib
import importlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent.plants.site import PlantError
from agent.references.trial import Played, Trial
from agent.rehearse import ALIASES, Rehearsal


class Cache:
    """Finished runs on disk, one JSON file each, by a hash of all they depend on. known: more of them
    in one file, by the same names, that somebody made before (see `named`)."""

    def __init__(self, folder: Path | None = None, known: Path | None = None) -> None:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        self.folder = folder or base / "skadi" / "references"
        found = json.loads(known.read_text(encoding="utf-8")) if known and known.exists() else {}
        self._known: dict[str, Any] = found

    def get(self, trial: Trial) -> Played | None:
        """A run made before, or None: never made, or not readable any more."""
        path = self._path(trial)
        try:
            body = self._known.get(path.name) or json.loads(path.read_text(encoding="utf-8"))
            return Played(body["result"], body["hours_kwh"], body["hours_over"])
        except (OSError, ValueError, KeyError, TypeError):
            return None  # made anew, and written over

    def summary(self, name: str, plan: Rehearsal) -> dict[str, Any] | None:
        """What a reference controller gave on this plan, where it was run before."""
        played = self.get(_summary(name, plan))
        return played.result if played else None

    def keep(self, name: str, plan: Rehearsal, result: dict[str, Any]) -> None:
        """Remember what a reference controller gave on this plan."""
        self.put(_summary(name, plan), Played(result))

    def named(self, name: str, plan: Rehearsal) -> tuple[str, dict[str, Any]]:
        """What `summary` knows, and the name it has, for a file of known runs. Raises KeyError."""
        trial = _summary(name, plan)
        if (played := self.get(trial)) is None:
            raise KeyError(f"{name} was never run on {plan.plant_args}")
        return self._path(trial).name, _body(played)

    def put(self, trial: Trial, played: Played) -> None:
        """Remember a run; whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path, body = self._path(trial), _body(played)
        part = path.with_suffix(f".{os.getpid()}.part")
        part.write_text(json.dumps(body), encoding="utf-8")
        part.replace(path)

    def _path(self, trial: Trial) -> Path:
        plan = trial.plan
        about = {
            "plant": ALIASES.get(plan.plant, plan.plant), "code": _code(plan.plant),
            "args": {k: [v, _content(v)] for k, v in sorted(plan.plant_args.items())},
            "hours": plan.hours, "tick_s": plan.tick_s, "site": repr(plan.site),
            "policy": trial.policy, "values": trial.values,
        }  # fmt: skip
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
        return self.folder / f"{trial.policy}-{digest[:32]}.json"


def _summary(name: str, plan: Rehearsal) -> Trial:
    """What all that a reference controller gave on a plan is remembered by."""
    return Trial(replace(plan, controller=name, model=None), name, "summary")


def _body(played: Played) -> dict[str, Any]:
    return {"result": played.result, "hours_kwh": played.hours_kwh, "hours_over": played.hours_over}


@functools.cache
def _code(plant: str) -> str:
    """A hash of the source a run depends on, not of how it is laid out: the plant's package, and ours
    around it.

    A plant's module may add what lies outside its code: a function fingerprint() -> str.
    """
    try:
        module = importlib.import_module(ALIASES.get(plant, plant).partition(":")[0])
    except ImportError as error:
        raise PlantError(f"--plant {plant!r}: {error}") from error
    here = Path(__file__).parent
    agent = here.parent
    files = [agent / "tally.py", *sorted({*here.glob("*.py")} - {Path(__file__)}),
             *sorted((agent / "plants").glob("*.py"))]  # fmt: skip
    if module.__file__ is not None and Path(module.__file__).parent != agent / "plants":
        own = Path(module.__file__)
        files += sorted(own.parent.rglob("*.py")) if own.name == "__init__.py" else [own]
    files += [agent.parent / "control" / "energy.py"]
    digest = hashlib.sha256()
    fingerprint = getattr(module, "fingerprint", None)
    if callable(fingerprint):
        digest.update(str(fingerprint()).encode())
    for file in files:
        digest.update(ast.unparse(ast.parse(file.read_bytes())).encode())
    return digest.hexdigest()


def _content(text: str) -> str | None:
    """A hash of the file an argument names, None where it names none."""
    try:
        return hashlib.sha256(Path(text).read_bytes()).hexdigest()
    except (OSError, ValueError):
        return None
