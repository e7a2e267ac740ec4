"""DIRECT: dimensionality-reduced encoded clusters with stratified sampling.

Frames are described by one vector each; vectors are standardised and reduced to their principal components, clustered
into as many clusters as frames are wanted, and the frame nearest to each centroid is selected. Some of the budget is
kept for the frames farthest from all others, which clusters overlook. Scores are not weighted by explained variance: on
DFT data that lowers the trained error.

Source: J. Qi, T. W. Ko, B. C. Wood, T. A. Pham and S. P. Ong, npj Comput. Mater. 10, 43 (2024).
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from aiida_mlip_autopipe.science.sampling.clustering import METHODS, centroids, cluster
from aiida_mlip_autopipe.science.sampling.reduction import Reduction, distinct_rows, reduce
from aiida_mlip_autopipe.science.sampling.selection import (
    coverage_score,
    covering_radius,
    farthest_points,
    nearest_to_centroids,
)

__all__ = ['DirectSampler']


class DirectSampler:
    """Select rows that represent all rows.

    Parameters
    ----------
    n_to_select : int
        Rows to select; fewer where there are fewer distinct finite ones.
    clustering : str
        ``kmeans`` or ``kmedoids``.
    min_eigenvalue : float
        Principal components with a larger eigenvalue of the correlation matrix are kept, and in any case the first.
    random_state : int
        Seed of all random numbers.
    selection : str
        ``direct``, or ``random``: the baseline, drawn from the distinct finite rows.
    fill_fraction : float
        Fraction of the budget for the rows farthest from those selected, rounded down.
    max_bytes : float
        Largest distance matrix allowed for ``kmedoids``.

    Attributes
    ----------
    selected_idx_ : numpy.ndarray
        Selected rows of X in order of their rank: clusters by descending population, then those farthest away.
    reasons_ : list of str
        ``centroid``, ``fill`` or ``random`` for each.
    distances_ : numpy.ndarray
        Distance of each from the centroid of its cluster (``random``: of all rows), in the reduced space.
    labels_ : numpy.ndarray
        Cluster of each row of X, 0 the most populous; -1 for rows that are not finite and for ``random``.
    n_components_ : int
    explained_variance_, explained_variance_ratio_ : numpy.ndarray
        Of the components kept.
    components_ : numpy.ndarray
        Axes (n_components, features).
    scores_ : numpy.ndarray
        Rows in the reduced space (n_rows, n_components); NaN for rows that are not finite.
    report_ : dict
        Plain numbers: counts, explained variance, coverage and covering radius beside those of a random selection.

    Raises
    ------
    ValueError
        If a parameter is out of bounds.
    """

    def __init__(
        self,
        n_to_select: int,
        clustering: Literal['kmeans', 'kmedoids'] = 'kmeans',
        min_eigenvalue: float = 1.0,
        random_state: int = 0,
        *,
        selection: Literal['direct', 'random'] = 'direct',
        fill_fraction: float = 0.1,
        max_bytes: float = 2e9,
    ) -> None:
        if n_to_select < 1:
            raise ValueError(f'n_to_select={n_to_select} must be at least 1')
        if clustering not in METHODS:
            raise ValueError(f'clustering={clustering!r} must be one of {METHODS}')
        if selection not in ('direct', 'random'):
            raise ValueError(f"selection={selection!r} must be 'direct' or 'random'")
        if not min_eigenvalue >= 0:
            raise ValueError(f'min_eigenvalue={min_eigenvalue} must be at least 0')
        if not 0 <= fill_fraction < 1:
            raise ValueError(f'fill_fraction={fill_fraction} must be at least 0 and below 1')
        self.n_to_select, self.clustering, self.min_eigenvalue = n_to_select, clustering, min_eigenvalue
        self.random_state, self.selection = random_state, selection
        self.fill_fraction, self.max_bytes = fill_fraction, max_bytes

    def fit(self, X: np.ndarray) -> DirectSampler:
        """Select from the rows of X.

        Parameters
        ----------
        X : numpy.ndarray
            Descriptors (n_rows, features). Rows with NaN or infinite values are left out.

        Returns
        -------
        DirectSampler
            Itself.

        Raises
        ------
        ValueError
            If X is not two-dimensional, is empty, or has no finite row; if the distances for ``kmedoids`` do not fit.
        """
        X = np.asarray(X, dtype=np.float64)
        if X.ndim != 2 or X.size == 0:
            raise ValueError(f'X has shape {X.shape}; give at least one row and one feature, (n_rows, features)')
        finite = np.flatnonzero(np.isfinite(X).all(axis=1))
        if len(finite) == 0:
            raise ValueError(f'none of the {len(X)} rows of X is finite; the frames or their descriptors are unusable')
        first, group, counts = distinct_rows(X[finite])
        reduction = reduce(X[finite[first]], counts, self.min_eigenvalue)
        labels, picks, n_fill = self._select(reduction.scores, counts, first)

        self.selected_idx_ = finite[first[picks]]
        self.reasons_ = self._reasons(len(picks), n_fill)
        self.distances_ = self._distances(reduction.scores, counts, labels)[picks]
        self.labels_ = np.full(len(X), -1, dtype=np.int64)
        self.labels_[finite] = labels[group]
        self.n_components_ = len(reduction.components)
        self.components_ = reduction.components
        self.explained_variance_ = reduction.explained_variance
        self.explained_variance_ratio_ = reduction.explained_variance_ratio
        self.scores_ = np.full((len(X), self.n_components_), np.nan)
        self.scores_[finite] = reduction.scores[group]
        self.report_ = self._report(len(X), reduction, counts, labels, picks, n_fill)
        return self

    def _select(self, scores: np.ndarray, counts: np.ndarray, order: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
        """Return the clusters of the distinct rows, the rows picked, and how many of these fill up."""
        n_select = min(self.n_to_select, len(scores))
        if self.selection == 'random':
            picks = np.random.default_rng(self.random_state).choice(len(scores), n_select, replace=False)
            return np.full(len(scores), -1), picks, 0
        n_clusters = n_select - int(self.fill_fraction * n_select)
        labels = cluster(scores, counts, n_clusters, self.clustering, self.random_state, self.max_bytes)
        picks = nearest_to_centroids(scores, labels, centroids(scores, counts, labels), order)
        more = farthest_points(scores, picks, n_select - len(picks), order)
        return labels, np.concatenate([picks, more]), len(more)

    def _reasons(self, n_picks: int, n_fill: int) -> list[str]:
        if self.selection == 'random':
            return ['random'] * n_picks
        return ['centroid'] * (n_picks - n_fill) + ['fill'] * n_fill

    def _distances(self, scores: np.ndarray, counts: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Return the distance of each distinct row from its centroid; without clusters, from that of all rows."""
        groups = np.maximum(labels, 0)
        return np.linalg.norm(scores - centroids(scores, counts, groups)[groups], axis=1)

    def _report(
        self,
        n_rows: int,
        reduction: Reduction,
        counts: np.ndarray,
        labels: np.ndarray,
        picks: np.ndarray,
        n_fill: int,
    ) -> dict[str, int | float]:
        """Return plain numbers that tell what was selected from what, and how well it covers the rest."""
        scores = reduction.scores
        populations = np.bincount(labels, weights=counts) if self.selection == 'direct' else np.zeros(0)
        # a stream of its own: the baseline of a random selection must not be that selection
        generator = np.random.default_rng((self.random_state, 1))
        random_picks = generator.choice(len(scores), len(picks), replace=False)
        return {
            'n_frames': n_rows,
            'n_finite': int(counts.sum()),
            'n_distinct': len(scores),
            'n_selected': len(picks),
            'n_fill': n_fill,
            'n_shortfall': self.n_to_select - len(picks),
            'n_components': len(reduction.components),
            'explained_variance_kept': float(reduction.explained_variance_ratio.sum()),
            'n_clusters': len(populations),
            'cluster_population_min': int(populations.min(initial=n_rows)) if len(populations) else 0,
            'cluster_population_median': float(np.median(populations)) if len(populations) else 0.0,
            'cluster_population_max': int(populations.max(initial=0)),
            'coverage': coverage_score(scores, picks),
            'coverage_random': coverage_score(scores, random_picks),
            'covering_radius': covering_radius(scores, picks),
            'covering_radius_random': covering_radius(scores, random_picks),
        }
