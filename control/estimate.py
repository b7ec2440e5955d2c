"""Learning a few coefficients from a stream of noisy numbers, with their uncertainty.

Bayesian linear regression whose coefficients may wander (a Kalman filter), started from what
physics says. Arithmetic only: knows nothing of halls, moves or time of day.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
SURPRISE = 3.0  # sigmas: beyond this the world has changed, and doubt grows
DOUBT_GROWS = 2.0  # variance, by this factor a surprise


@dataclass(frozen=True, slots=True, eq=False)
class Gaussian:
    """What is believed of k coefficients: mean (k,), cov (k, k).

    sigma (k,): what was believed before any measurement; doubt never grows beyond it.
    wander (k,): how far a coefficient may wander in one step, 1-sigma.
    """

    mean: F64
    cov: F64
    sigma: F64
    wander: F64

    @staticmethod
    def prior(mean: F64, sigma: F64, wander: F64) -> "Gaussian":
        """Independent coefficients, each mean ± sigma."""
        variance: F64 = np.square(sigma)
        return Gaussian(mean, np.diag(variance), sigma, wander)

    def predict(self, x: F64) -> tuple[float, float]:
        """Return (mean, 1-sigma) of x · coefficients, coefficients' doubt only."""
        return float(x @ self.mean), math.sqrt(max(float(x @ self.cov @ x), 0.0))


def learn(
    belief: Gaussian, x: F64, y: float, noise: float, steps: float = 1.0, jumps: bool = False
) -> Gaussian:
    """Update with one measurement y = x · coefficients ± noise, `steps` after the last one.

    A measurement far outside of what was believed possible makes coefficients uncertain again,
    so that a changed hall is learned anew; where it `jumps`, the first coefficient takes the jump
    and the others keep what they have learned. Returns the belief unchanged for a y that is NaN.
    """
    if not np.isfinite(y) or not np.isfinite(x).all():
        return belief
    cov = belief.cov + np.diag(belief.wander**2 * max(steps, 0.0))
    expected = float(x @ belief.mean)
    spread = float(x @ cov @ x) + noise**2
    if (y - expected) ** 2 > SURPRISE**2 * spread:
        cov = _bounded(cov * DOUBT_GROWS, belief.sigma)
        if jumps:
            cov[0, :] = cov[:, 0] = 0.0
            cov[0, 0] = (y - expected) ** 2
        spread = float(x @ cov @ x) + noise**2
    gain = cov @ x / spread
    mean = belief.mean + gain * (y - expected)
    after = cov - np.outer(gain, x @ cov)
    return Gaussian(
        mean, _bounded((after + after.T) / 2.0, belief.sigma), belief.sigma, belief.wander
    )


def _bounded(cov: F64, sigma: F64) -> F64:
    """Scale variances down to the prior's where they have grown beyond it; correlations stay."""
    variance = np.maximum(np.diag(cov), 1e-18)
    shrink = np.minimum(1.0, sigma / np.sqrt(variance))
    bounded: F64 = cov * np.outer(shrink, shrink)
    return bounded
