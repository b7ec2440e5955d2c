"""Writes docs/reference from the code: configuration keys, command line, HTTP, MQTT, metrics, profiles.

Nothing in these pages is written by hand; they are made at each build and not kept.
"""

import asyncio
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from prometheus_client.core import Metric

from agent.api.app import Context, make_app
from agent.api.auth import Tokens
from agent.api.metrics import Collector
from agent.api.push import PushDoor
from agent.cli import skadi
from agent.events import Hub
from agent.history.service import History
from agent.logs import configure
from agent.mqtt.mirror import Mirror
from agent.mqtt.payload import TOPICS
from agent.mqtt.schema import SCHEMAS
from agent.operations.table import OPERATIONS
from agent.rehearse import Rehearsal, Rehearsed
from config.jsonschema import site_schema
from config.library import profile_names, read_profile
from config.quantities import QUANTITIES
from config.surfaces import MqttSection

Json = dict[str, Any]
NOTE = "*Made from the code; nothing here is written by hand.*\n"


def write(folder: Path) -> None:
    """All pages."""
    folder.mkdir(exist_ok=True)
    for name, lines in {
        "config": config(), "cli": cli(), "http": http(), "mqtt": mqtt(), "operations": operations(),
        "metrics": metrics(), "profiles": profiles(), "quantities": quantities(),
    }.items():  # fmt: skip
        text = "\n".join(lines) + "\n"
        path = folder / f"{name}.md"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> Iterator[str]:
    """A Markdown table."""
    heads = list(head)
    yield ""
    yield f"| {' | '.join(heads)} |"
    yield "|" + "---|" * len(heads)
    for row in rows:
        yield f"| {' | '.join(cell(c) for c in row)} |"
    yield ""


def cell(value: object) -> str:
    """Text that can't break out of its cell."""
    return " ".join(str(value).split()).replace("|", "\\|").replace("<", "\\<").replace("$", "\\$")


def code(value: object) -> str:
    """The same, as code; empty stays empty."""
    text = " ".join(str(value).split()).replace("|", "\\|")
    return f"`{text}`" if text else ""


def config() -> Iterator[str]:
    """Every key of a site file."""
    schema = site_schema()
    definitions: Json = schema["$defs"]
    yield from (
        "# Configuration keys",
        NOTE,
        "The same as JSON schema, for editors: `skadi schema config`.",
    )
    for name, about in schema["properties"].items():
        model = _model(about, definitions)
        if model is None:
            continue
        listed = about.get("type") == "array"
        yield f"\n## {'`[[' if listed else '`['}{name}{']]`' if listed else ']`'}\n"
        yield from _keys(model, definitions)
        for inner, field in model["properties"].items():
            child = _model(field, definitions)
            if child is not None and child.get("title") != "SecretRef":
                yield f"\n### `{name}.{inner}`\n"
                yield from _keys(child, definitions)


def _keys(model: Json, definitions: Json) -> Iterator[str]:
    if "description" in model:
        yield " ".join(model["description"].split())
    required = model.get("required", ())
    rows = ((f"`{key}`", code(_kind(field, definitions)),
             "required" if key in required else code(_default(field)), _range(field))
            for key, field in model["properties"].items())  # fmt: skip
    yield from table(("key", "type", "default", "allowed"), rows)


def _model(field: Json, definitions: Json) -> Json | None:
    """The model behind a field: itself, in a list, or one of several."""
    for part in (field, field.get("items", {}), *field.get("anyOf", ())):
        if "$ref" in part:
            found: Json = definitions[part["$ref"].rpartition("/")[2]]
            return found if "properties" in found else None
    return None


def _kind(field: Json, definitions: Json) -> str:
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return (
            "secret"
            if name == "SecretRef"
            else "table"
            if "properties" in definitions[name]
            else name
        )
    if "anyOf" in field:
        return " or ".join(k for f in field["anyOf"] if (k := _kind(f, definitions)) != "null")
    if "enum" in field:
        return " or ".join(map(repr, field["enum"]))
    if field.get("type") == "array":
        return f"list of {_kind(field.get('items', {}), definitions)}"
    return str(field.get("type", field.get("const", "any")))


def _default(field: Json) -> str:
    default = field.get("default", "")
    return "" if default is None else str(default)


def _range(field: Json) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "\\<"}
    parts = [field, *field.get("anyOf", ())]
    return ", ".join(f"{sign} {p[k]:.10g}" for p in parts for k, sign in signs.items() if k in p)


def cli() -> Iterator[str]:
    """Every command with its options."""
    yield from ("# Command line", NOTE)
    yield "Exit codes: 0 ok, 1 failure, 2 usage, 75 unreachable, 77 refused by a limit or a role, 78 configuration.\n"
    yield from _commands(click.Context(skadi, info_name="skadi"), 2)


