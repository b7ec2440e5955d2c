"""GET endpoints: state, heat map, points, timeline, actions, health, metrics.

Read only. Pages are bounded; what is polled has an ETag, so that an unchanged answer costs nothing.
"""

import re
from collections.abc import Callable
from hashlib import sha256
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, HTTPException, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

from agent.api import models as m
from agent.api import views
from agent.api.app import HISTORY_ERRORS, READ_ERRORS, Context, StrictRoute
from agent.api.auth import reader
from agent.api.metrics import CONTENT_TYPE, exposition
from agent.clock import parse_utc, utc
from agent.plain import plain

if TYPE_CHECKING:  # the database's libraries are imported behind the first readings
    from agent.history.service import History

router = APIRouter(
    tags=["state"], responses=READ_ERRORS, dependencies=[Depends(reader)], route_class=StrictRoute
)
open_router = APIRouter(tags=["health"])

When = Annotated[str | None, Query(max_length=40, description="ISO 8601 with an offset or Z")]
Match = Annotated[str | None, Header(alias="If-None-Match", max_length=512)]
NOT_CHANGED: dict[int | str, dict[str, Any]] = {304: {"description": "not changed since"}}
MOST_SERIES = 24
MOST_SAMPLES = 5_000
MOST_ACTS = 500
STEPS = 400  # samples a series has when no step is asked for
DEFAULT_QUANTITIES = ("total_power_kw", "it_power_kw", "cooling_power_kw", "outdoor_c")


def context_of(request: Request) -> Context:
    """What routes answer from."""
    context: Context = request.app.state.context
    return context


def _tagged(request: Request, match: str | None, make: Any) -> Response:
    """What is now, with its ETag, or 304 where the caller has it; made only where it is needed."""
    context = context_of(request)
    # One second is the grain: ages and expiries are told to it.
    tag = f"{context.hub.nonce}-{context.hub.version}"
    return _unless_known(tag, match, lambda: make(context).model_dump_json())


def _hashed(match: str | None, shape: BaseModel) -> Response:
    """What history says, with an ETag of its text, or 304 where the caller has it."""
    text = shape.model_dump_json()
    return _unless_known(sha256(text.encode()).hexdigest()[:32], match, lambda: text)


def _unless_known(tag: str, match: str | None, text: Callable[[], str]) -> Response:
    headers = {"ETag": f'"{tag}"', "Cache-Control": "no-cache"}
    if match is not None and f'"{tag}"' in re.findall(r'"[^"]*"', match):
        return Response(status_code=304, headers=headers)
    return Response(text(), media_type="application/json", headers=headers)


@router.get("/state/overview", response_model=m.Overview, responses=NOT_CHANGED)
async def overview(request: Request, match: Match = None) -> Response:
    """Modes, figures, rows, held setpoints, devices: everything a first screen shows."""
    return _tagged(request, match, views.overview)


@router.get("/heatmap", response_model=m.Heatmap, responses=NOT_CHANGED)
async def heatmap(request: Request, match: Match = None) -> Response:
    """Every rack: inlet, power, and what the monitor says of it."""
    return _tagged(request, match, views.heatmap)


@router.get("/points", response_model=m.Points, responses=NOT_CHANGED)
async def points(
    request: Request,
    quantity: Annotated[str | None, Query(max_length=64)] = None,
    row: Annotated[str | None, Query(max_length=64)] = None,
    rack: Annotated[str | None, Query(max_length=64)] = None,
    device: Annotated[str | None, Query(max_length=64)] = None,
    after: Annotated[str | None, Query(max_length=130)] = None,
    limit: Annotated[int, Query(ge=1, le=5_000)] = 500,
    match: Match = None,
) -> Response:
    """Points with their last readings, in the order of their keys."""
    wanted = {"quantity": quantity, "row": row, "rack": rack, "device": device}
    return _tagged(request, match, lambda context: _points(context, wanted, after, limit))


def _points(
    context: Context, wanted: dict[str, str | None], after: str | None, limit: int
) -> m.Points:
    keys = sorted(
        key
        for key, p in context.site.points.items()
        if (after is None or key > after)
        and all(v is None or getattr(p, k) == v for k, v in wanted.items())
    )
    page = keys[:limit]
    readings = context.agent.store.readings(context.clock.now_s(), page)
    found = [views.point_value(context.site.points[r.point], r) for r in readings]
    return m.Points(points=found, next=page[-1] if len(keys) > limit else None)


@router.get("/timeline", response_model=m.Timeline, responses=HISTORY_ERRORS | NOT_CHANGED)
async def timeline(
    request: Request,
    point: Annotated[list[str] | None, Query(max_length=MOST_SERIES)] = None,
    since: When = None,
    until: When = None,
    step_s: Annotated[float | None, Query(ge=1, le=86_400, allow_inf_nan=False)] = None,
    match: Match = None,
) -> Response:
    """Points over time with Skadi's latest 500 acts beside them; by default the hall's power, one hour."""
    context = context_of(request)
    history = history_of(context)
    keys = point if point else _default_points(context)
    if unknown := [k for k in keys if k not in context.site.points]:
        raise HTTPException(422, f"no point {unknown[0][:130]!r}; GET /points lists them")
    until_s = when_of(until, "until", context.clock.now_s())
    since_s = when_of(since, "since", until_s - 3_600.0)
    if since_s >= until_s:
        raise HTTPException(422, "since must be before until")
    step = step_s or _step((until_s - since_s) / STEPS)
    if (until_s - since_s) / step > MOST_SAMPLES:
        raise HTTPException(422, f"more than {MOST_SAMPLES} samples: take a longer step_s")
    series = [await _series(context, history, k, since_s, until_s, step) for k in keys]
    acts = await history.actions(since_s, MOST_ACTS, None, ("action", "ending"), until_s)
    return _hashed(match, m.Timeline(
        since=utc(since_s), until=utc(until_s), step_s=step, series=series,
        annotations=[views.action_entry(a) for a in acts],
    ))  # fmt: skip


