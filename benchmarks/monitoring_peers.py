"""The monitors that Skadi's is measured against, from scikit-learn and numpy.

Each is a function (train (n, f), test (m, f)) -> (train scores, test scores), higher is worse, in
its usual form with its usual settings; none is tuned to the benchmark. What is done with the
scores (a threshold on each row, or Skadi's own MMS) is the benchmark's business.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.preprocessing import StandardScaler

Floats = NDArray[np.float64]
Scores = tuple[Floats, Floats]
Peer = Callable[[Floats, Floats], Scores]


def _standard(train: Floats, test: Floats) -> Scores:
    scaler = StandardScaler().fit(train)
    return scaler.transform(train), scaler.transform(test)


def plain_kmeans(train: Floats, test: Floats) -> Scores:
    """The plain recipe: 8 centres, no scaling, distance to the nearest."""
    means = KMeans(8, n_init=3, random_state=0).fit(train)
    return means.transform(train).min(axis=1), means.transform(test).min(axis=1)


def scaled_kmeans(train: Floats, test: Floats) -> Scores:
    """The same on standard scores."""
    return plain_kmeans(*_standard(train, test))


def _pca_parts(train: Floats, test: Floats) -> tuple[Scores, Scores]:
    """Hotelling's T² in the components that hold 90 % of the variance, and Q, what they miss."""
    a, b = _standard(train, test)
    pca = PCA(0.9, svd_solver="full").fit(a)

    def parts(x: Floats) -> tuple[Floats, Floats]:
        inner = pca.transform(x)
        rest = x - pca.inverse_transform(inner)
        return (inner**2 / pca.explained_variance_).sum(axis=1), (rest**2).sum(axis=1)

    (t_a, q_a), (t_b, q_b) = parts(a), parts(b)
    return (t_a, t_b), (q_a, q_b)


def t2_q(train: Floats, test: Floats) -> Scores:
    """T² and Q together: the larger, each over its own 98th percentile on the training rows."""
    (t_a, t_b), (q_a, q_b) = _pca_parts(train, test)
    t, q = np.percentile(t_a, 98), np.percentile(q_a, 98)
    return np.maximum(t_a / t, q_a / q), np.maximum(t_b / t, q_b / q)


def pca_residual(train: Floats, test: Floats) -> Scores:
    """PCA's reconstruction error alone."""
    return _pca_parts(train, test)[1]


def lof(train: Floats, test: Floats) -> Scores:
    """Local outlier factor with 20 neighbours, as a novelty detector."""
    a, b = _standard(train, test)
    model = LocalOutlierFactor(n_neighbors=20, novelty=True).fit(a)
    return -model.negative_outlier_factor_, -model.score_samples(b)


def knn(train: Floats, test: Floats) -> Scores:
    """Mean distance to the 5 nearest training rows."""
    a, b = _standard(train, test)
    near = NearestNeighbors(n_neighbors=5).fit(a)
    own, _ = NearestNeighbors(n_neighbors=6).fit(a).kneighbors(a)
    other, _ = near.kneighbors(b)
    return own[:, 1:].mean(axis=1), other.mean(axis=1)


def isolation_forest(train: Floats, test: Floats) -> Scores:
    """100 trees."""
    model = IsolationForest(random_state=0).fit(train)
    return -model.score_samples(train), -model.score_samples(test)


PEERS: dict[str, Peer] = {
    "k-means, plain": plain_kmeans,
    "k-means, scaled": scaled_kmeans,
    "T2 + Q": t2_q,
    "PCA residual": pca_residual,
    "LOF": lof,
    "kNN": knn,
    "Isolation Forest": isolation_forest,
}
