"""A replay as one picture (PNG or SVG): score and thresholds, states, contributions, actions.

Decides what is drawn: never more than MOST columns; of many ticks a column shows the worst state and
the highest score, so that no alarm is lost to the width of the paper.
"""

import itertools
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.replay.play import Track

MOST = 1_200
FEATURES = 8
_WORST = (0, 2, 3, 1)  # rank of nominal, transient, persistent, unknown
_COLOURS = ("#e8efe6", "#f0a830", "#b3202c", "#c9c9c9")
_LINES = ("#0b6e99", "#b4540a", "#5b7f2b", "#7a4b9a", "#a11d33", "#555555")


def draw(track: Track, path: Path, title: str) -> None:
    """Write the picture. Raises OSError, and ValueError for a format that is not PNG or SVG."""
    if path.suffix.lower() not in (".png", ".svg"):
        raise ValueError(f"{path.name}: a picture ends in .png or .svg")
    import matplotlib as mpl

    mpl.use("agg")
    mpl.rcParams["svg.hashsalt"] = "skadi"
    from matplotlib import pyplot

    tall = [3.0, 0.4 + 0.22 * len(track.units), 1.6, 1.4 if track.acts else 0.01]
    figure, axes = pyplot.subplots(
        4, 1, figsize=(11, sum(tall) + 1.2), sharex=True, layout="constrained",
        gridspec_kw={"height_ratios": tall},
    )  # fmt: skip
    cut = _columns(len(track.times_s))
    x = _times(track, cut)
    _scores(axes[0], track, cut, x)
    _states(axes[1], track, cut, x)
    _contributions(axes[2], track, cut, x)
    _acts(axes[3], track)
    axes[0].set_title(title, loc="left", fontsize=11)
    axes[3 if track.acts else 2].tick_params(labelbottom=True)
    axes[3 if track.acts else 2].set_xlabel("UTC" if track.timed else "row")
    if track.timed:
        from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

        places = AutoDateLocator()
        axes[0].xaxis.set_major_locator(places)
        axes[0].xaxis.set_major_formatter(ConciseDateFormatter(places))
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _columns(ticks: int) -> list[slice]:
    edges = np.linspace(0, ticks, min(ticks, MOST) + 1).astype(int)
    return [slice(a, b) for a, b in itertools.pairwise(edges)]


def _times(track: Track, cut: Sequence[slice]) -> list[Any]:
    return [_moment(track, track.times_s[c.start]) for c in cut]


def _edges(x: Sequence[Any]) -> list[Any]:
    """Where the columns begin and the last ends."""
    return [*x, x[-1] + (x[-1] - x[-2] if len(x) > 1 else 1)] if len(x) != 1 else [x[0], x[0]]


def _moment(track: Track, time_s: float) -> Any:
    return datetime.fromtimestamp(time_s, UTC) if track.timed else time_s


def _scores(axis: Any, track: Track, cut: Sequence[slice], x: Sequence[Any]) -> None:
    ema, raw = np.array(track.ema), np.array(track.deviation)
    for u, unit in enumerate(track.units):
        colour = _LINES[u % len(_LINES)]
        if len(track.units) == 1:
            axis.plot(x, [_highest(raw[c, u]) for c in cut], color="#b9c6cc", lw=0.8, label="D(x)")
        axis.plot(x, [_highest(ema[c, u]) for c in cut], color=colour, lw=1.2,
                  label=f"EMA {unit}" if len(track.units) > 1 else "EMA of D(x)")  # fmt: skip
    for name, tau in (("tau_fast", track.tau_fast), ("tau_persist", track.tau_persist)):
        axis.axhline(tau, color="#444444", lw=0.9, ls=":" if name == "tau_fast" else "--")
        axis.annotate(name, (1.0, tau), xycoords=("axes fraction", "data"), fontsize=7, ha="right",
                      va="top" if name == "tau_fast" else "bottom")  # fmt: skip
    known = ema[np.isfinite(ema)]
    top = max(1.3 * track.tau_persist, float(np.max(known, initial=0.0)) * 1.05)
    axis.set_ylim(0, top)
    axis.set_ylabel("distance D(x)")
    axis.legend(loc="upper left", fontsize=7, ncols=7, frameon=False)


def _highest(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(known.max()) if known.size else np.nan


def _states(axis: Any, track: Track, cut: Sequence[slice], x: Sequence[Any]) -> None:
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    rank, codes = np.array(_WORST), track.codes()
    worst = np.array([[c[np.argmax(rank[c])] for c in codes[s].T] for s in cut]).T
    axis.pcolormesh(
        _edges(x), np.arange(len(track.units) + 1) - 0.5, worst, cmap=ListedColormap(_COLOURS), vmin=-0.5,
                    vmax=3.5, shading="flat", rasterized=True)  # fmt: skip
    axis.set_yticks(range(len(track.units)), track.units, fontsize=7)
    axis.invert_yaxis()
    names = ("nominal", "transient", "persistent", "unknown")
    keys = [Patch(color=c, label=n) for c, n in zip(_COLOURS, names, strict=True)]
    axis.legend(handles=keys, fontsize=7, ncols=4, frameon=False, loc="lower right",
                bbox_to_anchor=(1.0, 1.0), borderaxespad=0.1)  # fmt: skip


def _contributions(axis: Any, track: Track, cut: Sequence[slice], x: Sequence[Any]) -> None:
    """Of the unit furthest off in a column: its first, second and third feature, darker for first,
    and only where it is over half of tau_fast."""
    ema = np.nan_to_num(np.array(track.ema), nan=0.0)
    found: list[tuple[int, tuple[str, ...]]] = []
    count: Counter[str] = Counter()
    for i, c in enumerate(cut):
        t, u = np.unravel_index(int(np.argmax(ema[c])), ema[c].shape)
        if ema[c][t, u] > 0.5 * track.tau_fast:
            top = track.tops[c.start + int(t)][int(u)]
            found.append((i, top))
            count.update(top)
    names = [n for n, _ in count.most_common(FEATURES)]
    grid = np.zeros((max(len(names), 1), len(cut)))
    for i, top in found:
        for place, name in enumerate(top):
            if name in names:
                grid[names.index(name), i] = 1.0 - 0.3 * place
    axis.pcolormesh(
        _edges(x), np.arange(len(grid) + 1) - 0.5, grid, cmap="Blues", vmin=0, vmax=1.2, shading="flat",
                    rasterized=True)  # fmt: skip
    axis.set_yticks(range(len(names)), names, fontsize=7)
    axis.invert_yaxis()
    axis.set_ylabel("most from")


def _acts(axis: Any, track: Track) -> None:
    moves = sorted({m for _, m, *_ in track.acts})
    if not moves:
        axis.set_axis_off()
        return
    for done, fill, label in ((True, _LINES[0], "done"), (False, "none", "would have done")):
        mine = [(t, m) for t, m, _, d, _ in track.acts if d is done]
        if mine:
            axis.scatter([_moment(track, t) for t, _ in mine], [moves.index(m) for _, m in mine],
                         s=22, facecolors=fill, edgecolors=_LINES[0], linewidths=0.9, label=label)  # fmt: skip
    axis.set_yticks(range(len(moves)), moves, fontsize=7)
    axis.set_ylim(-0.6, len(moves) - 0.4)
    axis.invert_yaxis()
    axis.legend(fontsize=7, ncols=2, frameon=False, loc="lower right", bbox_to_anchor=(1.0, 1.0))
