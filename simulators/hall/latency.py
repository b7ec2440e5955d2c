"""How long prompts wait: time to first token as a distribution, and its sliding p95.

The p95 is known twice: as it is (`p95_ms`, for the account), and as anybody can know it who
reads vLLM's histogram, whose edges are far apart (`shown_ms`, for every reading).

A prompt waits a uniform part of the batching window, an exponential queueing time, and its
prefill, which depends on the class of its context. Everything is a closed form over
histogram edges, so a step costs a few array operations whatever the load.
"""

import math
from collections import deque
from typing import Final

import numpy as np

from simulators.hall.constants import Constants
from simulators.hall.layout import N_ROWS, Array

# Bucket edges in seconds of vLLM's own histograms (vllm/v1/metrics: time_to_first_token_seconds;
# e2e_request_latency_seconds and request_queue_time_seconds share theirs).
TTFT_EDGES_S: Final = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
)  # fmt: skip
REQUEST_EDGES_S: Final = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0,
    240.0, 480.0, 960.0, 1920.0, 7680.0,
)  # fmt: skip
TTFT: Final = slice(0, len(TTFT_EDGES_S))
E2E: Final = slice(TTFT.stop, TTFT.stop + len(REQUEST_EDGES_S))
QUEUE: Final = slice(E2E.stop, E2E.stop + len(REQUEST_EDGES_S))
SUMS: Final = slice(QUEUE.stop, QUEUE.stop + 3)  # TTFT, end to end, queueing
COUNTERS: Final = SUMS.stop
TOKEN_S: Final = 0.025  # inter-token latency of a decode step, 40 tokens a second a user
WINDOW_S: Final = 60.0
MIN_REQUESTS: Final = 20

_FINE_MS: Final = np.unique(
    np.concatenate(
        [
            np.asarray(TTFT_EDGES_S) * 1000.0,
            np.arange(20.0, 401.0, 10.0),
            np.asarray([450.0, 600.0, 850.0, 1250.0, 1500.0, 2000.0, 3000.0, 30_000.0]),
        ]
    )
)
_VLLM_MS: Final = np.asarray(TTFT_EDGES_S) * 1000.0
_VLLM_PLACES: Final = np.searchsorted(_FINE_MS, _VLLM_MS)
_REQUEST_MS: Final = np.asarray(REQUEST_EDGES_S) * 1000.0


def wait_cdf(after_ms: Array, window_ms: float | Array, wait_ms: Array) -> Array:
    """Return P(U(0, window) + Exp(wait) <= after_ms); broadcasts, 0 for negative times."""
    window = np.maximum(window_ms, 1.0)
    y = np.maximum(after_ms, 0.0)
    inside = np.minimum(y, window)
    tail = wait_ms * (np.exp((inside - y) / wait_ms) - np.exp(-y / wait_ms))
    chance: Array = (inside - tail) / window
    return chance


