"""How a running agent takes over another version of its site, in one step that can't fail half-way.

`compiled` does all that can go wrong and changes nothing; `adopt` only assigns. Between them the
agent must be at rest: `acting` counts what is under way, so that no decision sees two sites.
"""

import functools
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from agent.executor import Executor
from agent.store import Store
from config.site import Site
from control import modes
from control.decide import Setting
from control.layout import Layout
from control.monitor import Trained, fit
from control.state import ControlState
from control.types import Quality
from drivers.gate import Gate

if TYPE_CHECKING:
    from agent.core import Agent

P = ParamSpec("P")
R = TypeVar("R")
Method = Callable[Concatenate["Agent", P], Coroutine[Any, Any, R]]


def acting(method: Method[P, R]) -> Method[P, R]:
    """A method of the agent during which its site must stay what it is."""

    @functools.wraps(method)
    async def counted(agent: "Agent", /, *args: P.args, **kwargs: P.kwargs) -> R:
        agent.under_way += 1
        try:
            return await method(agent, *args, **kwargs)
        finally:
            agent.under_way -= 1

    return counted


@dataclass(frozen=True, slots=True)
class Compiled:
    """A version of the site, ready to be taken over."""

    site: Site
    layout: Layout
    setting: Setting
    trained: Trained | None


def compiled(site: Site, trained: Trained | None) -> Compiled:
    """Compile a site. Raises ValueError when the model does not fit it."""
    layout = Layout(site)
    monitor = fit(layout, trained) if trained is not None else None
    return Compiled(site, layout, Setting.of(layout, monitor), trained)


def adopt(agent: "Agent", new: Compiled, gate: Gate) -> None:
    """Take it over. What is known of points that stay is kept; so are leases and budgets."""
    store, now_s = Store(new.layout), agent.clock.now_s()
    stay = [key for key in new.site.points if key in agent.site.points]
    store.update([r for r in agent.store.readings(now_s, stay) if r.quality is Quality.GOOD])
    same = _same_places(agent.layout, new.layout)
    agent.control = carried(agent.control, new.site, same, new.trained is agent.trained)
    agent.site, agent.layout, agent.setting = new.site, new.layout, new.setting
    agent.store, agent.trained = store, new.trained
    agent.meter.use(new.layout)
    agent.executor = Executor(gate, new.site.points, agent.clock)
    agent.memory.keep_modes(agent.control.modes)


def _same_places(old: Layout, new: Layout) -> bool:
    """True when every array of the control state still means what it meant."""
    places = (old.index, old.racks, old.rows) == (new.index, new.racks, new.rows)
    return places and [p.quantity for p in old.site.points.values()] == [
        p.quantity for p in new.site.points.values()
    ]


def carried(state: ControlState, site: Site, same: bool, same_model: bool) -> ControlState:
    """The control state for another version of the site: what no longer fits begins anew."""
    points, locks = site.points, {i.id for i in site.interlocks}
    state = replace(
        state,
        modes=modes.narrowed(state.modes, site),
        yielded=_only(state.yielded, points),
        quarantined=_only(state.quarantined, points),
        trips={i: t for i, t in state.trips.items() if i in locks},
    )
    if not (same and same_model):
        state = replace(state, monitor=None, findings={})
    if not same:
        state = replace(
            state,
            window=None,
            averages=None,
            belief=None,
            foresight=None,
            inlet_trend=None,
            verifications=(),
            looked=None,
        )
    return state


def _only(kept: Any, points: Any) -> dict[str, Any]:
    return {key: value for key, value in kept.items() if key in points}
