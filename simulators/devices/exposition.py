"""GPU and inference metrics in Prometheus text, as dcgm-exporter and vLLM write them.

Texts are built when asked for; counters run on between steps. Metric and label names are those of
dcgm-exporter 3.x and vLLM's v1 engine; bucket edges are vLLM's.
"""

from itertools import pairwise

import numpy as np

from simulators.hall.latency import E2E, QUEUE, REQUEST_EDGES_S, SUMS, TTFT, TTFT_EDGES_S
from simulators.hall.layout import RACK_INDEX, ROW_INDEX, Array
from simulators.site import SiteDevice, host_name
from simulators.world import World

MODEL_GPU = "NVIDIA H100 80GB HBM3"
MODEL_LLM = "chat-70b"
_JOULES_BEFORE = 5.0e12  # millijoules a GPU's counter shows at time 0

# GPUs of one node differ a little, always the same way: their mean is the node's.
_GPU_SPREAD = (0.985, 1.01, 1.0, 1.015, 0.99, 1.005, 0.995, 1.0)

_DCGM = (
    ("DCGM_FI_DEV_GPU_TEMP", "gauge", "GPU temperature (in C)."),
    ("DCGM_FI_DEV_MEMORY_TEMP", "gauge", "Memory temperature (in C)."),
    ("DCGM_FI_DEV_POWER_USAGE", "gauge", "Power draw (in W)."),
    (
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
        "counter",
        "Total energy consumption since boot (in mJ).",
    ),
    ("DCGM_FI_DEV_GPU_UTIL", "gauge", "GPU utilization (in %)."),
)

_HISTOGRAMS = (
    ("time_to_first_token", TTFT_EDGES_S, TTFT),
    ("e2e_request_latency", REQUEST_EDGES_S, E2E),
    ("request_queue_time", REQUEST_EDGES_S, QUEUE),
)


class DcgmText:
    """dcgm-exporter of a row: eight GPUs in each of twelve nodes."""

    def __init__(self, device: SiteDevice, world: World) -> None:
        self._world = world
        racks = [p.rack for p in device.points if p.rack]
        self._index = np.asarray([RACK_INDEX[r] for r in racks])
        self._heads = [f"# HELP {name} {text}\n# TYPE {name} {kind}" for name, kind, text in _DCGM]
        self._labels = [
            f'{{gpu="{g}",UUID="GPU-{rack.lower()}-{g}",device="nvidia{g}",'
            f'modelName="{MODEL_GPU}",Hostname="{host_name(rack)}"}}'
            for rack in racks
            for g in range(len(_GPU_SPREAD))
        ]
        self._power = [f"{device.id}/gpu_power_kw.{r}" for r in racks]

    def build(self) -> str:
        """Return the exposition."""
        hall = self._world.hall
        spread = np.asarray(_GPU_SPREAD)
        readings = self._world.readings
        kw = np.asarray([readings[name] for name in self._power])
        watts = np.outer(kw * 1000.0 / len(spread), spread).ravel()
        gpu_c = hall.racks.gpu_c[self._index]
        temp = np.add.outer(gpu_c, (spread - 1.0) * 200.0).ravel()
        hours = self._world.counters()[3][self._index] / len(spread)
        energy = _JOULES_BEFORE + np.outer(hours * 3.6e9, spread).ravel()
        load = np.minimum(np.repeat(hall.work.dynamic, 12)[self._index] * 130.0, 100.0)
        util = np.repeat(load, len(spread))
        columns: tuple[tuple[Array, str], ...] = (
            (temp, ".0f"),
            (temp + 6.0, ".0f"),
            (watts, ".3f"),
            (energy, ".0f"),
            (util, ".0f"),
        )
        lines: list[str] = []
        for (name, _, _), head, (column, form) in zip(_DCGM, self._heads, columns, strict=True):
            lines.append(head)
            lines += [
                f"{name}{label} {value:{form}}"
                for label, value in zip(self._labels, column.tolist(), strict=True)
            ]
        return "\n".join(lines) + "\n"


class VllmText:
    """vLLM of a row, as one engine behind the row's router."""

    def __init__(self, device: SiteDevice, world: World) -> None:
        self._world = world
        assert device.row is not None
        self._row = ROW_INDEX[device.row]
        self._labels = f'model_name="{MODEL_LLM}",engine="0"'

    def build(self) -> str:
        """Return the exposition."""
        hall, row = self._world.hall, self._row
        work, k = hall.work, hall.k
        totals, latency, _, _ = self._world.counters()
        prompts = float(np.floor(totals[row]))
        running = float(work.served[row]) / hall.step_s * k.generated_tokens * 0.025
        out: list[str] = []
        self._one(out, "vllm:num_requests_running", "gauge", round(running))
        self._one(out, "vllm:num_requests_waiting", "gauge", round(float(work.queue[row])))
        cache = min(1.0, float(work.busy[row]) * 0.9)
        self._one(out, "vllm:kv_cache_usage_perc", "gauge", round(cache, 4))
        self._one(out, "vllm:prompt_tokens_total", "counter", prompts * k.prompt_tokens)
        self._one(out, "vllm:generation_tokens_total", "counter", prompts * k.generated_tokens)
        self._finished(out, prompts)
        for i, (name, edges, place) in enumerate(_HISTOGRAMS):
            counts, total_s = latency[row, place], float(latency[row, SUMS][i])
            self._histogram(out, f"vllm:{name}_seconds", edges, counts, total_s, prompts)
        return "\n".join(out) + "\n"

    def _one(self, out: list[str], name: str, kind: str, value: float) -> None:
        out.append(f"# HELP {name} simulated\n# TYPE {name} {kind}")
        out.append(f"{name}{{{self._labels}}} {value}")

    def _finished(self, out: list[str], prompts: float) -> None:
        name = "vllm:request_success_total"
        out.append(f"# HELP {name} simulated\n# TYPE {name} counter")
        stopped = float(np.floor(prompts * 0.93))
        for reason, value in (("stop", stopped), ("length", prompts - stopped), ("abort", 0.0)):
            out.append(f'{name}{{finished_reason="{reason}",{self._labels}}} {value}')

    def _histogram(
        self,
        out: list[str],
        name: str,
        edges: tuple[float, ...],
        counts: Array,
        total_s: float,
        prompts: float,
    ) -> None:
        out.append(f"# HELP {name} simulated\n# TYPE {name} histogram")
        whole = np.minimum(np.floor(counts + 1e-6), prompts).tolist()
        assert all(a <= b for a, b in pairwise(whole))
        for edge, count in zip(edges, whole, strict=True):
            out.append(f'{name}_bucket{{le="{edge}",{self._labels}}} {count}')
        out.append(f'{name}_bucket{{le="+Inf",{self._labels}}} {prompts}')
        out.append(f"{name}_count{{{self._labels}}} {prompts}")
        out.append(f"{name}_sum{{{self._labels}}} {total_s:.6f}")