class Latency:
    """Cumulative histograms and the sliding p95 of each row."""

    def __init__(self, k: Constants) -> None:
        short = 1.0 - k.medium_prompt_fraction - k.long_prompt_fraction
        classes = (
            (short, k.short_prefill_ms),
            (k.medium_prompt_fraction, k.medium_prefill_ms),
            (k.long_prompt_fraction, k.long_prefill_ms),
        )
        self._whole = True
        self.details = False  # keep the histograms only an exposition shows, too
        self._weights = np.asarray([w for w, _ in classes])
        self._after = _FINE_MS - np.asarray([m for _, m in classes])[:, None, None]
        self._mean_prefill_ms = sum(w * m for w, m in classes)
        self._decode_ms = k.generated_tokens * TOKEN_S * 1000.0
        self._ring: deque[tuple[float, Array, Array]] = deque()
        self._ring_s = 0.0
        self._sum = np.zeros((N_ROWS, len(_FINE_MS)))
        self._sum_n = np.zeros(N_ROWS)
        self.p95_ms = np.full(N_ROWS, np.nan)
        self.shown_ms = self.p95_ms
        # Cumulative, for the expositions: counts at TTFT edges, at request edges for end to end
        # and for queueing, and the three sums in seconds. Shape (6, COUNTERS).
        self.counters = np.zeros((N_ROWS, COUNTERS))

    def only_shown(self) -> None:
        """From here on keep what is shown and nothing else: what rolled out futures need."""
        self._whole = False
        self._after = self._after[..., _VLLM_PLACES]
        self._sum = self._sum[..., _VLLM_PLACES]
        self._ring = deque((s, fine[..., _VLLM_PLACES], n) for s, fine, n in self._ring)

    def step(
        self, dt_s: float, served: Array, window_ms: float | Array, wait_ms: Array, queue_ms: Array
    ) -> None:
        """Add `served` prompts a row (..., 6) that met these waits; slide the p95's window.

        window_ms: one value, or (..., 1) after only_shown().
        """
        wait, queued = wait_ms[..., None, :, None], queue_ms[..., None, :, None]
        window = window_ms[..., None, None] if isinstance(window_ms, np.ndarray) else window_ms
        by_class = wait_cdf(self._after - queued, window, wait)
        mixed = self._weights @ by_class.reshape(*by_class.shape[:-2], -1)
        fine = mixed.reshape(*mixed.shape[:-1], N_ROWS, -1) * served[..., None]
        self._slide(dt_s, fine, served)
        if not self._whole or isinstance(window_ms, np.ndarray):
            return
        self.counters[:, TTFT] += fine[:, _VLLM_PLACES]
        if self.details:
            self._details(served, window_ms, wait_ms, queue_ms)

    def _details(self, served: Array, window_ms: float, wait_ms: Array, queue_ms: Array) -> None:
        wait, queued = wait_ms[:, None], queue_ms[:, None]
        waited_ms = window_ms / 2 + wait_ms + queue_ms
        self.counters[:, QUEUE] += served[:, None] * wait_cdf(_REQUEST_MS - queued, window_ms, wait)
        first_ms = (waited_ms + self._mean_prefill_ms)[:, None]
        decode = 1.0 - np.exp(-np.maximum(_REQUEST_MS - first_ms, 0.0) / self._decode_ms)
        self.counters[:, E2E] += served[:, None] * decode
        sums = np.stack([first_ms[:, 0], first_ms[:, 0] + self._decode_ms, waited_ms], axis=1)
        self.counters[:, SUMS] += served[:, None] * sums / 1000.0

    def _slide(self, dt_s: float, fine: Array, served: Array) -> None:
        self._ring.append((dt_s, fine, served))
        self._ring_s += dt_s
        self._sum = self._sum + fine
        self._sum_n = self._sum_n + served
        while len(self._ring) > 1 and self._ring_s - self._ring[0][0] >= WINDOW_S - 1e-9:
            gone_s, gone, gone_n = self._ring.popleft()
            self._ring_s -= gone_s
            self._sum = self._sum - gone
            self._sum_n = self._sum_n - gone_n
        shown = self._sum
        if self._whole:
            self.p95_ms = self._quantile(0.95, self._sum, _FINE_MS)
            shown = self._sum[..., _VLLM_PLACES]
        self.shown_ms = self._quantile(0.95, shown, _VLLM_MS)

    def _quantile(self, q: float, sums: Array, edges_ms: Array) -> Array:
        """Interpolated between edges, as every reader of a Prometheus histogram does."""
        want = q * self._sum_n
        place = np.minimum((sums < want[..., None]).sum(axis=-1), len(edges_ms) - 1)
        flat, at = sums.reshape(-1, len(edges_ms)), place.ravel()
        each = np.arange(len(flat))
        above = flat[each, at].reshape(place.shape)
        below = np.where(place > 0, flat[each, at - 1].reshape(place.shape), 0.0)
        low = np.where(place > 0, edges_ms[place - 1], 0.0)
        part = (want - below) / np.maximum(above - below, 1e-9)
        value = low + np.minimum(part, 1.0) * (edges_ms[place] - low)
        return np.where(self._sum_n >= MIN_REQUESTS, value, math.nan)
