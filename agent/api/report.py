"""POST /report: a stretch of time as JSON, a page or a PDF.

Decides that reports never hold up the agent: one at a time, in bounded time, drawn by another process.
"""

import asyncio
from pathlib import Path
from typing import Annotated, Any, Literal

import structlog
from fastapi import APIRouter, Body, Depends, HTTPException, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from agent.api import models as m
from agent.api.app import HISTORY_ERRORS, READ_ERRORS, Context, StrictRoute
from agent.api.auth import reader
from agent.api.read import context_of, history_of, when_of

log = structlog.get_logger(__name__)

router = APIRouter(
    tags=["state"], responses=READ_ERRORS, dependencies=[Depends(reader)], route_class=StrictRoute
)


class ReportWanted(BaseModel):
    """The time to report, at most a year; by default the last 24 hours. html is one page, pdf one file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    since: Annotated[str | None, Field(max_length=40)] = None
    until: Annotated[str | None, Field(max_length=40)] = None
    format: Literal["json", "html", "pdf"] = "json"


LAST_DAY = ReportWanted()
REPORT_S = 60.0
RETRY = {"Retry-After": "10"}
MEDIA = {"html": "text/html; charset=utf-8", "pdf": "application/pdf"}
REPORTS: dict[int | str, dict[str, Any]] = {
    **HISTORY_ERRORS, **{c: {"model": m.Error} for c in (400, 413, 415, 429)},
    200: {"content": {"application/json": {"schema": {"type": "object"}}, "text/html": {}, "application/pdf": {}}},
}  # fmt: skip


@router.post("/report", response_class=Response, responses=REPORTS)
@router.post("/report/judges", response_class=Response, responses=REPORTS)
async def report(request: Request, wanted: Annotated[ReportWanted, Body()] = LAST_DAY) -> Response:
    """What a stretch of time was like: energy, limits, actions, with `charts` to draw. One at a
    time, within a minute: 503 says what to do otherwise."""
    context, state = context_of(request), request.app.state
    now_s = context.clock.now_s()
    until_s = when_of(wanted.until, "until", now_s)
    since_s = when_of(wanted.since, "since", until_s - 86_400.0)
    if state.reporting:
        raise HTTPException(429, "another report is being made; ask when it is done", RETRY)
    state.reporting = True
    try:
        async with asyncio.timeout(REPORT_S):
            return await _report(context, since_s, until_s, now_s, wanted.format)
    except TimeoutError:
        raise _later(f"not ready within {REPORT_S:g} s; ask for less time, or later") from None
    finally:
        state.reporting = False


async def _report(
    context: Context, since_s: float, until_s: float, now_s: float, form: str
) -> Response:
    from agent.reports.gather import report as collect
    from agent.reports.rehearsal import kept
    from agent.reports.worker import NotDrawn, drawn

    site = context.site
    runs, wrong = await asyncio.to_thread(kept, Path(site.agent.data_dir))
    for why in wrong:
        log.warning("a rehearsal can't be read", reason=why)
    try:
        found = await collect(history_of(context), site, since_s, until_s, now_s, runs)
    except ValueError as error:
        raise HTTPException(422, str(error)) from None
    if form == "json":
        return JSONResponse(found)
    try:
        made = await drawn(found, form)
    except NotDrawn as error:
        log.error("report not drawn", reason=str(error))
        raise _later("the report could not be drawn; the agent's log has the reason") from None
    return Response(made, media_type=MEDIA[form])


def _later(why: str) -> HTTPException:
    return HTTPException(503, why, RETRY)
