"""Clusters of frames in the reduced space: k-means by default; Birch and k-medoids for those who know them by name.

k-means starts from an exact farthest-point traversal (T. F. Gonzalez, Theor. Comput. Sci. 38, 293 (1985)) of a
subsample and goes on with Lloyd's iterations (IEEE Trans. Inf. Theory 28, 129 (1982)), first on the subsample, then on
all frames, until an iteration gains less than 1 %. Which frames are in the subsample depends on their content and the
seed, not on where they stand. Nothing but the scores and a few numbers per frame is held.

Birch (T. Zhang et al., SIGMOD 1996) is scikit-learn's; its threshold is derived from the data. k-medoids is FasterPAM
(E. Schubert and P. J. Rousseeuw, Inf. Syst. 101, 101804 (2021)) of the package ``kmedoids``, or the one of
scikit-learn-extra where that imports; both need the distances of all pairs. What would not fit is refused.
"""

from __future__ import annotations

import numpy as np

__all__ = ['CLUSTERINGS', 'Centres', 'by_population', 'centroids', 'cluster', 'k_centre', 'sample_size', 'subsample']

#: Frames from which the centres of k-means are seeded: so many, or so many for each cluster.
SUBSAMPLE, SUBSAMPLE_PER_CLUSTER = 30_000, 10
MAX_ITERATIONS, TOLERANCE = 10, 0.01
BIRCH_BRANCHING = 50


