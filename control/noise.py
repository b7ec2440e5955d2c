"""By how much averages of power differ from one to the next while setpoints rest.

Never told by a fit, that would take a ledge for noise; and counted as it comes, never from what is
remembered: who moves all the time rests rarely, and a hall is no less noisy for it. Arithmetic only.
"""

from dataclasses import dataclass

import numpy as np

from control.response import Kernel, Seen

LIMITS = (0.01, 0.3)  # of the mean, at least (no fit is better than that) and at most
AT_REST, SAME, PAIRS_LEAST, PAIR_S = 0.3, 0.1, 4, 7200.0
KEPT = 100.0  # pairs: what was heard before counts less


@dataclass(frozen=True, slots=True)
class Noise:
    """Pairs of averages counted, and the sum of their variances in kW²."""

    pairs: float = 0.0
    squared: float = 0.0

    def share(self, mean_kw: float) -> float:
        """1-sigma of an average, as a share of the mean."""
        if self.pairs < PAIRS_LEAST:
            return Kernel.noise
        return float(np.clip((self.squared / self.pairs) ** 0.5 / max(abs(mean_kw), 1e-9), *LIMITS))


def heard(noise: Noise, seen: Seen) -> Noise:
    """With the latest two averages, if setpoints rested at the same levels in both."""
    if len(seen) < 2:
        return noise
    moving = np.abs(seen.behind[-2:, :, :2]).max(initial=0.0) > SAME
    rest = np.maximum(seen.hasty, seen.rough)[-2:].max() < AT_REST and not moving
    same = np.abs(np.diff(seen.levels[-2:], axis=0)).max(initial=0.0) < SAME
    if not rest or not same or seen.at_s[-1] - seen.at_s[-2] > PAIR_S:
        return noise
    keep = min(1.0, (KEPT - 1.0) / max(noise.pairs, 1e-9))
    jump_kw = float(seen.kw[-1] - seen.kw[-2])
    return Noise(keep * noise.pairs + 1.0, keep * noise.squared + jump_kw**2 / 2.0)
