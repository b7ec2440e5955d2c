"""The JSON Schema (2020-12) of every message of the mirror: what others may rely on.

Published in `_agent/info` and by `skadi schema mqtt`. Members may be added within a version of
SCHEMA, never renamed or removed; who reads must ignore what it does not know.
"""

from agent.glossary import Schema, described

_TEXT: Schema = {"type": "string"}
_NUMBER: Schema = {"type": "number"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_FLAG: Schema = {"type": "boolean"}
_TEXTS: Schema = {"type": "array", "items": _TEXT}
_TIME: Schema = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$"}


def _or_null(schema: Schema) -> Schema:
    return {**schema, "type": [schema["type"], "null"]}


def _one_of(*words: str) -> Schema:
    return {"enum": list(words)}


def _message(required: dict[str, Schema], **optional: Schema) -> Schema:
    return {"type": "object", "properties": {**required, **optional}, "required": list(required)}


_QUALITY = _one_of("good", "stale", "bad", "missing", "unknown")
_POINT = _message(
    {"value": _or_null(_NUMBER), "unit": _TEXT, "quality": _QUALITY, "quantity": _TEXT,
     "ts": _or_null(_TIME)},
    rack=_TEXT, row=_TEXT, reason=_TEXT, source=_one_of("polled", "pushed"),
)  # fmt: skip
_MONITORED: dict[str, Schema] = {
    "state": _one_of("nominal", "transient", "persistent", "unknown"),
    "deviation": _or_null(_NUMBER), "ema": _or_null(_NUMBER), "since": _or_null(_TIME),
    "tau_fast": _or_null(_NUMBER), "tau_persist": _or_null(_NUMBER), "top": _TEXTS,
}  # fmt: skip
# Every stamped message counts its own topic's messages; backfill: it waited while nobody heard it.
_HEAD: dict[str, Schema] = {"ts": _TIME, "seq": {"type": "integer", "minimum": 1}}


def _stamped(required: dict[str, Schema], **optional: Schema) -> Schema:
    return _message({**_HEAD, **required}, backfill=_FLAG, **optional)


# What the slow loop weighed, best first; against: the rule that removed one, null for what was free.
_CANDIDATES: Schema = {"type": "array", "items": _message(
    dict.fromkeys(("move", "scope", "point"), _TEXT) | {"new": _NUMBER}
    | dict.fromkeys(("predicted_kw", "predicted_sigma_kw", "inlet_k", "inlet_sigma_k", "latency_ms"), _NUMBER)
    | {"old": _or_null(_NUMBER), "worth_kw": _or_null(_NUMBER), "against": _or_null(_TEXT)},
    chance=_or_null(_NUMBER),
)}  # fmt: skip

_SCHEMAS: dict[str, Schema] = {
    "_agent/status": _message(
        {"state": _one_of("online", "offline"), "nonce": _TEXT},
        ts=_TIME, version=_TEXT, reason=_one_of("lost", "stopped"),
    ),
    "_agent/info": _message(
        {"ts": _TIME, "site": _TEXT, "area": _TEXT, "version": _TEXT, "schema": _COUNT, "nonce": _TEXT,
         "boot_id": _TEXT, "topics": {"type": "object"}, "schemas": {"type": "object"},
         "devices": {"type": "object", "additionalProperties": _COUNT}},
    ),
    "device/{device}/state": _stamped(
        {"device": _TEXT, "points": {"type": "object", "additionalProperties": _POINT}}
    ),
    "device/{device}/point/{point}": _stamped(
        {k: v for k, v in _POINT["properties"].items() if k in _POINT["required"]},
        **{k: v for k, v in _POINT["properties"].items() if k not in _POINT["required"]},
    ),
    "device/{device}/health": _stamped(
        {"device": _TEXT, "protocol": _TEXT, "reason": _TEXT}
        | dict.fromkeys(("points", "polls", "errors", "failing", "retries"), _COUNT)
        | dict.fromkeys(("period_s", "wait_s"), _NUMBER)
        | dict.fromkeys(("latency_ms", "latency_most_ms"), _or_null(_NUMBER))
        | {"last_good": _or_null(_TIME), "quantities": {"type": "object", "additionalProperties": {
            "type": "object", "additionalProperties": _COUNT}}},
    ),
    "row/{row}/state": _stamped({"row": _TEXT, **_MONITORED}, heat=_or_null(_NUMBER)),
    "hall/state": _stamped(_MONITORED, heat=_or_null(_NUMBER)),
    "kpi": _stamped(
        {k: _or_null(_NUMBER) for k in (
            "it_kw", "cooling_kw", "total_kw", "pue", "prompts_ps", "tokens_ps", "wh_per_prompt",
            "wh_per_prompt_mean", "worst_inlet_c", "worst_latency_p95_ms", "worst_rack_kw")}
        | dict.fromkeys(("total_kwh", "prompts", "known_s", "unknown_s"), _NUMBER),
        counts={"type": "object", "additionalProperties": _COUNT},
        terms={"type": "object", "additionalProperties": _TEXT},
    ),
    "mode": _stamped(
        {"mode": _one_of("advisory", "closed_loop"), "ceiling": _one_of("advisory", "closed_loop"),
         "killed": _FLAG, "armed": _TEXTS, "may_act": _FLAG}
    ),
    "alarm/{id}": _stamped(
        {"id": _TEXT, "severity": _one_of("low", "medium", "high", "critical"), "text": _TEXT,
         "state": _one_of("unacknowledged", "acknowledged", "returned", "shelved", "suppressed",
                          "normal"),
         "since": _TIME, "advice": _TEXT, "calls": _FLAG, "shelved_until": _or_null(_TIME)}
    ),
    "event/{kind}": _stamped({}, kind=_TEXT),
    "action": _stamped(
        {"type": _one_of("action", "ending", "judged")},
        id=_TEXT, loop=_TEXT, move=_TEXT, scope=_TEXT, reason=_TEXT, complete=_FLAG,
        changes={"type": "object"},
        receipts={"type": "object", "additionalProperties": _TEXT}, point=_TEXT, receipt=_TEXT,
        target=_TEXT, undo={}, candidates=_CANDIDATES,
    ),
    "decision": _stamped(
        {"id": _TEXT, "verdict": _TEXT, "rule": _TEXT, "reason": _TEXT},
        loop=_TEXT, move=_TEXT, scope=_TEXT, changes={"type": "object"}, would=_FLAG,
        candidates=_CANDIDATES,
    ),
    "command/{principal}": _message(
        {"id": {"type": "string", "minLength": 8, "maxLength": 64}, "nonce": _TEXT,
         "operation": _TEXT, "expires": _TIME},
        arguments={"type": "object"},
    ) | {"additionalProperties": False},
    "command/{principal}/result": _message(
        {"id": _TEXT, "ok": _FLAG, "refused": _FLAG, "detail": {"type": "object"}}
    ),
}  # fmt: skip
SCHEMAS = {name: described(name, schema) for name, schema in _SCHEMAS.items()}