def _commands(context: click.Context, level: int) -> Iterator[str]:
    group = context.command
    assert isinstance(group, click.Group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        child = click.Context(command, info_name=name, parent=context)
        yield f"\n{'#' * level} `{child.command_path}`\n"
        yield cell(command.help or "")
        options = [p.get_help_record(child) for p in command.params]
        rows = [(code(names), about) for names, about in filter(None, options)]
        arguments = " ".join(
            p.make_metavar(child) for p in command.params if isinstance(p, click.Argument)
        )
        if arguments:
            yield f"\nArguments: `{arguments}`"
        if rows:
            yield from table(("option", ""), rows)
        if isinstance(command, click.Group):
            yield from _commands(child, level + 1)


def http() -> Iterator[str]:
    """Every path of the API."""
    api = make_app(None).openapi()
    yield from ("# HTTP API", NOTE)
    yield "The whole of it, with every schema: `skadi schema openapi`, or `/docs` of a running agent.\n"
    yield api["info"]["description"]
    rows = ((code(method.upper()), code(path), about.get("description") or about.get("summary", ""))
            for path, methods in api["paths"].items() for method, about in methods.items())  # fmt: skip
    yield from table(("method", "path", ""), rows)
    yield from shapes(api["components"]["schemas"])


def shapes(schemas: Json) -> Iterator[str]:
    """Every member of every shape."""
    for name, schema in sorted(schemas.items()):
        yield f"## `{name}`\n\n{cell(schema.get('description', ''))}\n"
        rows = ((code(member), code(kind(field)), field.get("description", ""))
                for member, field in schema.get("properties", {}).items())  # fmt: skip
        yield from table(("member", "type", ""), rows)


def kind(field: Json) -> str:
    """The type of a member in a word or two."""
    if "anyOf" in field:
        return " or ".join(map(kind, field["anyOf"]))
    if "enum" in field:
        return " or ".join(map(str, field["enum"]))
    if isinstance(types := field.get("type", ""), list):
        return " or ".join(types)
    named = str(field.get("$ref") or field.get("const") or types).rpartition("/")[2]
    return f"list of {kind(field['items'])}" if named == "array" else named


def mqtt() -> Iterator[str]:
    """Every topic."""
    yield from ("# MQTT topics", NOTE)
    yield "Below `{base_topic}/{site}/{area}/`. Payloads are JSON; numbers carry value, unit, quality and UTC time.\n"
    yield from table(
        ("topic", "what it carries"), ((code(t), about) for t, about in TOPICS.items())
    )
    yield from shapes(SCHEMAS)


def operations() -> Iterator[str]:
    """The table behind HTTP, CLI and MQTT."""
    yield from ("# Operations", NOTE)
    yield "The same by `skadi call`, `POST /…` and MQTT: one table, one result, one audit entry.\n"
    rows = (
        (code(o.name), o.role, ", ".join(o.arguments.model_fields), "yes" if o.changes else "")
        for o in OPERATIONS.values()
    )
    yield from table(("operation", "least role", "arguments", "changes something"), rows)


def profiles() -> Iterator[str]:
    """The device profiles that ship."""
    yield from ("# Device profiles", NOTE)
    found = [(name, read_profile(name).about) for name in profile_names()]
    rows = (
        (code(name), p.protocol, p.title, "yes" if p.verified else "no: read only", p.source)
        for name, p in found
    )
    yield from table(("profile", "protocol", "device", "verified", "source of its facts"), rows)


def quantities() -> Iterator[str]:
    """What a point can measure."""
    yield from ("# Quantities", NOTE)
    ways = {1: "higher", -1: "lower", 0: ""}
    rows = (
        (code(q.name), q.unit, ways[q.danger], f"{q.low:g} to {q.high:g}")
        for q in QUANTITIES.values()
    )
    yield from table(("quantity", "unit", "hurts when", "plausible"), rows)


def metrics() -> Iterator[str]:
    """What an agent on the bundled hall exposes."""
    yield from ("# Metrics", NOTE)
    with tempfile.TemporaryDirectory() as folder:
        families = asyncio.run(_families(Path(folder)))
    rows = ((code(f"{f.name}_total" if f.type == "counter" else f.name), f.type,
             ", ".join(getattr(f, "_labelnames", ())), f.documentation) for f in families)  # fmt: skip
    yield from table(("metric", "type", "labels", ""), rows)


async def _families(folder: Path) -> list[Metric]:
    """One look at an agent that has run for a minute in virtual time."""
    configure(level="error")
    run = Rehearsed(Rehearsal("hall", {"seed": "1"}), folder)
    await run.run(1 / 60)
    site = replace(run.site, mqtt=MqttSection(url="mqtt://127.0.0.1"))
    history, mirror = History(site, run.clock, {}), Mirror(site, run.clock, {})
    context = Context(
        clock=run.clock, agent=run.agent, hub=Hub(run.clock, "0" * 16), version="",
        tokens=Tokens(run.site, {}), push=PushDoor(run.site, run.clock, run.agent.take),
        history=history, mirror=mirror,
    )  # fmt: skip
    found = list(Collector(context).collect())
    run.close()
    return found
