"""Which frames to take: from each cluster its share, from empty bins, and what is farthest from everything taken.

The first pick of a cluster is the member nearest to its true centroid; further ones are those farthest from the picks
of that cluster. The fill is a farthest-point traversal (T. F. Gonzalez, Theor. Comput. Sci. 38, 293 (1985)) of the
frames that their clusters represent worst: it finds what these overlook. Ties go to the frame that came first.
"""

from __future__ import annotations

import numpy as np

from aiida_mlip_autopipe.science.sampling.clustering import centroids, k_centre

__all__ = ['N_BINS', 'bins_of', 'fill', 'fill_bins', 'quotas', 'representatives', 'unlike']

#: Bins of each component, between its smallest and largest score, in which coverage is counted.
N_BINS = 100

#: The fill looks at no fewer frames, where there are as many.
FILL_POOL = 50_000


def quotas(populations: np.ndarray, budget: int, share: str, min_size: int = 1) -> np.ndarray:
    """Return how many frames to take from each cluster or group.

    Parameters
    ----------
    populations : numpy.ndarray
        Members of each (n,).
    budget : int
        Frames in all; fewer are given out where there are not as many members.
    share : str
        ``equal``: as many from each; ``proportional``: to the number of members. What is left over goes to the largest
        remainders, and of these to the largest clusters.
    min_size : int
        Smaller clusters get nothing.

    Returns
    -------
    numpy.ndarray
        (n,), int64; never more than there are members.
    """
    room = np.where(populations >= min_size, populations, 0).astype(np.int64)
    given = np.zeros(len(room), np.int64)
    budget = min(budget, int(room.sum()))
    while budget > given.sum():
        left = room - given
        weights = (left > 0) * (populations if share == 'proportional' else 1.0)
        wanted = weights / weights.sum() * (budget - given.sum())
        whole = np.minimum(np.floor(wanted).astype(np.int64), left)
        spare = budget - given.sum() - whole.sum()
        order = np.lexsort((-populations, whole - wanted))
        order = order[(left - whole)[order] > 0]
        if (wanted <= left).all():
            whole[order[:spare]] += 1
        given += whole
    return given


def representatives(points: np.ndarray, labels: np.ndarray, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Take from each cluster the member nearest to its centroid, then those farthest from what was taken there.

    Parameters
    ----------
    points : numpy.ndarray
        (n, n_components), float32.
    labels : numpy.ndarray
        Cluster of each (n,), int32; -1 for none.
    shares : numpy.ndarray
        How many to take of each cluster (n_clusters,).

    Returns
    -------
    picks : numpy.ndarray
        Points: the first of each cluster, then the second ones of the clusters that give more, and so on.
    order : numpy.ndarray
        Which pick of its cluster each is, from 0.
    """
    from aiida_mlip_autopipe.science.sampling.compiled.clusters import nearest_members

    n_clusters = len(shares)
    means, _ = centroids(points, labels, n_clusters)
    nearest, squared = np.empty(n_clusters, np.int64), np.empty(n_clusters)
    nearest_members(points, labels, means, nearest, squared)
    picks, order = [nearest[shares > 0]], [np.zeros(np.count_nonzero(shares), np.int64)]
    for number in np.flatnonzero(shares > 1):
        members = np.flatnonzero(labels == number)
        more, _, _ = k_centre(points[members], shares[number] - 1, points[nearest[[number]]])
        picks.append(members[more])
        order.append(np.arange(1, len(more) + 1))
    ordinals = np.concatenate(order)
    by_ordinal = np.argsort(ordinals, kind='stable')
    return np.concatenate(picks)[by_ordinal], ordinals[by_ordinal]


def fill(points: np.ndarray, n_more: int, given: np.ndarray, bounds: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Take the points that are farthest from everything given, one after the other.

    Only the tenth of the points (and at least 50 000) that their clusters represent worst are looked at: no other one
    can be farther from what is given than its bound.

    Parameters
    ----------
    points : numpy.ndarray
        (n, n_components), float32.
    n_more : int
        How many to take.
    given : numpy.ndarray
        Points of the reduced space that are represented already (n_given, n_components).
    bounds : numpy.ndarray
        The squared distance of each point from one of them, or more (n,). Negative for points that must not be taken.
    weights : numpy.ndarray
        Factor of each component (n_components,) in these distances.

    Returns
    -------
    numpy.ndarray
        Points; fewer than wanted where the others stand where something was taken.
    """
    if n_more == 0:
        return np.empty(0, np.int64)
    n_worst = min(max(FILL_POOL, len(points) // 10), len(points))
    least = max(np.partition(bounds, len(bounds) - n_worst)[len(bounds) - n_worst], 0.0)
    worst = np.flatnonzero(bounds >= least)
    return worst[k_centre(points[worst] * weights, n_more, given * weights)[0]]


def bins_of(points: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return the bin of each score (n, n_components), uint8, column by column in memory.

    There are `N_BINS` between the lowest and the highest score of each component (n_components,).
    """
    bins = np.empty(points.shape, np.uint8, order='F')
    for column, scores in enumerate(points.T):
        width = (high[column] - low[column]) / N_BINS if high[column] > low[column] else 1.0
        np.minimum((scores - low[column]) / width, N_BINS - 1, out=bins[:, column], casting='unsafe')
    return bins


def fill_bins(points: np.ndarray, n_more: int, taken: np.ndarray, is_open: np.ndarray) -> np.ndarray:
    """Take points from bins of the components where nothing was taken, first those that open most bins at once.

    Parameters
    ----------
    points : numpy.ndarray
        (n, n_components), float32; the component that explains most comes first.
    n_more : int
        At most so many.
    taken : numpy.ndarray
        Points taken already.
    is_open : numpy.ndarray
        Which points may be taken (n,), bool.

    Returns
    -------
    numpy.ndarray
        Points; fewer than wanted where no bin is empty any more.
    """
    bins = bins_of(points, points.min(axis=0), points.max(axis=0))
    empty = np.zeros((points.shape[1], N_BINS), np.bool_)
    for column in range(points.shape[1]):
        empty[column, bins[is_open, column]] = True
        empty[column, bins[taken, column]] = False
    picks: list[int] = []
    for column, number in np.argwhere(empty):
        if len(picks) == n_more:
            break
        if not empty[column, number]:
            continue
        inside = np.flatnonzero((bins[:, column] == number) & is_open)
        opened = sum(empty[other, bins[inside, other]].astype(np.int64) for other in range(points.shape[1]))
        picks.append(int(inside[np.argmax(opened)]))
        empty[np.arange(points.shape[1]), bins[picks[-1]]] = False
    return np.array(picks, np.int64)


def unlike(digests: np.ndarray, n_more: int, taken: np.ndarray) -> np.ndarray:
    """Return the first rows (at most n_more) whose digest is not among those taken (n_taken,), nor twice among them."""
    _, first = np.unique(digests, return_index=True)
    return np.sort(first[~np.isin(digests[first], taken)])[:n_more]