def _default_points(context: Context) -> list[str]:
    return [p.key for p in context.site.of_quantity(*DEFAULT_QUANTITIES)][:MOST_SERIES]


async def _series(
    context: Context, history: "History", key: str, since_s: float, until_s: float, step_s: float
) -> m.Series:
    p = context.site.points[key]
    samples = await history.series(key, since_s, until_s, step_s)
    return m.Series(
        point=key, quantity=p.quantity, unit=p.about.unit, row=p.row, rack=p.rack,
        samples=[m.SampleRow(ts=utc(s.ts_s), value=s.value, low=s.low, high=s.high, n=s.n,
                             n_missing=s.n_missing) for s in samples],
    )  # fmt: skip


@router.get("/actions/log", response_model=m.ActionPage, responses=HISTORY_ERRORS | NOT_CHANGED)
async def actions_log(
    request: Request,
    since: When = None,
    kind: Annotated[
        list[Literal["action", "ending", "judged", "decision"]] | None, Query(max_length=4)
    ] = None,
    before: Annotated[str | None, Query(max_length=64)] = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    match: Match = None,
) -> Response:
    """What Skadi did and decided, newest first; by default without what was refused."""
    history = history_of(context_of(request))
    since_s = when_of(since, "since", 0.0)
    kinds = kind or ["action", "ending", "judged"]
    found = await history.actions(since_s, limit + 1, _place(before), kinds)
    page = found[:limit]
    last = f"{page[-1].ts_s:.3f}_{page[-1].uid}" if len(found) > limit else None
    return _hashed(match, m.ActionPage(actions=[views.action_entry(a) for a in page], next=last))


@router.get("/explain", responses={**HISTORY_ERRORS, 404: {"model": m.Error}})
async def explain(
    request: Request,
    act: Annotated[str | None, Query(max_length=200)] = None,
    at: Annotated[str | None, Query(max_length=40)] = None,
) -> m.LadderShape:
    """Why the act with this id or cycle (default: the latest, or the latest until `at`) was made, or
    was not, and what was weighed beside it."""
    from agent.reports.explain import NothingToExplain
    from agent.reports.explain import explain as climb

    context = context_of(request)
    until_s = None if at is None else when_of(at, "at", 0.0) + 0.001
    try:
        ladder = await climb(history_of(context), context.site, act, until_s)
    except NothingToExplain as error:
        raise HTTPException(404, str(error)[:500]) from None
    return m.LadderShape(**plain(ladder))


def _place(text: str | None) -> tuple[float, str] | None:
    """The page's place that `next` told."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,12}\.\d{3})_([0-9a-f]{32})", text, re.ASCII)
    if match is None:
        raise HTTPException(422, "before: give what `next` said")
    return float(match[1]), match[2]


def when_of(text: str | None, what: str, default_s: float) -> float:
    if text is None:
        return default_s
    at_s = parse_utc(text)
    if at_s is None or not 0 <= at_s < 4e9:
        raise HTTPException(422, f"{what}: write it like 2026-01-31T12:00:00Z")
    return at_s


def _step(least_s: float) -> float:
    return next((s for s in (1, 5, 10, 30, 60, 300, 900, 3_600) if s >= least_s), 86_400)


def history_of(context: Context) -> "History":
    if context.history is None:
        raise HTTPException(503, "this agent keeps no history")
    return context.history


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request) -> Response:
    """The agent's own figures for Prometheus."""
    return Response(exposition(context_of(request)), media_type=CONTENT_TYPE)


@open_router.get("/healthz")
async def healthz(request: Request) -> m.Health:
    """The process lives and its loop turns."""
    context = context_of(request)
    return m.Health(status="ok", version=context.version, boot=context.hub.nonce,
                    degraded=_degraded(context))  # fmt: skip


@open_router.get("/readyz", response_model=m.Ready, responses={503: {"model": m.Ready}})
async def readyz(request: Request) -> Response:
    """Whether readings come in and the loops complete; 503 with the reasons otherwise. Control goes
    on without history and broker: they make it degraded, not unready."""
    context = context_of(request)
    reasons = _reasons(context)
    body = m.Ready(ready=not reasons, reasons=reasons, degraded=_degraded(context))
    return JSONResponse(body.model_dump(), 503 if reasons else 200)


def _degraded(context: Context) -> list[str]:
    found = []
    if context.history is not None and (lost := context.history.status.lost):
        found.append(f"history: {lost}")
    if context.mirror is not None and not context.mirror.connected:
        found.append("mqtt: the broker is away")
    return found


def _reasons(context: Context) -> list[str]:
    now_s, period_s = context.clock.now_s(), context.site.loops.ims_mms_s
    snapshot = context.agent.snapshot()
    reasons = []
    if len(snapshot.values) and not (snapshot.values == snapshot.values).any():
        reasons.append("no point has a good reading")
    at_s = context.hub.observed_s
    if at_s is None or now_s - at_s > 4 * period_s:
        reasons.append(f"no monitor cycle completed in {4 * period_s:g} s")
    return reasons
