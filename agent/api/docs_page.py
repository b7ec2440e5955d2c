"""GET /docs: the OpenAPI for people, in one page without a script and without another host.

An edge host often has no way out, so nothing here is fetched from anywhere. Decides nothing.
"""

import json
from collections.abc import Iterator
from html import escape
from typing import Any

Json = dict[str, Any]

STYLE = """\
body{font:15px/1.5 system-ui,sans-serif;color:#1d2733;max-width:62rem;margin:2rem auto;padding:0 1rem}
h2{margin-top:2.5rem;border-bottom:2px solid #0b6e99}h3{margin:1.8rem 0 .2rem}
code,pre{font:13px/1.4 ui-monospace,monospace;background:#f1f4f6;border-radius:3px;padding:.1em .3em}
pre{padding:.6em;overflow-x:auto;white-space:pre-wrap}b{color:#0b6e99}
table{border-collapse:collapse;width:100%;font-size:14px}
td,th{text-align:left;vertical-align:top;padding:.2em .6em .2em 0;border-bottom:1px solid #e3e8ec}"""


def docs_page(api: Json) -> str:
    """The page of an OpenAPI document."""
    about = "".join(f"<p>{_text(p)}</p>" for p in api["info"]["description"].split("\n\n"))
    operations = "".join(
        part
        for path, methods in api["paths"].items()
        for method, operation in methods.items()
        for part in _operation(method, path, operation, api)
    )
    shapes = "".join(
        f'<h3 id="{escape(name)}"><code>{escape(name)}</code></h3><p>{_text(shape.get("description", ""))}</p>'
        f"{_fields(shape)}"
        for name, shape in sorted(api["components"]["schemas"].items())
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><title>Skadi: HTTP API</title>'
        f"<style>{STYLE}</style></head><body><h1>Skadi: HTTP API</h1>{about}"
        '<p>The whole contract: <a href="openapi.json">openapi.json</a></p>'
        f"<h2>Calls</h2>{operations}<h2>Shapes</h2>{shapes}</body></html>"
    )


def _operation(method: str, path: str, operation: Json, api: Json) -> Iterator[str]:
    yield f"<h3><b>{method.upper()}</b> <code>{escape(path)}</code></h3>"
    yield f"<p>{_text(operation.get('description') or operation.get('summary', ''))}</p>"
    rows = [(p["name"], _kind(p["schema"]), p["in"], p.get("description", ""))
            for p in operation.get("parameters", ())]  # fmt: skip
    if rows:
        yield _table(("parameter", "type", "in", ""), rows)
    body = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if body is not None:
        shape = _shape(body["schema"], api)
        yield f"<p>Body: {_kind(body['schema'])}, for example</p>"
        yield f"<pre>{escape(json.dumps(_example(shape, api), ensure_ascii=False))}</pre>"
    told = (
        f"{code} {_answered(r.get('content', {}))}" for code, r in operation["responses"].items()
    )
    yield f"<p>Answers: {', '.join(told)}</p>"


def _answered(content: Json) -> str:
    return " or ".join(_kind(c.get("schema", {})) or escape(kind) for kind, c in content.items())


def _fields(shape: Json) -> str:
    needed = shape.get("required", ())
    rows = [(name, _kind(field), "" if name in needed else "optional", field.get("description", ""))
            for name, field in shape.get("properties", {}).items()]  # fmt: skip
    return _table(("member", "type", "", ""), rows)


def _table(head: tuple[str, ...], rows: list[tuple[str, str, str, str]]) -> str:
    """The second column is markup of ours, the others are text."""
    heads = "".join(f"<th>{h}</th>" for h in head)
    lines = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{kind}</td><td>{escape(where)}</td>"
        f"<td>{_text(about)}</td></tr>"
        for name, kind, where, about in rows
    )
    return f"<table><tr>{heads}</tr>{lines}</table>"


def _kind(schema: Json) -> str:
    """A type in words, as markup: a link where it is a shape of ours."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(_kind(s) for s in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        words = schema.get("enum") or [schema["const"]]
        return " or ".join(f"<code>{escape(json.dumps(w))}</code>" for w in words)
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    return escape(str(schema.get("type", "")))


def _shape(schema: Json, api: Json) -> Json:
    while "$ref" in schema:
        schema = api["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def _example(schema: Json, api: Json) -> Any:
    """The shape's own example, else what must be there at least."""
    schema = _shape(schema, api)
    if schema.get("examples"):
        return schema["examples"][0]
    if "anyOf" in schema:
        return _example(schema["anyOf"][0], api)
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            needed = schema.get("required", ())
            return {k: _example(v, api) for k, v in schema.get("properties", {}).items() if k in needed}  # fmt: skip
        case "array":
            return [_example(schema.get("items", {}), api)]
        case "number" | "integer":
            return schema.get("minimum", 1)
        case kind:
            return "…" if kind == "string" else None


def _text(text: str) -> str:
    """Escaped, with `code` between backquotes."""
    parts = escape(text).split("`")
    return "".join(f"<code>{p}</code>" if i % 2 else p for i, p in enumerate(parts))
