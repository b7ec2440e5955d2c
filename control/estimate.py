"""Learning a few coefficients from a stream of noisy numbers, with their uncertainty.

Bayesian linear regression whose coefficients may wander (a Kalman filter), started from what
physics says; what was learned of a coefficient and is not seen again fades back to that. Arithmetic
only: knows nothing of halls, moves or time of day.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
SURPRISE = 3.0  # sigmas: beyond this the world has changed, and doubt grows
DOUBT_GROWS = 2.0  # variance, by this factor a surprise


@dataclass(frozen=True, slots=True, eq=False)
class Gaussian:
    """What is believed of k coefficients: mean (k,), cov (k, k).

    usual, sigma (k,): what was believed before any measurement; doubt never grows beyond it.
    holds (k,): as much of what is usual holds now, 0 to 1.
    sign (k,): 1 or -1 where physics lets a coefficient be only that, else 0.
    wander (k,): how far a coefficient may wander in one step, 1-sigma. The first one, the base, goes
    anywhere in time; the others back to what is usual (Ornstein-Uhlenbeck), as far as doubt grows.
    """

    mean: F64
    cov: F64
    usual: F64
    sigma: F64
    wander: F64
    holds: F64
    sign: F64

    @staticmethod
    def prior(mean: F64, sigma: F64, wander: F64, sign: F64 | None = None) -> "Gaussian":
        """Independent coefficients, each mean ± sigma."""
        variance: F64 = np.square(sigma)
        any_sign = np.zeros(len(mean)) if sign is None else sign
        return Gaussian(mean, np.diag(variance), mean, sigma, wander, np.ones(len(mean)), any_sign)

    def scaled(self, holds: F64) -> "Gaussian":
        """Where only so much (k,) of what is usual holds, and of its doubt."""
        return replace(self, holds=np.maximum(holds, 1e-6))

    def predict(self, x: F64) -> tuple[float, float]:
        """Return (mean, 1-sigma) of x · coefficients, coefficients' doubt only."""
        return float(x @ self.mean), math.sqrt(max(float(x @ self.cov @ x), 0.0))


def learn(
    belief: Gaussian,
    x: F64,
    y: float,
    noise: float,
    steps: float = 1.0,
    jumps_at: F64 | None = None,
) -> Gaussian:
    """Update with one measurement y = x · coefficients ± noise, `steps` after the last one.

    A measurement far outside of what was believed possible makes coefficients uncertain again,
    so that a changed hall is learned anew; with `jumps_at`, regressors (k,) at which it may jump, the
    first coefficient takes what jumps there, and the others learn only from how far x is from
    them. Returns the belief unchanged for a y that is NaN.
    """
    if not np.isfinite(y) or not np.isfinite(x).all():
        return belief
    mean, cov = _later(belief, max(steps, 0.0))
    sigma = belief.holds * belief.sigma
    expected = float(x @ mean)
    spread = float(x @ cov @ x) + noise**2
    if (y - expected) ** 2 > SURPRISE**2 * spread:
        cov = _bounded(cov * DOUBT_GROWS, sigma)
        if jumps_at is not None:
            others = jumps_at[1:] @ cov[1:, 1:]
            cov[0, 1:] = cov[1:, 0] = -others
            cov[0, 0] = (y - expected) ** 2 + float(others @ jumps_at[1:])
        spread = float(x @ cov @ x) + noise**2
    gain = cov @ x / spread
    after = cov - np.outer(gain, x @ cov)
    cov = _bounded((after + after.T) / 2.0, sigma)
    mean = mean + gain * (y - expected)
    return replace(belief, mean=np.where(mean * belief.sign < 0.0, 0.0, mean), cov=cov)


def _later(belief: Gaussian, steps: float) -> tuple[F64, F64]:
    """(mean, cov) so many steps later, nothing seen in between."""
    kept = np.sqrt(np.maximum(1.0 - (belief.wander / belief.sigma) ** 2, 0.0)) ** steps
    kept[0] = 1.0
    grown = (1.0 - kept**2) * (belief.holds * belief.sigma) ** 2
    grown[0] = belief.wander[0] ** 2 * steps
    usual = belief.holds * belief.usual
    mean = usual + kept * (belief.mean - usual)
    return mean, belief.cov * np.outer(kept, kept) + np.diag(grown)


def _bounded(cov: F64, sigma: F64) -> F64:
    """Scale variances down to the prior's where they have grown beyond it; correlations stay."""
    variance = np.maximum(np.diag(cov), 1e-18)
    shrink = np.minimum(1.0, sigma / np.sqrt(variance))
    bounded: F64 = cov * np.outer(shrink, shrink)
    return bounded
