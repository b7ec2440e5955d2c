"""What each member of the contracts means: one list for the OpenAPI of HTTP and the schemas of MQTT.

Pure. A name means the same wherever it stands; where it does not, SHAPE.NAME has an entry of its own.
"""

from typing import Any

Schema = dict[str, Any]

WORDS: dict[str, str] = {
    # times, names, numbers
    "ts": "When: UTC, ISO 8601 with Z", "since": "From when: UTC, ISO 8601", "until": "Until when: UTC, ISO 8601",
    "expires": "When it ends unless renewed: UTC, ISO 8601", "seq": "Counts up by one; a hole is a loss",
    "site": "`site.id` of the site file", "area": "`site.area` of the site file", "device": "A device's id",
    "point": "A point's key, DEVICE/ID", "key": "The point's key, DEVICE/ID", "row": "A row; null: none",
    "rack": "A rack; null: none", "quantity": "What is measured: a word of the list of quantities",
    "unit": "The unit of the value: degC, kW, %, …; 1 for a plain number", "units": "The unit of each member of `racks`",
    "value": "In `unit`; null: not known", "quality": "Whether the value can be believed",
    "source": "polled by the agent, or pushed to it", "reason": "Why, in words",
    "version": "Of the agent's program", "schema": "Version of this contract", "schema_version": "Version of this contract",
    "boot": "Nonce of this run of the agent", "nonce": "Nonce of this run of the agent", "boot_id": "Of the host's kernel",
    # modes and operations
    "mode": "advisory writes nothing", "ceiling": "The site file's mode: the running one is never above it",
    "killed": "The kill switch is on", "armed": "Scopes that closed_loop may write: row:A, zone:Z, equipment:E, hall",
    "may_act": "Closed loop, and not killed", "modes": "What the agent may do now", "operation": "A name of the table of operations",
    "ok": "It was done", "detail": "The operation's own members", "dry_run": "Only say what would come of it",
    "arguments": "As the operation takes them", "changes": "Point -> [value before, value after]",
    "hold_s": "Given back after so many s; null: limits.lease_s", "scope": "row:A, zone:Z, equipment:E or hall",
    "step": "How far, signed, in the point's unit; null: max_step towards the safe side",
    "settle_s": "How long the effect is watched, s", "accept": "Why an unclear effect is good enough",
    "scenario": "An overlay of the simulated hall", "duration_s": "How long, s; null: until it is stopped",
    "note": "Why, for those who read it later", "trust_alarms": "Leave out what alarms said was wrong",
    "force": "Although it did not run in shadow for long enough", "format": "One JSON document, one page, or one PDF",
    # energy and limits
    "kpi": "The hall's figures, each with its unit", "limits": "What must not be crossed, each with its unit",
    "terms": "Of each term of the energy: metered, modelled or missing", "it_kw": "IT power, kW", "cooling_kw": "Cooling power, kW",
    "total_kw": "Total power, kW", "pue": "Total over IT power", "prompts_ps": "Completed prompts, 1/s", "tokens_ps": "Generated tokens, 1/s",
    "wh_per_prompt": "Energy of one completed prompt now, Wh", "wh_per_prompt_mean": "The same since the start, Wh",
    "total_kwh": "Metered since the start, kWh", "prompts": "Completed since the start", "known_s": "How long power and prompts were known, s",
    "unknown_s": "How long they were not, s", "worst_inlet_c": "The warmest rack inlet, degC", "worst_latency_p95_ms": "The slowest p95, ms",
    "worst_rack_kw": "The rack that draws most, kW",
    # monitor
    "hall": "What the monitor says of the hall; null: nothing judges it", "rows": "What the monitor says of each row",
    "state": "Of the monitor: nominal, transient, persistent, unknown", "deviation": "D(x): how unlike what was trained on; null: not judged",
    "ema": "The moving mean of D(x)", "tau_fast": "D(x) from which it is transient", "tau_persist": "D(x) from which it can become persistent",
    "top": "The features that contribute most", "heat": "Above 0: towards danger; below 0: over-cooled",
    "racks": "In the order of their names", "inlet_c": "Inlet air, degC; null: no good reading", "inlet_age_s": "Age of its oldest inlet reading, s",
    "outlet_c": "Outlet air, degC", "pdu_kw": "Power at the PDU, kW",
    # points and devices
    "points": "How many", "writable": "The site file lets it be written", "held": "Setpoints that Skadi holds", "baseline": "What it replaced, in `unit`; null: not known",
    "baseline_old": "Too old to be written back: the safe value is, unless a person approves it",
    "certain": "Read back; false: sent, but not confirmed", "devices": "How polling each goes", "protocol": "How it is spoken to",
    "polls": "Since the start", "errors": "Failed polls since the start", "failing": "Failed polls in a row, now", "retries": "Polls after a failed one",
    "latency_ms": "A moving mean of answered polls, ms", "latency_most_ms": "The slowest answered poll, ms", "period_s": "Configured time between polls, s",
    "wait_s": "Time to the next poll, s; above `period_s`: backing off", "last_good": "Last answered poll: UTC, ISO 8601; null: never",
    "quantities": "By quantity: how many points are found, stale, missing", "yielded": "Points left to an operator, with the reason",
    "quarantined": "Points not written any more: what was read back was not what was written", "tripped": "Interlocks that stop writes",
    "counts": "What the agent did since it started", "writes": "Points written", "confirmed": "Writes confirmed by read-back",
    "rollbacks": "Changes undone", "protective": "Protective moves", "denied": "Proposals denied",
    "history": "How the database does; null: this agent keeps none", "lost": "Why the database can't be reached; empty: it can",
    "queued": "Rows that wait", "written": "Rows written", "dropped": "Rows given up", "mqtt_connected": "null: no broker is configured",
    # alarms
    "alarms": "Those that stand, the worst first", "severity": "The worst of its cause", "text": "For people", "advice": "What to do",
    "calls": "It wants somebody now", "shelved_until": "UTC, ISO 8601; null: not shelved",
    # series, acts, ladders
    "series": "One for each point asked for", "samples": "In the order of time", "step_s": "Length of a sample, s", "annotations": "What Skadi did meanwhile, newest first",
    "low": "The lowest, in the series' unit", "high": "The highest, in the series' unit", "n": "Good readings in it", "n_missing": "Readings that were not good",
    "actions": "Newest first", "next": "The place of the next page; null: the last", "type": "What kind of record", "kind": "What kind of event", "id": "By which it is named",
    "cycle": "Of the loop that decided", "loop": "slow, fast, or who else", "move": "What kind of move", "summary": "In one line", "rungs": "From the inputs to what decided",
    "decisive": "This one decided", "numbers": "What it was decided by; units are in the names",
    "complete": "All of it was confirmed", "receipts": "What came of each write", "receipt": "What came of the write", "target": "What it went back to",
    "undo": "It came out worse than predicted and was undone", "verdict": "denied, by `rule`", "rule": "The rule that denied it", "would": "Advisory: it would have been done",
    "candidates": "What was weighed, the best first", "new": "Value after, in the point's unit", "old": "Value before, in the point's unit",
    "predicted_kw": "Predicted change of power, kW", "predicted_sigma_kw": "Its standard deviation, kW", "inlet_k": "Predicted change of the worst inlet, K",
    "inlet_sigma_k": "Its standard deviation, K", "worth_kw": "What it is chosen by, kW; null: urgent", "against": "The rule that removed it; null: free", "chance": "The chance it was drawn with",
    # health, errors, pushed readings, the agent itself
    "status": "The loop turns", "ready": "Readings come in and the loops complete", "reasons": "Why it is not ready", "degraded": "What it does without, and why",
    "error": "What went wrong", "code": "The HTTP status in words", "message": "What is wrong and what to do", "problems": "Each thing that is wrong",
    "where": "Where it stands", "what": "What it is", "taken": "How many readings were taken", "refused": "Those that were not, and why", "readings": "At most 5,000",
    "topics": "Every topic, in words", "schemas": "JSON Schema of every topic", "backfill": "It waited on disk while the broker was away",
    # parameters of requests
    "after": "What `next` said", "before": "What `next` said", "limit": "At most so many", "act": "An act's id or cycle; without it the latest",
    "at": "The latest act until then: UTC, ISO 8601", "If-None-Match": "The ETag of the answer the caller has: 304 says that it still holds",
    "/actions/log.kind": "Only these; without it all but decision (what was refused)", "/timeline.step_s": "Length of a sample, s; without it about 400 samples",
    "/timeline.point": "Points' keys, repeated; without it the hall's power",
    # the same name, another meaning
    "Points.points": "In the order of their keys", "device/{device}/state.points": "By the point's id", "ApplyArguments.changes": "All of them or none",
    "Wanted.value": "In the unit of the point", "PushedReading.value": "In the unit the site file declares; null: the sensor has none",
    "PushedReading.point": "The point's id or key", "PushedReading.ts": "UTC, ISO 8601; null: now", "ActivateArguments.version": "A version of `skadi models list`",
    "AlarmState.state": "unacknowledged, acknowledged, returned, shelved or suppressed", "alarm/{id}.state": "As in ISA-18.2; normal: it is over",
    "_agent/status.state": "offline: stopped, or lost (last will)", "_agent/info.devices": "By device: how many points",
    "RungShape.step": "Which step", "ScenarioArguments.action": "Start it or end it", "InterlockArguments.id": "An interlock's id",
    "action.latency_ms": "Predicted change of the slowest p95, ms", "decision.latency_ms": "Predicted change of the slowest p95, ms",
    "AlarmArguments.id": "An alarm's id, such as row:C", "ShelveArguments.id": "An alarm's id, such as row:C", "ShelveArguments.duration_s": "How long, s; at most a shift",
    "ActionEntry.detail": "The record, as on MQTT (`action`, `decision`)", "ActionEntry.id": "For GET /explain?act=",
    "command/{principal}.id": "Of the sender's choice; never twice", "command/{principal}.expires": "At most 30 s ahead: UTC, ISO 8601",
    "command/{principal}/result.id": "That of the command", "command/{principal}/result.refused": "By a role or a limit",
    "TrainArguments.since": "90m, 24h, 10d (before now) or ISO 8601", "TrainArguments.until": "The same; null: now",
    "ExcludeArguments.since": "90m, 24h, 10d (before now) or ISO 8601", "ExcludeArguments.until": "The same",
    "ReportWanted.since": "UTC, ISO 8601; null: 24 hours before `until`", "ReportWanted.until": "UTC, ISO 8601; null: now",
}  # fmt: skip


def described(name: str, schema: Schema) -> Schema:
    """A copy of a shape's JSON schema in which every member says what it is."""
    out = {k: _inside(name, v) for k, v in schema.items()}
    if isinstance(members := schema.get("properties"), dict):
        out["properties"] = {
            member: described(name, field) | ({"description": text} if text else {})
            for member, field in members.items()
            for text in [WORDS.get(f"{name}.{member}") or WORDS.get(member)]
        }
    return out


def _inside(name: str, value: Any) -> Any:
    if isinstance(value, dict):
        return described(name, value)
    return [_inside(name, v) for v in value] if isinstance(value, list) else value
