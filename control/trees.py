"""Regression trees as plain arrays: what gradient boosting has learned, told with numpy alone.

Made by agent/boosting.py, which alone knows how they are learned. Nothing that is not such trees gets in.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
Ints = NDArray[np.intp]

MOST = 200_000  # nodes
DEEPEST = 8


@dataclass(frozen=True, slots=True, eq=False)
class Trees:
    """The sum of `base` and one leaf of each tree; inputs: how many numbers they look at.

    All arrays (trees, nodes): a node goes left where its input is at most its threshold. Children come
    after their parents; a leaf is its own child.
    """

    inputs: int
    base: float
    feature: Ints
    threshold: F64
    left: Ints
    right: Ints
    value: F64

    def predict(self, x: F64) -> F64:
        """(rows, inputs) -> (rows,)."""
        tree = np.arange(len(self.feature))
        node = np.zeros((len(x), len(tree)), dtype=np.intp)
        for _ in range(DEEPEST):
            low = np.take_along_axis(x, self.feature[tree, node], axis=1) <= self.threshold[tree, node]  # fmt: skip
            node = np.where(low, self.left[tree, node], self.right[tree, node])
        told: F64 = self.base + self.value[tree, node].sum(axis=1)
        return told

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in asdict(self).items()}

    @staticmethod
    def from_dict(body: Mapping[str, Any]) -> "Trees":
        """Check and take. Raises ValueError that says what is wrong."""
        try:
            ints = [np.array(body[k], dtype=np.intp) for k in ("feature", "left", "right")]
            reals = [np.array(body[k], dtype=np.float64) for k in ("threshold", "value")]
            inputs, base = int(body["inputs"]), float(body["base"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"no trees: {error!r}") from error
        shape = ints[0].shape
        if len(shape) != 2 or not 0 < ints[0].size <= MOST or any(a.shape != shape for a in (*ints, *reals)):  # fmt: skip
            raise ValueError(f"trees of shapes {[a.shape for a in (*ints, *reals)]}")
        feature, left, right = ints
        here = np.arange(shape[1])
        if ((left < here) | (right < here) | (left >= shape[1]) | (right >= shape[1])).any():
            raise ValueError("a node of a tree whose child is not after it")
        if ((feature < 0) | (feature >= inputs)).any():
            raise ValueError(f"a tree that looks at more than its {inputs} inputs")
        if not (np.isfinite(reals).all() and np.isfinite(base)):
            raise ValueError("a tree with a number that is none")
        return Trees(inputs, base, feature, reals[0], left, right, reals[1])
