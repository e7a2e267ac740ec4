"""Clusters of frames in the reduced space: k-means by default, k-medoids as an option.

k-means is scikit-learn's (k-means++ start, Lloyd's iterations, double precision). k-medoids is FasterPAM (E. Schubert
and P. J. Rousseeuw, Inf. Syst. 101, 101804 (2021)) of the maintained ``kmedoids`` package; it needs all pairs of
distances and is refused where these would not fit. In both, a cluster's centroid is the true mean of its members,
computed here, and clusters are numbered by population, the largest first. Rows are sorted by score before they are
clustered: where they stood does not matter, and neither does rounding.
"""

from __future__ import annotations

import warnings

import numpy as np

__all__ = ['METHODS', 'centroids', 'cluster']

METHODS = ('kmeans', 'kmedoids')


def cluster(
    scores: np.ndarray, counts: np.ndarray, n_clusters: int, method: str, random_state: int, max_bytes: float
) -> np.ndarray:
    """Return the cluster of each row.

    Parameters
    ----------
    scores : numpy.ndarray
        Distinct rows in the reduced space (n, n_components).
    counts : numpy.ndarray
        How often each row occurs (n,): its weight in k-means.
    n_clusters : int
        Wanted number, at most n. Fewer come out where the scores hold fewer distinct points.
    method : str
        ``kmeans`` or ``kmedoids``.
    random_state : int
        Seed.
    max_bytes : float
        Largest distance matrix allowed for ``kmedoids``.

    Returns
    -------
    numpy.ndarray
        Labels (n,), numbered from 0 by descending population without gaps.

    Raises
    ------
    ValueError
        If the distances for ``kmedoids`` do not fit into ``max_bytes``.
    """
    order = np.lexsort(scores.T[::-1])
    if n_clusters == 1:
        found = np.zeros(len(scores), dtype=np.int64)
    elif method == 'kmeans':
        found = _kmeans(scores[order], counts[order], n_clusters, random_state)
    else:
        found = _kmedoids(scores[order], n_clusters, random_state, max_bytes)
    labels = np.empty(len(scores), dtype=np.int64)
    labels[order] = _by_population(found, counts[order])
    return labels


def centroids(scores: np.ndarray, counts: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the mean of each cluster's members, weighted by their counts, (n_clusters, n_components)."""
    weights = np.bincount(labels, weights=counts)
    return np.stack([np.bincount(labels, weights=counts * column) / weights for column in scores.T], axis=1)


def _kmeans(scores: np.ndarray, counts: np.ndarray, n_clusters: int, random_state: int) -> np.ndarray:
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        # fewer distinct points than clusters: the selection fills up what is missing
        warnings.simplefilter('ignore', ConvergenceWarning)
        model = KMeans(n_clusters, init='k-means++', n_init=1, random_state=random_state)
        return model.fit(scores, sample_weight=counts).labels_


def _kmedoids(scores: np.ndarray, n_clusters: int, random_state: int, max_bytes: float) -> np.ndarray:
    import kmedoids
    from scipy.spatial.distance import cdist

    needed = 8 * len(scores) ** 2
    if needed > max_bytes:
        raise ValueError(
            f"clustering='kmedoids' needs the distances of all pairs: {needed / 1e6:.1f} MB for {len(scores)} distinct "
            f"frames, above the {max_bytes / 1e6:.1f} MB allowed; choose 'kmeans' or write fewer frames"
        )
    result = kmedoids.fasterpam(cdist(scores, scores), n_clusters, random_state=random_state, n_cpu=1)
    return result.labels.astype(np.int64)


def _by_population(labels: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return labels renumbered by descending population; among equals, the cluster that appears first leads."""
    names, first, compact = np.unique(labels, return_index=True, return_inverse=True)
    order = np.lexsort((first, -np.bincount(compact, weights=counts)))
    rank = np.empty(len(names), dtype=np.int64)
    rank[order] = np.arange(len(names))
    return rank[compact]
