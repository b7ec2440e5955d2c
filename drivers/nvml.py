"""NVIDIA GPUs of this host: power limits through NVML, in watts.

A point's `name` is a GPU's index or its UUID. What is read back is the enforced limit, the lowest of
all that apply (NVML API reference: nvmlDeviceSetPowerManagementLimit, GetEnforcedPowerLimit,
GetPowerManagementLimitConstraints; setting one needs root). Limits outside the board's own
constraints are refused before anything is set. The binding (nvidia-ml-py) is optional.
"""

import asyncio
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, ClassVar

from config.site import Device
from drivers.actuator import Actuator, State
from drivers.contract import Permanent, Refused, Transient


class NvmlDriver(Actuator):
    """See drivers.contract.Driver. NVML blocks for milliseconds: it is called in a thread."""

    about: ClassVar[str] = "a GPU's index or UUID"

    def __init__(self, device: Device, environ: Mapping[str, str]) -> None:
        super().__init__(device, environ)
        self._nvml: Any = None

    async def connect(self) -> None:
        """Load NVML. Raises Permanent without its binding or a driver."""
        await asyncio.to_thread(self._open)

    async def close(self) -> None:
        """Let go of NVML."""
        nvml, self._nvml = self._nvml, None
        if nvml is not None:
            await asyncio.to_thread(nvml.nvmlShutdown)

    async def fetch(self, targets: Sequence[str]) -> State:
        """The enforced limit of each GPU."""
        return await asyncio.to_thread(lambda: {t: self._limit_w(t) for t in targets})

    def plan(self, values: Mapping[str, float]) -> Sequence[tuple[str, tuple[str, ...]]]:
        """One call a GPU."""
        return [(f"power limit of GPU {t} to {raw:g} W", (t,)) for t, raw in values.items()]

    async def perform(self, step: str, values: Mapping[str, float]) -> None:
        """Raises Refused where the board or its driver says no."""
        for target, raw in values.items():
            await asyncio.to_thread(self._set, target, raw)

    def _open(self) -> Any:
        if self._nvml is None:
            try:
                nvml = import_module("pynvml")
            except ImportError as error:
                raise Permanent(
                    f"device {self.device.id}: NVML's binding is missing: pip install nvidia-ml-py"
                ) from error
            try:
                nvml.nvmlInit()
            except nvml.NVMLError as error:
                raise Permanent(f"device {self.device.id}: NVML: {error}") from error
            self._nvml = nvml
        return self._nvml

    def _gpu(self, nvml: Any, target: str) -> Any:
        if target.isascii() and target.isdigit():
            return nvml.nvmlDeviceGetHandleByIndex(int(target))
        return nvml.nvmlDeviceGetHandleByUUID(target)

    def _limit_w(self, target: str) -> float | str:
        nvml = self._open()
        try:
            return float(nvml.nvmlDeviceGetEnforcedPowerLimit(self._gpu(nvml, target))) / 1000.0
        except nvml.NVMLError as error:
            return f"GPU {target}: {error}"

    def _set(self, target: str, limit_w: float) -> None:
        nvml = self._open()
        try:
            gpu = self._gpu(nvml, target)
            least_mw, most_mw = nvml.nvmlDeviceGetPowerManagementLimitConstraints(gpu)
        except nvml.NVMLError as error:
            raise Refused(f"device {self.device.id} GPU {target}: {error}") from error
        limit_mw = round(limit_w * 1000.0)
        if not least_mw <= limit_mw <= most_mw:
            raise Refused(
                f"device {self.device.id} GPU {target}: {limit_w:g} W is outside the board's"
                f" {least_mw / 1000:g}..{most_mw / 1000:g} W"
            )
        try:
            nvml.nvmlDeviceSetPowerManagementLimit(gpu, limit_mw)
        except (nvml.NVMLError_NoPermission, nvml.NVMLError_NotSupported) as error:
            raise Refused(f"device {self.device.id} GPU {target}: {error}") from error
        except nvml.NVMLError as error:
            raise Transient(f"device {self.device.id} GPU {target}: {error}") from error
