"""Envoy: weights of weighted clusters, through the runtime endpoint of its admin interface.

A route with `weighted_clusters.runtime_key_prefix` looks its weights up under PREFIX.CLUSTER in the
runtime; the admin interface shows the runtime at GET /runtime and changes its admin layer at
POST /runtime_modify (Envoy documentation: "Traffic shifting/splitting", "Administration
interface", "Runtime"; the bootstrap must have an admin_layer). All keys of one change travel in
one request, so shares are never half changed. A point's `name` is the runtime key.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar
from urllib.parse import urlencode

from drivers.actuator import State
from drivers.contract import Refused, Transient
from drivers.http_actuator import HttpActuator


class EnvoyDriver(HttpActuator):
    """See drivers.contract.Driver."""

    about: ClassVar[str] = "a runtime key, such as routing.llm.pool_a"
    most_bytes: ClassVar[int] = 4 * 1024 * 1024  # /runtime lists every key

    async def fetch(self, targets: Sequence[str]) -> State:
        """The final values of the keys, over all layers."""
        told = await self.http.get("/runtime")
        entries = told.get("entries") if isinstance(told, dict) else None
        if not isinstance(entries, dict):
            self.http.fail(Transient, "GET /runtime: no entries; is this Envoy's admin port?")
        return {target: _weight(entries.get(target)) for target in targets}

    def plan(self, values: Mapping[str, float]) -> Sequence[tuple[str, tuple[str, ...]]]:
        """One request."""
        for target, raw in values.items():
            if not (0 <= raw <= 0xFFFF_FFFF and raw == int(raw)):
                raise Refused(f"{target}: a weight is a whole number, not {raw:g}")
        keys = urlencode({target: int(raw) for target, raw in values.items()})
        return [(f"POST /runtime_modify?{keys}", tuple(values))]

    async def perform(self, step: str, values: Mapping[str, float]) -> None:
        """Envoy answers 503 where it has no admin layer: nothing was changed then, too."""
        said = await self.http.send("POST", step.removeprefix("POST "))
        if said.strip() != b"OK":
            self.http.fail(Transient, f"{step}: {said[:100]!r}")


def _weight(entry: object) -> float | str:
    value = entry.get("final_value") if isinstance(entry, dict) else None
    if not isinstance(value, str) or not value.isascii() or not value.isdigit():
        return f"the runtime has no number for it: {str(value)[:40]!r}"
    return float(value)