class Centres:
    """Points in the reduced space, packed so that the nearest of them is found quickly.

    Parameters
    ----------
    points : numpy.ndarray
        (k, n_components), float32.
    """

    def __init__(self, points: np.ndarray) -> None:
        from aiida_mlip_autopipe.science.sampling.compiled.clusters import LANES, UNROLLED

        self.points = np.ascontiguousarray(points, dtype=np.float32)
        leaves = _neighbourhoods(self.points, np.arange(len(points)), LANES)
        n_components, n_groups = points.shape[1], -(-len(leaves) // LANES)
        size = -(-n_components // UNROLLED) * UNROLLED
        self._members = np.full((len(leaves), LANES), -1, np.int32)
        self._leaves = np.zeros((len(leaves), size, LANES), np.float32)
        self._leaves[:, :n_components] = np.inf
        middles = np.zeros((n_groups * LANES, size), np.float32)
        middles[:, :n_components] = np.inf
        self._radii = np.zeros(n_groups * LANES, np.float32)
        for number, leaf in enumerate(leaves):
            some = self.points[leaf]
            self._members[number, : len(leaf)] = leaf
            self._leaves[number, :n_components, : len(leaf)] = some.T
            middles[number, :n_components] = some.mean(axis=0)
            distances = np.linalg.norm(some - middles[number, :n_components], axis=1)
            self._radii[number] = distances.max() * (1 + 1e-5)
        self._middles = np.ascontiguousarray(middles.reshape(n_groups, LANES, size).swapaxes(1, 2))

    def assign(self, points: np.ndarray, labels: np.ndarray, squared: np.ndarray, follow: bool = False) -> None:
        """Write the nearest centre of each point and the squared distance from it.

        Parameters
        ----------
        points : numpy.ndarray
            (n, n_components), float32.
        labels, squared : numpy.ndarray
            (n,), int32 and float32, overwritten; labels hold a first guess, any centre.
        follow : bool
            Guess the centre of the point before instead, as fits frames in time.
        """
        from aiida_mlip_autopipe.science.sampling.compiled.clusters import assign

        if len(points):
            leaves = self._leaves, self._members, self._middles, self._radii
            assign(points, self.points, *leaves, follow, labels, squared)

    def nearest(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the nearest centre of each point (n,) and the distance from it (n,), not squared."""
        labels, squared = np.zeros(len(points), np.int32), np.empty(len(points), np.float32)
        self.assign(points, labels, squared, follow=True)
        return labels, np.sqrt(squared, out=squared)


def _neighbourhoods(points: np.ndarray, members: np.ndarray, size: int) -> list[np.ndarray]:
    """Split points along their widest direction, again and again, into groups of at most so many."""
    if len(members) <= size:
        return [members]
    some = points[members]
    order = members[np.argsort(some[:, some.var(axis=0).argmax()], kind='stable')]
    half = -(-len(members) // size) // 2 * size
    return [*_neighbourhoods(points, order[:half], size), *_neighbourhoods(points, order[half:], size)]


def sample_size(n_clusters: int) -> int:
    """Return from how many frames the centres of so many clusters are seeded."""
    return max(SUBSAMPLE, SUBSAMPLE_PER_CLUSTER * n_clusters)


def subsample(digests: np.ndarray, size: int, random_state: int) -> np.ndarray | None:
    """Return the rows of a subsample that depends on their digests and the seed alone, None for all rows.

    Of equal rows it holds the first: frames that stand still do not crowd out the others.
    """
    if len(digests) <= size:
        return None
    drawn = digests ^ np.random.default_rng(random_state).integers(0, 2**64, dtype=np.uint64)
    drawn *= np.uint64(0x9E3779B97F4A7C15)
    lowest = np.sort(np.partition(drawn, size - 1)[:size])
    if (lowest[1:] == lowest[:-1]).any():
        _, first = np.unique(drawn, return_index=True)
        return np.sort(first[:size])
    return np.flatnonzero(drawn <= lowest[-1])[:size]


def k_centre(
    points: np.ndarray, n_more: int, given: np.ndarray, guess: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Take the point that is farthest from everything given or taken, again and again.

    Parameters
    ----------
    points : numpy.ndarray
        (n, n_components), float32.
    n_more : int
        How many to take.
    given : numpy.ndarray
        Points taken already (n_given, n_components); without any, the point nearest to the mean comes first.
    guess : numpy.ndarray, optional
        Which given point may be the nearest of each (n,), int32.

    Returns
    -------
    picks : numpy.ndarray
        Points in the order in which they were taken; fewer where no point is left apart from those taken.
    labels : numpy.ndarray
        Which of those given and taken is the nearest of each point (n,), int32.
    squared : numpy.ndarray
        The squared distance from it (n,), float32.
    """
    from aiida_mlip_autopipe.science.sampling.compiled.clusters import farthest_first

    first = np.empty(0, np.int64)
    if n_more == 0 or len(points) == 0:
        return first, np.zeros(len(points), np.int32), np.full(len(points), np.inf, np.float32)
    if len(given) == 0:
        first = np.array([np.linalg.norm(points - points.mean(axis=0, dtype=np.float64), axis=1).argmin()])
        given = points[first]
    labels = np.zeros(len(points), np.int32) if guess is None else guess.astype(np.int32)
    squared = np.empty(len(points), np.float32)
    Centres(given).assign(points, labels, squared, follow=guess is None)
    n_more = max(n_more - len(first), 0)
    centres = np.concatenate([given, np.zeros((n_more, points.shape[1]))]).astype(np.float32)
    picks = np.empty(n_more, np.int64)
    n_taken = farthest_first(points, centres, len(given), labels, squared, picks)
    return np.concatenate([first, picks[:n_taken]]), labels, squared


def cluster(
    points: np.ndarray,
    n_clusters: int,
    method: str,
    some: np.ndarray | None,
    fixed: np.ndarray,
    random_state: int,
    max_bytes: float,
) -> np.ndarray:
    """Return the cluster of each point.

    Parameters
    ----------
    points : numpy.ndarray
        (n, n_components), float32.
    n_clusters : int
        Wanted number, at most n. Fewer come out where there are fewer distinct points.
    method : str
        One of `CLUSTERINGS`.
    some : numpy.ndarray, optional
        The points from which the centres of k-means are seeded; all unless given.
    fixed : numpy.ndarray
        Points that are represented already (n_fixed, n_components): k-means keeps clusters away from them, and what
        is nearest to one of them is in no cluster.
    random_state : int
        Seed of the order in which ``birch`` and ``kmedoids`` get the points, and of ``kmedoids``.
    max_bytes : float
        Largest memory that ``birch`` and ``kmedoids`` may take.

    Returns
    -------
    numpy.ndarray
        Labels (n,), int32, numbered from 0 by descending population without gaps; -1 for points in no cluster.

    Raises
    ------
    ValueError
        If ``birch`` or ``kmedoids`` would not fit into the memory.
    """
    if method == 'kmeans':
        return by_population(_kmeans(points, n_clusters, some, fixed))
    # Both depend on the order of the points: they get one that depends on where these are and the seed alone.
    order = np.lexsort(points.T)[np.random.default_rng(random_state).permutation(len(points))]
    labels = np.empty(len(points), np.int32)
    if method == 'birch':
        labels[order] = _birch(points[order], n_clusters, max_bytes)
    else:
        labels[order] = _kmedoids(points[order], n_clusters, method, random_state, max_bytes)
    return by_population(labels)


def _kmeans(points: np.ndarray, n_clusters: int, some: np.ndarray | None, fixed: np.ndarray) -> np.ndarray:
    seeds = points if some is None else points[some]
    picks, labels, squared = k_centre(seeds, n_clusters, fixed)
    centres = np.concatenate([fixed, seeds[picks]]).astype(np.float32)
    centres, error = _lloyd(seeds, centres, len(fixed), labels, squared, np.inf)
    if some is not None:
        labels, squared = np.zeros(len(points), np.int32), np.empty(len(points), np.float32)
        _lloyd(points, centres, len(fixed), labels, squared, error, follow=True)
    return np.maximum(labels - len(fixed), -1)


def _lloyd(
    points: np.ndarray,
    centres: np.ndarray,
    n_fixed: int,
    labels: np.ndarray,
    squared: np.ndarray,
    error: float,
    follow: bool = False,
) -> tuple[np.ndarray, float]:
    """Move all centres but the fixed ones to the means of their members until that gains little.

    ``labels`` and ``squared`` are overwritten. Returns the centres and the mean squared distance from them.
    """
    for iteration in range(MAX_ITERATIONS):
        Centres(centres).assign(points, labels, squared, follow and iteration == 0)
        before, error = error, float(squared.mean(dtype=np.float64))
        if error >= (1 - TOLERANCE) * before:
            break
        means, counts = centroids(points, labels, len(centres))
        moved = counts > 0
        moved[:n_fixed] = False
        centres[moved] = means[moved]
    return centres, error


def _birch(points: np.ndarray, n_clusters: int, max_bytes: float) -> np.ndarray:
    """Birch, with the threshold lowered until there are enough subclusters."""
    from sklearn.cluster import AgglomerativeClustering, Birch

    def refuse(needed: float, why: str) -> None:
        if needed > max_bytes:
            raise ValueError(
                f"clustering='birch' needs {needed / 1e6:.1f} MB {why}, above the {max_bytes / 1e6:.1f} MB allowed; "
                "choose 'kmeans', which needs a few numbers for each frame, or raise max_bytes"
            )

    if n_clusters == 1:
        return np.zeros(len(points), np.int32)
    refuse(3 * 8 * points.size, f'for a tree over {len(points)} frames')
    distinct = _distinct(points)
    if n_clusters > distinct.max():
        return distinct
    threshold = 0.5 * float(np.sqrt(k_centre(points, n_clusters, points[:0])[2].max()))
    resolved = 1e-7 * float(np.abs(points).max())
    while True:
        model = Birch(n_clusters=None, threshold=threshold, branching_factor=BIRCH_BRANCHING).fit(points.astype(float))
        n_found = len(model.subcluster_centers_)
        refuse(8 * n_found**2, f'to join {n_found} subclusters of {len(points)} frames into {n_clusters}')
        if n_found >= n_clusters or threshold < resolved:
            break
        threshold *= max(0.5, min(0.9, n_found / n_clusters))
    if n_found == 1:
        return np.zeros(len(points), np.int32)
    joined = AgglomerativeClustering(min(n_clusters, n_found)).fit_predict(model.subcluster_centers_)
    return joined[model.labels_].astype(np.int32)


def _kmedoids(points: np.ndarray, n_clusters: int, package: str, random_state: int, max_bytes: float) -> np.ndarray:
    needed = 8 * len(points) ** 2
    if needed > max_bytes:
        raise ValueError(
            f'clustering={package!r} needs the distances of all pairs: {needed / 1e6:.1f} MB for {len(points)} frames, '
            f"above the {max_bytes / 1e6:.1f} MB allowed; choose 'kmeans', write fewer frames or raise max_bytes"
        )
    distinct = _distinct(points)
    if n_clusters > distinct.max():
        return distinct
    if package == 'sklearn_extra':
        return _sklearn_extra_kmedoids(points, n_clusters, random_state)
    import kmedoids
    from scipy.spatial.distance import cdist

    result = kmedoids.fasterpam(cdist(points, points), n_clusters, random_state=random_state, n_cpu=1)
    return result.labels.astype(np.int32)


def _distinct(points: np.ndarray) -> np.ndarray:
    """Return a cluster for each distinct point."""
    return np.unique(points, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int32)


def _sklearn_extra_kmedoids(points: np.ndarray, n_clusters: int, random_state: int) -> np.ndarray:
    try:
        from sklearn_extra.cluster import KMedoids
    except Exception as error:  # a wheel built for another NumPy raises more than ImportError
        raise ValueError(
            f"clustering='sklearn_extra': scikit-learn-extra does not import here ({error}); choose 'kmedoids', which "
            'finds clusters of the same kind with a maintained package'
        ) from error
    # The greedy start of PAM: from its default start it misses clusters that lie apart, at up to 2.7 times the loss.
    return KMedoids(n_clusters, init='build', random_state=random_state).fit_predict(points).astype(np.int32)


#: How frames may be clustered.
CLUSTERINGS = ('kmeans', 'birch', 'kmedoids', 'sklearn_extra')


def centroids(points: np.ndarray, labels: np.ndarray, n_clusters: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of each cluster's members (n_clusters, n_components), float64, and their number (n_clusters,).

    Points with the label -1 are in no cluster; the mean of an empty cluster is zero.
    """
    from aiida_mlip_autopipe.science.sampling.compiled.clusters import sum_members

    sums, counts = np.zeros((n_clusters, points.shape[1])), np.zeros(n_clusters, np.int64)
    sum_members(points, labels, sums, counts)
    return sums / np.maximum(counts, 1)[:, None], counts


def by_population(labels: np.ndarray) -> np.ndarray:
    """Return labels renumbered by descending population, without gaps; -1 stays. Of equals, the old order holds."""
    populations = np.bincount(labels[labels >= 0])
    order = np.argsort(-populations, kind='stable')
    rank = np.empty(len(populations) + 1, np.int32)
    rank[order] = np.arange(len(populations))
    rank[-1] = -1
    return rank[labels]
