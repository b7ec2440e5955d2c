"""Where a piece of configuration came from, so that a problem can name file, line and key."""

from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from config.errors import Problem
from config.lines import Lines, Path
from config.schema import Section, closest

# What people write from other software's habit -> the key here.
OTHER_NAMES = {
    "baudrate": "baud", "speed": "baud", "stopbits": "stop_bits", "device": "path", "port": "path",
    "unit": "unit_id", "slave": "unit_id", "address": "host", "ip": "host", "interval": "poll_interval_s",
}  # fmt: skip

T = TypeVar("T")
S = TypeVar("S", bound=Section)


@dataclass(frozen=True)
class Source:
    """A file, the lines of its keys, and the path of the table this is about."""

    file: str
    lines: Lines
    base: Path
    overrides: dict[str, str] = field(default_factory=dict)

    def at(self, *path: str | int) -> "Source":
        """The source of a table inside this one."""
        return Source(self.file, self.lines, (*self.base, *path), self.overrides)

    def problem(self, path: Path, text: str) -> Problem:
        """Make a problem about the key at `path` below this table."""
        if path and path[0] in self.overrides:
            return Problem("environment", 1, self.overrides[str(path[0])], text)
        whole = (*self.base, *path)
        return Problem(self.file, self.lines.of(whole), dotted(whole), text)


@dataclass(frozen=True)
class Sourced(Generic[T]):
    """A value with where it came from. `faulty`: keys that were wrong and left out of it."""

    value: T
    source: Source
    faulty: frozenset[str] = frozenset()


def dotted(path: Path) -> str:
    """Write a path for people: device[2].point[0].register."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "file"


def parse(model: type[S], item: Sourced[Any], problems: list[Problem]) -> Sourced[S] | None:
    """Validate one table. What is wrong goes to `problems`, each with its line.

    After field errors it tries again without the faulty keys, so that the checks between
    tables still see the rest of the file: all errors come out at once.
    """
    data = item.value
    if not isinstance(data, dict):
        problems.append(item.source.problem((), "must be a table"))
        return None
    try:
        return Sourced(model.model_validate(data), item.source)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
    explained = [_explain(model, detail) for detail in found]
    problems += [item.source.problem(*e) for e in explained]
    faulty = {path[0] for path, _ in explained if path}
    rest = {k: v for k, v in data.items() if k not in faulty}
    try:
        return Sourced(model.model_validate(rest), item.source, frozenset(map(str, faulty)))
    except ValidationError as error:
        before = {str(d["loc"]) for d in found}
        for detail in error.errors(include_url=False, include_input=False):
            required = detail["type"] == "missing" and detail["loc"][0] in data
            if str(detail["loc"]) not in before and not required:
                problems.append(item.source.problem(*_explain(model, detail)))
        return None


def _within(model: type[BaseModel], path: Path) -> type[BaseModel]:
    """The model of a table inside a table: its keys are the ones to suggest."""
    for part in path:
        field = model.model_fields.get(str(part))
        kinds = (field.annotation, *get_args(field.annotation)) if field else ()
        model = next((k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)), model)
    return model


def _explain(model: type[Section], detail: Any) -> tuple[Path, str]:
    """Turn one pydantic finding into a key path and a sentence."""
    known = {f.alias or name for name, f in _within(model, detail["loc"][:-1]).model_fields.items()}
    path: Path = tuple(p for p in detail["loc"] if p not in ("function-after", "constrained-str"))
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        word = str(path[-1])
        return (
            path,
            f"unknown key{closest(word if word in known else OTHER_NAMES.get(word, word), known)}",
        )
    if kind == "missing":
        return path, "is missing; add it"
    if kind == "value_error":
        text = str(context["error"])
        key, colon, rest = text.partition(": ")
        if not path and colon and key in known:  # a check of the whole table names its key first
            return (key,), rest
        return path, text
    return path, f"{detail['msg'][0].lower()}{detail['msg'][1:]}"
