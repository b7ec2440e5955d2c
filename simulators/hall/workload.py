"""What the hall computes: prompts by row, queues, batching, low-priority jobs.

Decides who serves what and how busy that makes each row; knows nothing of watts or air.
Interactive prompts go first; low-priority jobs take what is left, as far as admitted, and
wait (are deferred) otherwise.
"""

import numpy as np

from simulators.hall.constants import Constants
from simulators.hall.latency import Latency
from simulators.hall.layout import N_ROWS, RACKS_PER_ROW, ROW_TABLE, Array


class Workload:
    """Queues, rates and waits of the six rows: shape (..., 6)."""

    def __init__(self, k: Constants) -> None:
        self._k = k
        self.latency = Latency(k)
        self._energy = np.asarray([r.energy for r in ROW_TABLE])
        self._speed = np.asarray([r.speed for r in ROW_TABLE])
        self._row_nominal_ps = k.node_prompts_ps * RACKS_PER_ROW
        self.queue = np.zeros(N_ROWS)
        self._backlog = np.zeros(1)  # low-priority jobs that wait, in prompts' worth of work
        self.served = np.zeros(N_ROWS)  # in the last step, prompts
        self.rejected = np.zeros(N_ROWS)
        self.jobs_ps = np.zeros(N_ROWS)
        self.dynamic = np.zeros(N_ROWS)  # share of a node's dynamic power, mean over the row
        self.busy = np.zeros(N_ROWS)

    @property
    def job_backlog(self) -> float:
        """Low-priority jobs that wait, in prompts' worth of work."""
        return float(self._backlog.flat[0])

    def batch_energy(self, window_ms: float | Array) -> float | Array:
        """Return the energy of a prompt against unbatched serving (1 at window 0, falling)."""
        k = self._k
        return 1.0 - k.batch_gain * window_ms / (window_ms + k.batch_gain_ms)

    def step(
        self,
        dt_s: float,
        arrivals: float,
        share: Array,
        window_ms: float | Array,
        admission: float,
        throttle: Array,
    ) -> None:
        """Serve one step. share (6,) sums to 1; admission 0..1; throttle (..., 6) is speed, 1 = full;
        window_ms: one value, or (..., 1)."""
        k = self._k
        e = self.batch_energy(window_ms)
        capacity_ps = (
            self._row_nominal_ps * self._speed * throttle * (1.0 + k.batch_speed * (1.0 / e - 1.0))
        )
        arrived = arrivals * share
        waiting = self.queue + arrived
        self.served = np.minimum(waiting, capacity_ps * dt_s)
        self.queue = waiting - self.served
        limit = k.queue_limit_s * capacity_ps
        self.rejected = np.maximum(self.queue - limit, 0.0)
        self.queue = self.queue - self.rejected
        served_ps = self.served / dt_s
        self._serve_jobs(dt_s, capacity_ps, served_ps, admission)
        self.busy = np.minimum((served_ps + 0.5 * self.jobs_ps) / capacity_ps, 0.995)
        self.dynamic = (served_ps + self.jobs_ps) * self._energy * e / self._row_nominal_ps
        # Mean of an exponential wait whose p95 is the M/G/c-like s rho^4 / (1 - rho).
        wait_ms = 1.0 + k.wait_ms * self.busy**4 / (1.0 - self.busy) / 3.0
        self.latency.step(dt_s, self.served, window_ms, wait_ms, self.queue / capacity_ps * 1000.0)

    def _serve_jobs(
        self, dt_s: float, capacity_ps: Array, served_ps: Array, admission: float
    ) -> None:
        k = self._k
        self._backlog = self._backlog + k.job_load * self._row_nominal_ps * N_ROWS * dt_s
        room_ps = np.minimum(
            k.job_load_max * self._row_nominal_ps * admission,
            np.maximum(0.97 * capacity_ps - served_ps, 0.0),
        )
        most = room_ps.sum(axis=-1, keepdims=True) * dt_s
        part = np.minimum(1.0, self._backlog / np.maximum(most, 1e-9))
        self.jobs_ps = room_ps * part
        self._backlog = np.maximum(0.0, self._backlog - most * part)

    def marginal_share(self, window_ms: float) -> float:
        """Return the dynamic share that one prompt a second adds to a nominal row."""
        return float(self.batch_energy(window_ms)) / self._row_nominal_ps
