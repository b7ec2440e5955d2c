"""What others build on stays: shapes of the HTTP API, events and MQTT, held against a record.

The record is tests/api/contract.json; `python -m tests.api.test_contract` writes what is new into it.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent.api.app import make_app
from agent.api.models import SCHEMA as API_SCHEMA
from agent.events import TYPES
from agent.mqtt.payload import SCHEMA as MQTT_SCHEMA
from agent.mqtt.schema import SCHEMAS

RECORD = Path(__file__).with_name("contract.json")
VERSIONS = {"http": API_SCHEMA, "mqtt": MQTT_SCHEMA}


def contract() -> dict[str, Any]:
    """Every name that others may use, with its type."""
    api = make_app(None).openapi()
    http = dict(_members(api["components"]["schemas"]))
    for path, methods in api["paths"].items():
        for method, about in methods.items():
            takes = [p["name"] for p in about.get("parameters", ()) if p["in"] == "query"]
            http[f"{method.upper()} {path}"] = " ".join(sorted(takes))
    http["WS /ws/events"] = " ".join(sorted(TYPES))
    return {"versions": VERSIONS, "http": http, "mqtt": dict(_members(SCHEMAS))}


def _members(shapes: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, shape in shapes.items():
        for member, field in shape.get("properties", {}).items():
            kinds = field.get("anyOf", [field])
            types = {
                str(k.get("$ref") or k.get("type") or k.get("const") or k.get("enum"))
                for k in kinds
            }
            yield f"{name}.{member}", " or ".join(sorted(types))


def test_nothing_that_others_build_on_is_gone_within_a_version() -> None:
    recorded, now = json.loads(RECORD.read_text(encoding="utf-8")), contract()
    for side, version in VERSIONS.items():
        if recorded["versions"][side] == version:
            kept = {k: now[side].get(k) for k in recorded[side]}
            narrower = {
                k: (old, kept[k]) for k, old in recorded[side].items() if not _still(old, kept[k])
            }
            assert not narrower, f"raise SCHEMA of {side}, or keep them"
    assert recorded == now, "written down by  python -m tests.api.test_contract"


def _still(old: str, new: str | None) -> bool:
    """Whether what was promised still is: words may be added to a list of words."""
    return new == old or (
        new is not None and " or " not in old and set(old.split()) < set(new.split())
    )


if __name__ == "__main__":
    RECORD.write_text(json.dumps(contract(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
