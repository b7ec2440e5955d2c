"""Several fits of what cooling costs at any setpoints, and how likely each is.

How smooth a hall is, how fast it drifts, what its walls store and whether its power follows
setpoints at once or as air does is never known, only more or less likely: what fits differ by is
doubt, too (Bayesian model averaging: Hoeting et al. 1999). Arithmetic only.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from control.response import (
    BLOCK_S,
    F64,
    SHAPES,
    SLOW_S,
    History,
    Kernel,
    Response,
    Seen,
    fit,
    history,
)

T = TypeVar("T")
Sizes = dict[str, tuple[Any, ...]]
# Sizes of the parts as shares of the mean, and shapes, to be chosen from by likelihood.
_SIZES: Sizes = {
    "alone": (0.03, 0.1, 0.2, 0.6),
    "shape": tuple(SHAPES),
    "acts": (0.01, 0.05, 0.2, 0.6),
    "drift": (0.01, 0.03, 0.15),
    "stored": (0.03, 0.2, 1.0),
    "heavy": (0.1, 1.0),
}
# Of fits: how many are kept, how likely they must be beside the best, and by what log-likelihoods are
# divided: noise is neither normal nor independent, so that they say less than they seem to (power likelihoods).
FITS_MOST, FITS_LEAST, TEMPER = 4, 0.05, 4.0
# A hall is new for so many blocks, half a day: one fit alone is believed, and its walls are taken for the usual
# ones. What all fits might be by then is too much doubt to try anything. By so much log-likelihood power must
# follow otherwise than thought to be believed.
NEW, TURN = 48.0, 10.0
# What drifts unseen is seen at rest, too: averages a block apart would differ by this share of it, and
# they differ by the noise. A ledge that is crossed is no drift.
_A_BLOCK_APART = math.sqrt(1.0 - math.exp(-BLOCK_S / SLOW_S))
_AT_FIRST = {name: _SIZES[name] for name in ("alone", "shape", "acts", "drift")}


@dataclass(frozen=True, slots=True, eq=False)
class Fits:
    """Several fits of what was seen, most likely first, and how likely each is (they add up to 1).

    One that is only just the likeliest today may not be tomorrow, and may think that all that is
    known was something else: levels where fits differ are in doubt, whatever each of them says.
    """

    each: tuple[Response, ...]
    share: F64

    @property
    def best(self) -> Response:
        """The most likely fit."""
        return self.each[0]

    def effects(self, levels: F64, now: F64, around: F64) -> tuple[F64, F64]:
        """(mean, 1-sigma) in kW of going from levels `now` (f,) to each of `levels` (m, f), all
        surrounded by `around`, after all that was seen. Shapes (m,)."""
        asks = self._by_history(lambda h: h.ask(levels, now, around))
        each = [fit.effects(asks[fit.kernel.lags]) for fit in self.each]
        means, sigmas = np.array([m for m, _ in each]), np.array([s for _, s in each])
        mean = self.share @ means
        return mean, np.sqrt(self.share @ (sigmas**2 + (means - mean) ** 2))

    def more_kw(self, than: F64) -> F64:
        """What levels `than` (f,) would have taken more in every block seen (n,), in kW."""
        others = self._by_history(lambda h: h.other(than))
        more: F64 = self.share @ np.array([f.more_kw(others[f.kernel.lags]) for f in self.each])
        return more

    def doubt(self, than: F64, hours: F64) -> float:
        """1-sigma of the sum over blocks of hours (n,) times `more_kw`, in kWh."""
        both = self._by_history(lambda h: h.both(than))
        sums, sigmas = np.array([f.total(both[f.kernel.lags], hours) for f in self.each]).T
        return float(np.sqrt(self.share @ (sigmas**2 + (sums - self.share @ sums) ** 2)))

    def _by_history(self, of: Callable[[History], T]) -> dict[bool, T]:
        histories = {fit.kernel.lags: fit.history for fit in self.each}
        return {lags: of(history) for lags, history in histories.items()}


def fitted(degrees: NDArray[np.bool_], seen: Seen, kernels: tuple[Kernel, ...]) -> Fits:
    """Fit to what was seen, with each of these sizes."""
    histories = {lags: history(degrees, seen, lags) for lags in {k.lags for k in kernels}}
    return _weighed([fit(histories[k.lags], k) for k in kernels])


def chosen(
    degrees: NDArray[np.bool_],
    seen: Seen,
    kernels: tuple[Kernel, ...],
    noise: float = Kernel.noise,
) -> Fits:
    """Fit with the sizes under which what was seen is most likely, and with others that may be. noise:
    of an average, as a share of the mean."""
    new = float(seen.weight.sum()) < NEW
    tried: dict[Kernel, Response] = {}
    for lags in (False, True):
        start = next((k for k in kernels if k.lags == lags), replace(kernels[0], lags=lags))
        _search(history(degrees, seen, lags), start, noise, _AT_FIRST if new else _SIZES, tried)
    return _one(tried, kernels[0].lags) if new else _weighed(list(tried.values()))


def _one(tried: dict[Kernel, Response], lags: bool) -> Fits:
    """The likeliest alone, and the one that thinks of lags as before where it is nearly as likely."""
    best = max(tried.values(), key=lambda r: r.likely + TURN * (r.kernel.lags == lags))
    return Fits((best,), np.ones(1))


def _search(history: History, kernel: Kernel, noise: float, of: Sizes, tried: dict[Kernel, Response]) -> None:  # fmt: skip
    """Try sizes one after the other, from these."""

    def made(k: Kernel) -> Response:
        if k not in tried:
            tried[k] = fit(history, k)
        return tried[k]

    drifts = _drifts(noise)
    best = made(replace(kernel, noise=noise, drift=min(kernel.drift, drifts[-1])))
    for _ in range(2):
        before = best.kernel
        for name, sizes in (of | {"drift": drifts}).items():
            others = [replace(best.kernel, **{name: s}) for s in sizes]
            best = max((best, *(made(k) for k in others)), key=lambda r: r.likely)
        if best.kernel == before:
            break


def _drifts(noise: float) -> tuple[float, ...]:
    """The sizes of drift that averages at rest, which differ by no more than noise, leave possible."""
    least, *more = _SIZES["drift"]
    return least, *(size for size in more if _A_BLOCK_APART * size <= noise)


def _weighed(fits: list[Response]) -> Fits:
    """The likeliest few of them."""
    fits = sorted(fits, key=lambda r: r.likely, reverse=True)[:FITS_MOST]
    likely = np.array([fit.likely for fit in fits])
    share = np.exp((likely - likely[0]) / TEMPER)
    kept = share >= FITS_LEAST
    return Fits(
        tuple(f for f, k in zip(fits, kept, strict=True) if k), share[kept] / share[kept].sum()
    )
