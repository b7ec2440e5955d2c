"""Every hall that shares the broker and the database: who runs, what it does, what it saved.

Decides nothing; reads retained topics and history, and says of each hall what either of the two
knows. One of them may be away: then its part is missing and said to be.
"""

import asyncio
import json
import ssl
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from agent.clock import utc
from agent.history.db import DATABASE_ERRORS, make_engine, migrate, one_line
from agent.history.query import MAX_ROWS, actions
from agent.history.schema import HALL_LEASE, ROLLUPS_1H, ROLLUPS_1M, SERIES
from agent.history.store import Identity, edge, mine
from agent.mqtt.link import PORTS
from agent.reports.acts import held_moves, judgements
from agent.reports.grid import Span
from config.schema import MqttSection
from config.secrets import SecretError, resolve
from config.site import Site

Json = dict[str, Any]
CONNECT_S = 5.0
MOST_PAYLOAD = 1 << 20
MOST_HALLS = 10_000
TOPICS = ("_agent/status", "_agent/info", "mode", "kpi", "alarm/+")
_KPI = ("wh_per_prompt", "pue", "total_kw", "worst_inlet_c", "worst_latency_p95_ms")
_CANT = (OSError, SecretError, ValueError, TimeoutError)


async def fleet(
    site: Site, environ: Mapping[str, str], since_s: float, now_s: float, wait_s: float
) -> Json:
    """All halls by site and area; "broker" and "database" say "" or why they could not be asked."""
    halls: dict[Identity, Json] = {}
    broker = "no [mqtt] in the site file"
    if site.mqtt is not None:
        broker = ""
        try:
            await asyncio.to_thread(_listen, site.mqtt, environ, wait_s, halls)
        except _CANT as error:
            broker = f"{site.mqtt.url}: {one_line(error)}"
    engine, database = None, ""
    try:
        engine = make_engine(site, environ)
        await migrate(engine)
        async with engine.connect() as connection:
            await _from_history(connection, halls, since_s, now_s)
    except DATABASE_ERRORS as error:
        database = one_line(error)
    finally:
        if engine is not None:
            await engine.dispose()
    rows = [{"site": s, "area": a} | halls[s, a] for s, a in sorted(halls)]
    return {"halls": rows, "broker": broker, "database": database, "since": utc(since_s)}


def _listen(
    mqtt: MqttSection, environ: Mapping[str, str], wait_s: float, halls: dict[Identity, Json]
) -> None:
    """Take what the broker retains. Raises OSError, SecretError, ValueError."""
    url, heard, up, refused = urlsplit(mqtt.url), threading.Event(), threading.Event(), list[str]()
    client = paho.Client(CallbackAPIVersion.VERSION2)
    if mqtt.username is not None:
        secret = resolve(mqtt.password, environ).get_secret_value() if mqtt.password else None
        client.username_pw_set(mqtt.username, secret)
    if url.scheme == "mqtts":
        client.tls_set_context(ssl.create_default_context(cafile=mqtt.ca_file))

    def connected(
        _client: object, _data: object, _flags: object, reason: Any, _more: object
    ) -> None:
        if reason.is_failure:
            refused.append(str(reason))
        else:
            client.subscribe([(f"{mqtt.base_topic}/+/+/{topic}", 0) for topic in TOPICS])
        up.set()

    def came(_client: object, _data: object, message: paho.MQTTMessage) -> None:
        heard.set()
        if len(message.payload) <= MOST_PAYLOAD:
            _take(halls, message.topic.removeprefix(f"{mqtt.base_topic}/"), bytes(message.payload))

    client.on_connect, client.on_message = connected, came
    client.connect_timeout = CONNECT_S
    client.connect(url.hostname or "", url.port or PORTS[url.scheme])
    client.loop_start()
    try:
        if not up.wait(CONNECT_S):
            raise OSError("the broker does not answer")
        if refused:
            raise OSError(f"the broker refuses us: {refused[0]}")
        quiet_s = wait_s
        while heard.wait(quiet_s):  # retained messages come in one go
            heard.clear()
            quiet_s = min(wait_s, 0.5)
    finally:
        client.disconnect()
        client.loop_stop()


def _take(halls: dict[Identity, Json], topic: str, payload: bytes) -> None:
    """One retained message; what is not ours, or not JSON, is nothing."""
    parts = topic.split("/", 2)
    try:
        body = json.loads(payload)
    except (ValueError, RecursionError):
        return
    if len(parts) != 3 or not isinstance(body, dict) or len(halls) >= MOST_HALLS:
        return
    hall, what = halls.setdefault((parts[0], parts[1]), {}), parts[2]
    if what == "_agent/status":
        hall |= {
            "state": str(body.get("state")),
            "since": body.get("ts"),
            "version": body.get("version"),
        }
    elif what == "_agent/info":
        hall["schema"] = body.get("schema")
    elif what == "mode":
        hall |= {k: body.get(k) for k in ("mode", "armed", "killed")}
    elif what == "kpi":
        hall["kpi"] = {k: body.get(k) for k in _KPI}
    elif what.startswith("alarm/"):
        about = ("id", "severity", "text", "state", "since")
        hall.setdefault("alarms", []).append({k: body.get(k) for k in about})


async def _from_history(
    connection: AsyncConnection, halls: dict[Identity, Json], since_s: float, now_s: float
) -> None:
    found = await connection.execute(
        select(SERIES.c.site, SERIES.c.area, func.count()).group_by(SERIES.c.site, SERIES.c.area)
    )
    for site, area, points in found.all():
        hall = halls.setdefault((site, area), {})
        hall["points"] = points
        hall["last_reading"] = await _last(connection, (site, area))
        hall["saving"] = await _saving(connection, (site, area), since_s, now_s)
    leases = await connection.execute(
        select(HALL_LEASE.c.site, HALL_LEASE.c.area, HALL_LEASE.c.holder, HALL_LEASE.c.epoch)
    )
    for site, area, holder, epoch in leases.all():
        halls.setdefault((site, area), {})["pair"] = {"active": holder, "epoch": epoch}


async def _last(connection: AsyncConnection, me: Identity) -> str | None:
    """The last minute that was rolled up, by each point's own newest row."""
    last = await connection.scalar(edge(ROLLUPS_1M, me, func.max))
    return None if last is None else utc(last)


async def _saving(connection: AsyncConnection, me: Identity, since_s: float, now_s: float) -> Json:
    """kWh against leaving every setpoint where it was, by the model, and its share (see report)."""
    acts = await actions(
        connection, me, since_s, MAX_ROWS, None, ("action", "ending", "judged"), now_s
    )
    judged, kwh = judgements(acts), 0.0
    span = Span(since_s, now_s, 3_600.0)
    for held in held_moves(acts, span):
        told = judged.get(str(held.act.detail.get("id")), {}).get("realised_kw")
        kw = told if isinstance(told, int | float) else held.act.detail.get("predicted_kw")
        if isinstance(kw, int | float):
            kwh -= kw * (held.until_s - max(held.act.ts_s, since_s)) / 3_600.0
    c = ROLLUPS_1H.c
    of_total = select(SERIES.c.point).where(
        *mine(SERIES, me), SERIES.c.quantity == "total_power_kw"
    )
    used = await connection.scalar(
        select(func.sum(c.mean)).where(
            *mine(ROLLUPS_1H, me), c.point.in_(of_total), c.ts >= since_s, c.ts < now_s
        )
    )
    share = 100.0 * kwh / (used + kwh) if used and used + kwh > 0 else None
    return {"source": "modelled", "kwh": kwh, "pct": share, "total_kwh": used}
