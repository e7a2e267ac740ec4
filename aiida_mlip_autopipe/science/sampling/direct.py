"""DIRECT: dimensionality-reduced encoded clusters with stratified sampling.

Frames are described by one vector each; vectors are standardised and reduced to their principal components, clustered
into as many clusters as frames are wanted, and the frame nearest to each true centroid is selected. Some of the
budget is kept for the frames farthest from all others, which clusters overlook. Components are weighted by explained
variance only if asked for: frames that are chosen with weights train worse forces.

Source: J. Qi, T. W. Ko, B. C. Wood, T. A. Pham and S. P. Ong, npj Comput. Mater. 10, 43 (2024).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any, Literal

import numpy as np

from aiida_mlip_autopipe.science.estimator import Parametrised
from aiida_mlip_autopipe.science.registry import SELECTION_RULES
from aiida_mlip_autopipe.science.sampling.clustering import (
    CLUSTERINGS,
    Centres,
    k_centre,
    sample_size,
    subsample,
)
from aiida_mlip_autopipe.science.sampling.coverage import coverage_of, five_numbers
from aiida_mlip_autopipe.science.sampling.environments import Environments, EnvironmentSource
from aiida_mlip_autopipe.science.sampling.outliers import Outliers, set_apart, warning_of
from aiida_mlip_autopipe.science.sampling.pool import Picks, Pool, count_distinct, draw, members_of
from aiida_mlip_autopipe.science.sampling.reduction import (
    WEIGHTINGS,
    Moments,
    Reduction,
    known_scores,
    measure,
    project,
    reduce,
)
from aiida_mlip_autopipe.science.sampling.rows import RowSource, blocks
from aiida_mlip_autopipe.science.sampling.selection import quotas, unlike

__all__ = ['DirectSampler']

SHARES = ('equal', 'proportional')
CHOICES = {
    'weighting': tuple(WEIGHTINGS),
    'clustering': CLUSTERINGS,
    'cluster_share': SHARES,
    'group_share': SHARES,
}
COUNTS = ('n_to_select', 'n_clusters', 'n_per_cluster', 'min_cluster_size', 'max_components')
FRACTIONS = ('fill', 'coverage_fill', 'environment_fill')


class DirectSampler(Parametrised):
    """Select frames that represent all frames.

    Parameters
    ----------
    n_to_select : int
        Frames to select; fewer where there are fewer distinct ones to choose from.
    weighting : str
        Each component is multiplied by its explained-variance ratio to the power of 0 (``none``), 1/2 (``half``) or
        1 (``maml``, as the published code does).
    clustering : str
        ``kmeans``: any number of frames. ``birch``: some 1e5. ``kmedoids``, or ``sklearn_extra`` for that package's:
        some 1e4, as all pairs of distances are needed.
    n_clusters : int, optional
        As many as frames are to come from clusters, unless given.
    fill : float
        Fraction of the budget for the frames farthest from everything selected, rounded down.
    coverage_fill : float
        Fraction for bins of the components in which nothing was selected.
    random_state : int
        Seed of all random numbers: of the subsample, of ``kmedoids`` and of random selections.
    n_per_cluster : int
        Frames from each cluster, where ``n_clusters`` is not given.
    cluster_share, group_share : str
        What each cluster, or each group, gives: as many as the others (``equal``) or in proportion to its frames.
    min_cluster_size : int
        Clusters with fewer frames give nothing, and the fill leaves them alone.
    min_novelty : float
        Frames that are not farther than this from a known one, in the reduced space, are not selected.
    environment_fill : float
        Fraction for frames with unusual atoms, see :mod:`aiida_mlip_autopipe.science.sampling.environments`.
    min_eigenvalue : float
        Principal components with a larger eigenvalue of the correlation matrix are kept, and in any case the first.
    max_components : int, optional
        At most so many components.
    selection : str
        The name of a rule: ``direct``, ``i-optimal`` or ``set-cover``; or a baseline: ``random``, ``farthest``.
    random_fraction : float
        Fraction of the budget (of each group) that is drawn at random before the rule selects the rest, rounded down.
    max_bytes : float
        Largest memory that ``birch`` and ``kmedoids`` may take.

    Attributes
    ----------
    selected_idx_ : numpy.ndarray
        Selected rows of X in order of their rank: those drawn at random; then one of each cluster by descending
        population, further ones, and those of the fills.
    reasons_ : list of str
        ``centroid``, ``stratum`` (a further one of its cluster), ``environment``, ``coverage``, ``fill``, ``random`` or
        ``farthest`` for each.
    distances_ : numpy.ndarray
        Distance of each from the centroid of its cluster, of all frames where it is in none.
    labels_ : numpy.ndarray
        Cluster of each row of X, int32, 0 the most populous (of its group); -1 for rows in none: not finite,
        excluded, too near to a known frame or nearest to one, or not clustered at all.
    n_components_ : int
    components_ : numpy.ndarray
        Axes (n_components, n_features).
    explained_variance_, explained_variance_ratio_ : numpy.ndarray
        Eigenvalues of the correlation matrix, of all components (n_features,).
    novelty_ : numpy.ndarray or None
        Distance of each row of X from the nearest known one; NaN for unusable rows; None where nothing is known.
    scores_ : numpy.ndarray
        Rows in the space in which distances are measured (n_rows, n_components), float32; NaN for unusable rows.
    represents_ : numpy.ndarray
        How many usable rows are nearer to each selected one than to the others (n_selected,): a weight for training.
    report_ : dict
        Plain numbers: counts, explained variance, and the coverage, what is known included, beside that of a random
        and of a farthest-point selection. Computed when it is first asked for.

    Raises
    ------
    ValueError
        If a parameter is out of bounds.
    """

    def __init__(
        self,
        n_to_select: int,
        weighting: Literal['none', 'half', 'maml'] = 'none',
        clustering: Literal['kmeans', 'birch', 'kmedoids', 'sklearn_extra'] = 'kmeans',
        n_clusters: int | None = None,
        fill: float = 0.1,
        coverage_fill: float = 0.0,
        random_state: int = 0,
        *,
        n_per_cluster: int = 1,
        cluster_share: Literal['equal', 'proportional'] = 'equal',
        group_share: Literal['equal', 'proportional'] = 'equal',
        min_cluster_size: int = 1,
        min_novelty: float = 1e-3,
        environment_fill: float = 0.0,
        min_eigenvalue: float = 1.0,
        max_components: int | None = None,
        selection: str = 'direct',
        random_fraction: float = 0.0,
        max_bytes: float = 2e9,
    ) -> None:
        self.n_to_select, self.weighting, self.clustering = n_to_select, weighting, clustering
        self.n_clusters, self.fill, self.coverage_fill = n_clusters, fill, coverage_fill
        self.random_state, self.n_per_cluster, self.cluster_share = random_state, n_per_cluster, cluster_share
        self.group_share, self.min_cluster_size, self.min_novelty = group_share, min_cluster_size, min_novelty
        self.environment_fill, self.min_eigenvalue = environment_fill, min_eigenvalue
        self.max_components, self.selection, self.max_bytes = max_components, selection, max_bytes
        self.random_fraction = random_fraction
        _check_parameters(self)

    def fit(
        self,
        X: RowSource,
        known: RowSource | None = None,
        groups: Sequence[object] | np.ndarray | None = None,
        exclude: Mapping[str, np.ndarray] | None = None,
        environments: EnvironmentSource | None = None,
        certain: np.ndarray | None = None,
        known_environments: EnvironmentSource | None = None,
    ) -> DirectSampler:
        """Select from the rows of X.

        Parameters
        ----------
        X : numpy.ndarray or callable
            Descriptors (n_rows, n_features): an array, a memory map, or a callable that yields the same chunks of rows
            at each call. It is read twice, block by block. Rows with NaN or infinite values are left out.
        known : numpy.ndarray or callable, optional
            Descriptors of frames that are labelled already (n_known, n_features): the selection keeps away from them.
        groups : sequence, optional
            The group of each row (n_rows,), for example its trajectory: each group gives its share.
        exclude : mapping, optional
            Reason -> which rows must not be selected for it (n_rows,), bool. They count in no statistics.
        environments : callable, optional
            For ``environment_fill`` and some rules: yields all atoms in order, as (n_frames, n_atoms, n_features).
        certain : numpy.ndarray, optional
            Rows that are not worth a label (n_rows,), bool: they count in the statistics, but are not selected.
        known_environments : callable, optional
            The same of the atoms of labelled frames, whose environments are known.

        Returns
        -------
        DirectSampler
            Itself; as it was before, if interrupted.

        Raises
        ------
        ValueError
            If X has no usable row, or other rows at the second reading; if ``known`` has other features, ``groups`` or
            ``exclude`` another length; if the clustering would not fit into the memory.
        """
        self._check_environments(environments, groups)
        all_moments = measure(X, _excluded(exclude))
        moments, outliers = set_apart(X, all_moments)
        reduction = reduce(moments, self.min_eigenvalue, self.max_components, self.weighting)
        points = project(X, reduction, moments)
        usable, fixed = np.flatnonzero(moments.usable), known_scores(known, reduction)
        digests = moments.digests if len(usable) == len(moments.usable) else moments.digests[usable]
        novelty, far = _far_from(fixed, points, self.min_novelty)
        new = far & _uncertain(certain, moments.usable)
        rows, some = usable[new], slice(None) if new.all() else new
        n_rows = len(moments.usable)
        atoms = environments and Environments(environments, rows, n_rows, self.min_eigenvalue, known_environments)
        pool = Pool(points[some], digests[some], fixed, reduction.relative_weights, self.random_state, atoms)
        picks = self._select_by_group(pool, members_of(groups, moments.usable, rows, pool.digests))
        self._remember_picks(pool, picks, rows, n_rows)
        self._remember(reduction, points, usable, digests, pool)
        self._novelty, self._counts = novelty, _counts(moments, exclude) | {'n_known': len(fixed)} | _left_out(far, new)
        self._tell_outliers(outliers, all_moments, reduction)
        return self

    def _check_environments(self, environments: EnvironmentSource | None, groups: object) -> None:
        given = environments is not None and groups is None
        if self.environment_fill and not given:
            raise ValueError(
                f'environment_fill={self.environment_fill} needs the environments, and no groups; give them, or 0'
            )
        if SELECTION_RULES[self.selection].needs_environments and not given:
            raise ValueError(
                f'selection={self.selection!r} needs the environments, and no groups; give them, or another rule'
            )

    def _tell_outliers(self, outliers: Outliers, all_moments: Moments, reduction: Reduction) -> None:
        """Count outliers, and warn where they would have halved the number of components."""
        self._counts['n_outliers'] = len(outliers.rows)
        if not len(outliers.rows):
            return
        classical = reduce(all_moments, self.min_eigenvalue, self.max_components)
        self._counts['n_components_with_outliers'] = len(classical.components)
        if told := warning_of(outliers, classical, reduction):
            warnings.warn(told, stacklevel=3)

    def _remember_picks(self, pool: Pool, picks: Picks, rows: np.ndarray, n_rows: int) -> None:
        """Keep what was taken of the pool, whose frames are some of the rows."""
        self.labels_ = np.full(n_rows, -1, np.int32)
        self.labels_[rows] = picks.labels
        self.selected_idx_, self.reasons_ = rows[picks.indices], picks.reasons
        self.distances_ = picks.distances_from_centroids(pool.points)

    def _remember(
        self, reduction: Reduction, points: np.ndarray, usable: np.ndarray, digests: np.ndarray, pool: Pool
    ) -> None:
        """Keep what the results of a fit are told from, and forget what was told of the last."""
        self.n_components_, self.components_ = len(reduction.components), reduction.components
        self.explained_variance_ = reduction.explained_variance
        self.explained_variance_ratio_ = reduction.explained_variance_ratio
        self._reduction, self._pool = reduction, pool
        self._points, self._usable, self._digests = points, usable, digests
        self._selected = np.searchsorted(usable, self.selected_idx_)
        for derived in ('report_', 'represents_'):
            self.__dict__.pop(derived, None)

    def transform(self, X: RowSource) -> np.ndarray:
        """Return the scores (n_rows, n_components), float32, of other rows in the space of the last fit."""
        return np.concatenate([self._reduction.transform(rows) for rows in blocks(X)])

    @property
    def scores_(self) -> np.ndarray:
        """Return the rows in the space in which distances are measured; NaN for unusable rows."""
        return self._spread(self._points)

    @property
    def novelty_(self) -> np.ndarray | None:
        """Return the distance of each row from the nearest known one; NaN for unusable rows; None without any."""
        return None if self._novelty is None else self._spread(self._novelty)

    def _spread(self, values: np.ndarray) -> np.ndarray:
        """Return values of the usable rows in their places among all rows, NaN elsewhere."""
        if len(self._usable) == len(self.labels_):
            return values
        everywhere = np.full((len(self.labels_), *values.shape[1:]), np.nan, values.dtype)
        everywhere[self._usable] = values
        return everywhere

    @cached_property
    def represents_(self) -> np.ndarray:
        """Return how many usable rows are nearer to each selected one than to the others, (n_selected,)."""
        if len(self._selected) == 0:
            return np.empty(0, np.int64)
        nearest, _ = Centres(self._points[self._selected]).nearest(self._points)
        return np.bincount(nearest, minlength=len(self._selected))

    @property
    def known_scores_(self) -> np.ndarray:
        """Return the known rows in the space in which distances are measured (n_known, n_components)."""
        return self._pool.fixed

    @cached_property
    def report_(self) -> dict[str, Any]:
        """Return plain numbers that tell what was selected from what, and how well it covers the rest."""
        populations = np.bincount(self.labels_[self.labels_ >= 0])
        report = {
            **self._counts,
            'n_distinct': count_distinct(self._pool.digests),
            'n_selected': len(self.selected_idx_),
            'n_shortfall': self.n_to_select - len(self.selected_idx_),
            'n_by_reason': {reason: self.reasons_.count(reason) for reason in dict.fromkeys(self.reasons_)},
            'n_components': self.n_components_,
            'explained_variance_kept': float(self.explained_variance_ratio_[: self.n_components_].sum()),
            'n_clusters': len(populations),
            'cluster_population': five_numbers(populations),
            'novelty': five_numbers(self._novelty),
        }
        for suffix, picks in (('', self._selected), *self.baselines().items()):
            judged = asdict(coverage_of(self._points, np.concatenate([self._pool.fixed, self._points[picks]])))
            report |= {name + suffix: value for name, value in judged.items()}
        return report

    def baselines(self) -> dict[str, np.ndarray]:
        """Return what a random and a farthest-point selection of the same size would take, among the usable rows.

        The farthest points are those of a subsample where there are more frames than k-means takes its seeds from.
        """
        n_picks = len(self._selected)
        some = self.subsample()
        farthest = k_centre(self._points[some], n_picks, self._pool.fixed)[0]
        return {'_random': draw(self._digests, n_picks, (self.random_state, 1)), '_farthest': some[farthest]}

    def subsample(self) -> np.ndarray:
        """Return usable rows, by their place among these, from which k-means would take its seeds."""
        some = subsample(self._digests, sample_size(len(self._selected)), self.random_state)
        return np.arange(len(self._points)) if some is None else some

    def _select_by_group(self, pool: Pool, members: list[np.ndarray] | None) -> Picks:
        """Select in each group its share, away from what the groups before it gave."""
        if members is None:
            return self._select(pool, self.n_to_select)
        picks = Picks.none_of(pool)
        sizes = np.array([count_distinct(pool.digests[group]) for group in members])
        for group, share in zip(members, quotas(sizes, self.n_to_select, self.group_share), strict=True):
            picks.add_part(self._select(pool.part(group, picks.indices), int(share)), group)
        return picks

    def _select(self, pool: Pool, n_wanted: int) -> Picks:
        """Select so many frames, or all that differ: some at random, the rest by the rule, away from these."""
        n_drawn = int(self.random_fraction * n_wanted)
        if n_drawn == 0:
            return self._select_by_rule(pool, n_wanted)
        picks = Picks.none_of(pool)
        picks.add(draw(pool.digests, n_drawn, (self.random_state, 2)), 'random')
        others = np.flatnonzero(~np.isin(pool.digests, pool.digests[picks.indices]))
        picks.add_part(self._select_by_rule(pool.part(others, picks.indices), n_wanted - n_drawn), others)
        return picks

    def _select_by_rule(self, pool: Pool, n_wanted: int) -> Picks:
        n_wanted = min(n_wanted, len(pool))
        if n_wanted == 0:
            return Picks.none_of(pool)
        picks = SELECTION_RULES[self.selection]().select(pool, n_wanted, self)
        if len(picks) < n_wanted:  # what is left differs from the picks, but not in its score
            left = np.flatnonzero(picks.is_open)
            more = unlike(pool.digests[left], n_wanted - len(picks), pool.digests[picks.indices])
            picks.add(left[more], 'fill')
        return picks


def _check_parameters(sampler: DirectSampler) -> None:
    """Raise a ValueError that names the first parameter that is out of bounds."""
    for name, allowed in {**CHOICES, 'selection': tuple(SELECTION_RULES)}.items():
        choice = getattr(sampler, name)
        if choice not in allowed:
            raise ValueError(f'{name}={choice!r} must be one of {", ".join(map(repr, allowed))}')
    for name in COUNTS:
        count = getattr(sampler, name)
        if count is not None and not (isinstance(count, int | np.integer) and count >= 1):
            raise ValueError(f'{name}={count} must be at least 1, and an integer')
    for name in (*FRACTIONS, 'random_fraction'):
        if not 0 <= getattr(sampler, name) < 1:
            raise ValueError(f'{name}={getattr(sampler, name)} must be at least 0 and below 1')
    total = sum(getattr(sampler, name) for name in FRACTIONS)
    if not total < 1:
        raise ValueError(f'{" + ".join(FRACTIONS)} = {total} leaves no frames for the clusters')
    for name in ('min_eigenvalue', 'min_novelty'):
        if not getattr(sampler, name) >= 0:
            raise ValueError(f'{name}={getattr(sampler, name)} must be at least 0')


def _excluded(exclude: Mapping[str, np.ndarray] | None) -> np.ndarray | None:
    """Return which rows are excluded for any reason; None where no reason is given."""
    masks = {reason: np.asarray(mask) for reason, mask in (exclude or {}).items()}
    for reason, mask in masks.items():
        if mask.dtype != np.bool_ or mask.ndim != 1:
            raise ValueError(f'exclude[{reason!r}] is {mask.dtype} {mask.shape}; give a bool for each row, (n_rows,)')
    if len({len(mask) for mask in masks.values()}) > 1:
        raise ValueError(f'exclude has entries of lengths {[len(mask) for mask in masks.values()]}; give one per row')
    return np.logical_or.reduce(list(masks.values())) if masks else None


def _far_from(fixed: np.ndarray, points: np.ndarray, distance: float) -> tuple[np.ndarray | None, np.ndarray]:
    """Return how far points are from the nearest fixed one, None without any, and which are farther than a distance."""
    if len(fixed) == 0:
        return None, np.ones(len(points), np.bool_)
    _, novelty = Centres(fixed).nearest(points)
    return novelty, novelty > distance


def _uncertain(certain: np.ndarray | None, usable: np.ndarray) -> np.ndarray:
    """Return which of the usable rows are not certain."""
    certain = np.zeros(len(usable), np.bool_) if certain is None else np.asarray(certain)
    if certain.shape != usable.shape:
        raise ValueError(f'certain is {certain.shape}, X has {len(usable)} rows; give a bool for each')
    return ~certain[usable]


def _left_out(far: np.ndarray, new: np.ndarray) -> dict[str, int]:
    return {'n_not_new': int(np.count_nonzero(~far)), 'n_certain': int(np.count_nonzero(far & ~new))}


def _counts(moments: Moments, exclude: Mapping[str, np.ndarray] | None) -> dict[str, Any]:
    return {
        'n_frames': len(moments.usable),
        'n_finite': int(np.count_nonzero(moments.finite)),
        'n_excluded': {reason: int(np.count_nonzero(mask)) for reason, mask in (exclude or {}).items()},
    }
