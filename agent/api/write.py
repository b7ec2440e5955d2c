"""POST endpoints: adapters over the table of operations, one by one and under friendly paths.

Decides nothing: the table checks role and arguments, runs and audits. The answer's status says
which it was: 200 done, 403 refused by a role or a limit, 409 not possible now, 422 made no sense.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Depends, Request, Security
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from pydantic import BaseModel, ConfigDict

from agent.api.app import WRITE_ERRORS, Context, StrictRoute, error_response
from agent.api.auth import person
from agent.api.models import Done, Problem
from agent.operations.acts import ApplyArguments, ScenarioArguments
from agent.operations.models import TrainArguments
from agent.operations.table import OPERATIONS, Caller, NoArguments, Operation, Result, call

bearer = HTTPBearer(
    scheme_name="token", description="one of [[api.tokens]] in the site file", auto_error=False
)
router = APIRouter(
    tags=["operations"], route_class=StrictRoute, responses=WRITE_ERRORS,
    dependencies=[Security(bearer)],
)  # fmt: skip

Who = Annotated[Caller, Depends(person)]


class ModeWanted(BaseModel):
    """The running mode that is wanted. Over HTTP it may only be lowered."""

    model_config = ConfigDict(extra="forbid", strict=True)

    mode: Literal["advisory", "closed_loop"]


TEN_DAYS = TrainArguments()


async def operate(request: Request, who: Caller, name: str, arguments: dict[str, Any]) -> Any:
    """Call one operation of the table and answer in HTTP's terms."""
    context: Context = request.app.state.context
    return answer(name, await call(context.agent, name, arguments, who))


def answer(name: str, result: Result) -> Done | JSONResponse:
    """The result of an operation as an HTTP answer."""
    if result.ok:
        return Done(ok=True, operation=name, detail=_json(result.detail))
    status = 403 if result.refused else 422 if result.invalid else 409
    reason = str(result.detail.get("reason", "not done"))
    objections = result.detail.get("objections", [])
    return error_response(status, reason, [Problem(where="guardrail", what=o) for o in objections])


def _json(detail: dict[str, Any]) -> dict[str, Any]:
    from agent.plain import plain

    shown: dict[str, Any] = plain(detail)
    return shown


def _route(operation: Operation) -> Callable[..., Awaitable[Any]]:
    """The endpoint of one operation of the table."""
    if operation.arguments is NoArguments:

        async def bare(request: Request, who: Who) -> Any:
            return await operate(request, who, operation.name, {})

        return bare

    async def full(request: Request, who: Who, arguments: Any) -> Any:
        return await operate(request, who, operation.name, arguments.model_dump(exclude_unset=True))

    full.__annotations__["arguments"] = Annotated[operation.arguments, Body()]
    if not any(f.is_required() for f in operation.arguments.model_fields.values()):
        full.__defaults__ = (operation.arguments(),)  # nothing needs to be said: no body, then
    return full


for _operation in OPERATIONS.values():
    if _operation.changes:
        router.add_api_route(
            f"/operations/{_operation.name}", _route(_operation), methods=["POST"],
            response_model=Done, operation_id=_operation.name,
            summary=f"{_operation.name} (role: {_operation.role})",
        )  # fmt: skip


@router.post("/mode", response_model=Done)
async def mode(request: Request, who: Who, wanted: ModeWanted) -> Any:
    """Lower the running mode. Raising it is refused: it takes an engineer on the host."""
    name = "mode.lower" if wanted.mode == "advisory" else "mode.raise"
    return await operate(request, who, name, {})


@router.post("/optimizer/tick", response_model=Done)
async def optimizer_tick(request: Request, who: Who) -> Any:
    """Run the slow optimizer once, now."""
    return await operate(request, who, "optimizer.tick", {})


@router.post("/actions/apply", response_model=Done)
async def actions_apply(request: Request, who: Who, wanted: ApplyArguments) -> Any:
    """Make a change through guardrails, gate and read-back; advisory answers what it would do."""
    return await operate(request, who, "actions.apply", wanted.model_dump(exclude_unset=True))


@router.post("/ims/train", response_model=Done)
async def ims_train(
    request: Request, who: Who, wanted: Annotated[TrainArguments, Body()] = TEN_DAYS
) -> Any:
    """Begin to train a model from history, in a process of its own. It judges once it is approved."""
    return await operate(request, who, "ims.train", wanted.model_dump(exclude_unset=True))


@router.post("/demo/scenario", response_model=Done)
async def demo_scenario(request: Request, who: Who, wanted: ScenarioArguments) -> Any:
    """Start or stop an overlay of the simulated hall. Simulated sites only."""
    return await operate(request, who, "demo.scenario", wanted.model_dump(exclude_unset=True))
