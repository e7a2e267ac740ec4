"""Which frames to take, and how well they cover the rest.

One frame for each cluster, the member nearest to the centroid; then the frames that are farthest from everything taken
so far (continuing k-centre: T. F. Gonzalez, Theor. Comput. Sci. 38, 293 (1985)). Ties go to the frame that came first.

Two figures judge a selection: the coverage score of DIRECT (histogram bins of each component that it occupies, over
those that all frames occupy) and the covering radius (distance of the frame that is worst represented). Neither
predicts the error of a trained potential: they are to be read beside those of a random selection.
"""

from __future__ import annotations

import numpy as np

__all__ = ['coverage_score', 'covering_radius', 'farthest_points', 'nearest_to_centroids']

#: Distances that differ by less than this fraction are ties.
TIE = 1e-9


def nearest_to_centroids(scores: np.ndarray, labels: np.ndarray, centres: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return the member nearest to each centroid.

    Parameters
    ----------
    scores : numpy.ndarray
        (n, n_components).
    labels : numpy.ndarray
        Cluster of each row (n,); no cluster is empty.
    centres : numpy.ndarray
        Centroids (n_clusters, n_components).
    order : numpy.ndarray
        Which row comes first (n,): the lower of two wins a tie.

    Returns
    -------
    numpy.ndarray
        Rows (n_clusters,).
    """
    distances = np.linalg.norm(scores - centres[labels], axis=1)
    members = np.split(np.argsort(labels, kind='stable'), np.cumsum(np.bincount(labels))[:-1])
    return np.array([_first_among(rows, -distances[rows], order) for rows in members], dtype=np.int64)


def farthest_points(scores: np.ndarray, taken: np.ndarray, n_more: int, order: np.ndarray) -> np.ndarray:
    """Return rows (n_more,), each the farthest from all that were taken before it.

    Parameters
    ----------
    scores : numpy.ndarray
        (n, n_components).
    taken : numpy.ndarray
        Rows taken already, at least one.
    n_more : int
        At most n - len(taken).
    order : numpy.ndarray
        Which row comes first (n,).
    """
    from scipy.spatial import KDTree

    free = np.ones(len(scores), dtype=bool)
    free[taken] = False
    distances = KDTree(scores[taken]).query(scores)[0] if n_more else np.empty(0)
    more = []
    for _ in range(n_more):
        rows = np.flatnonzero(free)
        pick = _first_among(rows, distances[rows], order)
        more.append(pick)
        free[pick] = False
        distances = np.minimum(distances, np.linalg.norm(scores - scores[pick], axis=1))
    return np.array(more, dtype=np.int64)


def coverage_score(scores: np.ndarray, selected: np.ndarray, n_bins: int = 100) -> float:
    """Return the occupied bins of the selection over those of all rows, averaged over the components.

    Parameters
    ----------
    scores : numpy.ndarray
        (n, n_components).
    selected : numpy.ndarray
        Selected rows.
    n_bins : int
        Bins per component, between its smallest and largest score.
    """
    low, high = scores.min(axis=0), scores.max(axis=0)
    width = np.where(high > low, (high - low) / n_bins, 1.0)
    bins = np.minimum(((scores - low) / width).astype(np.int64), n_bins - 1)
    return float(np.mean([len(np.unique(column[selected])) / len(np.unique(column)) for column in bins.T]))


def covering_radius(scores: np.ndarray, selected: np.ndarray) -> float:
    """Return the largest distance of a row from the nearest selected one."""
    from scipy.spatial import KDTree

    return float(KDTree(scores[selected]).query(scores)[0].max())


def _first_among(rows: np.ndarray, merits: np.ndarray, order: np.ndarray) -> int:
    """Return the row of the largest merit; the first in order among ties."""
    best = merits.max()
    tied = rows[merits >= best - TIE * abs(best)]
    return int(tied[np.argmin(order[tied])])
