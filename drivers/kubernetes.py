"""Kubernetes: Kueue's queues and suspended Jobs, over the API server's REST.

    clusterqueue/NAME             spec.stopPolicy None <-> Hold      kueue.x-k8s.io/v1beta1
    localqueue/NAMESPACE/NAME     spec.stopPolicy None <-> Hold
    job/NAMESPACE/NAME            spec.suspend   false <-> true      batch/v1

A point's `name` is one of these; 100 admits, 0 holds. Hold lets running workloads go on and admits
no new ones (HoldAndDrain, which evicts, is never written, and reads as held); a suspended Job's pods
are ended. Sources: Kueue's "ClusterQueue" concept page, Kubernetes' "Suspending a Job", and its API
conventions for merge patches. The token is a reference (a service account with get and patch on
these objects alone), the CA stands in tls = { ca_file = ... }.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from drivers.actuator import State, on_or_off
from drivers.contract import Permanent, Refused, Transient
from drivers.http_actuator import HttpActuator

_KUEUE = "/apis/kueue.x-k8s.io/v1beta1"
_WORD = re.compile(r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")  # RFC 1123 subdomain


@dataclass(frozen=True, slots=True)
class _Kind:
    """Where objects of a kind live, and the field that holds them."""

    path: str
    names: int
    field: str
    admitted: Any
    held: Any


_KINDS = {
    "clusterqueue": _Kind(_KUEUE + "/clusterqueues/{0}", 1, "stopPolicy", "None", "Hold"),
    "localqueue": _Kind(_KUEUE + "/namespaces/{0}/localqueues/{1}", 2, "stopPolicy", "None", "Hold"),
    "job": _Kind("/apis/batch/v1/namespaces/{0}/jobs/{1}", 2, "suspend", False, True),
}  # fmt: skip


class KubernetesDriver(HttpActuator):
    """See drivers.contract.Driver. Raises Permanent for a name that is none of the above."""

    about: ClassVar[str] = "clusterqueue/NAME, localqueue/NAMESPACE/NAME or job/NAMESPACE/NAME"
    most_bytes: ClassVar[int] = 1024 * 1024

    async def fetch(self, targets: Sequence[str]) -> State:
        """One GET a target; one that is not there is missing, and the others are told."""
        state: dict[str, float | str] = {}
        for target in targets:
            kind, path = self._where(target)
            try:
                found = await self.http.get(path)
            except Permanent as error:
                if "404" not in str(error):
                    raise
                state[target] = f"the cluster has no {target}"
                continue
            spec = found.get("spec") if isinstance(found, dict) else None
            if not isinstance(spec, dict):
                self.http.fail(Transient, f"GET {path}: no spec")
            state[target] = _admission(kind, spec)
        return state

    def plan(self, values: Mapping[str, float]) -> Sequence[tuple[str, tuple[str, ...]]]:
        """One PATCH a target."""
        steps: list[tuple[str, tuple[str, ...]]] = []
        for target, raw in values.items():
            kind, path = self._where(target)
            wanted = kind.admitted if on_or_off(target, raw) else kind.held
            steps.append((f"PATCH {path} spec.{kind.field} = {wanted!r}", (target,)))
        return steps

    async def perform(self, step: str, values: Mapping[str, float]) -> None:
        """A merge patch of the one field."""
        for target, raw in values.items():
            kind, path = self._where(target)
            wanted = kind.admitted if on_or_off(target, raw) else kind.held
            patch = {"spec": {kind.field: wanted}}
            await self.http.send("PATCH", path, patch, "application/merge-patch+json")

    def _where(self, target: str) -> tuple[_Kind, str]:
        name, *rest = target.split("/")
        kind = _KINDS.get(name)
        if kind is None or len(rest) != kind.names or not all(map(_WORD.match, rest)):
            raise Refused(f"device {self.device.id}: {target!r} is not {self.about}")
        return kind, kind.path.format(*rest)


def _admission(kind: _Kind, spec: dict[str, Any]) -> float | str:
    value = spec.get(kind.field, kind.admitted)  # both are optional and admit by default
    if value == kind.admitted and type(value) is type(kind.admitted):
        return 100.0
    if value is True or value in ("Hold", "HoldAndDrain"):
        return 0.0
    return f"spec.{kind.field} is {str(value)[:40]!r}"
