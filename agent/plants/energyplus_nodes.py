"""How air and water nodes follow each other in an EnergyPlus model. Reads only; decides nothing."""

from collections.abc import Iterable, Iterator
from typing import Any

Objects = dict[str, Any]


class Nodes:
    """How air and water nodes follow each other in a model. Names are compared as EnergyPlus does."""

    def __init__(self, model: Objects) -> None:
        self._lists = {
            self.key(name): {self.key(n["node_name"]) for n in about.get("nodes", [])}
            for name, about in model.get("NodeList", {}).items()
        }
        self._next: dict[str, set[str]] = {}
        for kind, objects in model.items():
            if kind not in ("AirLoopHVAC", "PlantLoop", "CondenserLoop", "Branch"):
                for about in objects.values():
                    self._add(about)

    @staticmethod
    def key(name: object) -> str:
        """A name as it compares: case does not matter."""
        return str(name or "").strip().upper()

    def named(self, name: object) -> set[str]:
        """The nodes behind a name that may be a node or a list of nodes."""
        key = self.key(name)
        return set(self._lists.get(key, {key} if key else set()))

    def reach(self, starts: Iterable[str], stop: Iterable[str] = ()) -> set[str]:
        """Every node downstream of these, not beyond `stop`. Shape: a set of keys."""
        end, seen, todo = set(stop), set(starts), list(starts)
        while todo:
            for after in self._next.get(todo.pop(), set()) - seen:
                seen.add(after)
                if after not in end:
                    todo.append(after)
        return seen

    def _add(self, about: Objects) -> None:
        flat = list(_node_fields(about))
        inlets = [(k, v) for k, v in flat if "inlet" in k or "return_air_stream" in k]
        outlets = [(k, v) for k, v in flat if "outlet" in k or k == "mixed_air_node_name"]
        pairs = dict(outlets)
        for field, name in inlets:
            twin = pairs.get(field.replace("inlet", "outlet"))
            after = [twin] if twin is not None else [v for _, v in outlets]
            for node in self.named(name):
                for target in after:
                    self._next.setdefault(node, set()).update(self.named(target))


def _node_fields(about: Objects) -> Iterator[tuple[str, Any]]:
    for field, value in about.items():
        if isinstance(value, list):
            for row in value:
                yield from _node_fields(row) if isinstance(row, dict) else ()
        elif "node" in field:
            yield field, value
