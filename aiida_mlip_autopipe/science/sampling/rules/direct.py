"""DIRECT: from each cluster its share, from empty bins, and what is farthest from everything taken.

Source: J. Qi, T. W. Ko, B. C. Wood, T. A. Pham and S. P. Ong, npj Comput. Mater. 10, 43 (2024).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from aiida_mlip_autopipe.science.references import Reference
from aiida_mlip_autopipe.science.sampling.clustering import cluster
from aiida_mlip_autopipe.science.sampling.pool import Picks, Pool
from aiida_mlip_autopipe.science.sampling.rules.base import SelectionRule
from aiida_mlip_autopipe.science.sampling.selection import fill, fill_bins, quotas, representatives

if TYPE_CHECKING:
    from aiida_mlip_autopipe.science.parameters import SamplingParameters
    from aiida_mlip_autopipe.science.sampling.direct import DirectSampler

__all__ = ['Direct']

#: This fraction of the fill measures distances in components weighted by explained variance: along those that explain
#: most, the unweighted fill leaves gaps.
WEIGHTED_FILL = 0.3

CLUSTERINGS = {'kmeans': 'k-means', 'birch': 'BIRCH', 'kmedoids': 'k-medoids', 'sklearn_extra': 'k-medoids'}

QI = Reference(
    'J. Qi, T. W. Ko, B. C. Wood, T. A. Pham, S. P. Ong, npj Comput. Mater. 10, 43 (2024)',
    'https://doi.org/10.1038/s41524-024-01227-4',
)


class Direct(SelectionRule):
    """Stratified over clusters of the frames, the rest of the budget for those farthest from what was taken."""

    settings = frozenset(
        {
            'clustering',
            'cluster_share',
            'coverage_fill',
            'environment_fill',
            'fill',
            'min_cluster_size',
            'n_clusters',
            'n_per_cluster',
        }
    )

    def select(self, pool: Pool, n_wanted: int, sampler: DirectSampler) -> Picks:
        """Take from clusters, frames with unusual atoms, from empty bins, and fill."""
        picks = Picks.none_of(pool)
        n_unusual, n_bins = int(sampler.environment_fill * n_wanted), int(sampler.coverage_fill * n_wanted)
        budget = n_wanted - n_unusual - n_bins - int(sampler.fill * n_wanted)
        self._take_from_clusters(pool, budget, sampler, picks)
        if pool.environments is not None and n_unusual:
            picks.add(pool.environments.unusual(picks.indices, n_unusual), 'environment')
        if n_bins:
            picks.add(fill_bins(pool.points, n_bins, picks.indices, picks.is_open), 'coverage')
        n_fill = n_wanted - len(picks)
        n_weighted = int(WEIGHTED_FILL * n_fill)
        for n_more, weights in ((n_fill - n_weighted, np.ones_like(pool.weights)), (n_weighted, pool.weights)):
            bounds = np.where(picks.is_open, picks.bounds(pool.points, weights), np.float32(-1))
            given = np.concatenate([pool.fixed, pool.points[picks.indices]])
            picks.add(fill(pool.points, n_more, given, bounds, weights), 'fill')
        return picks

    def sentence(self, parameters: SamplingParameters) -> str:
        """Return what a paper says."""
        filled = f', {100 * parameters.fill:g} % of them as the farthest from all others' if parameters.fill else ''
        return (
            'Descriptors were reduced to the principal components with an eigenvalue above '
            f'{parameters.min_eigenvalue:g} and clustered ({CLUSTERINGS[parameters.clustering]}), and up to '
            f'{parameters.n_to_select} frames of each round selected by DIRECT{filled}.'
        )

    def references(self) -> tuple[Reference, ...]:
        """Return the source of DIRECT."""
        return (QI,)

    def _take_from_clusters(self, pool: Pool, budget: int, sampler: DirectSampler, picks: Picks) -> None:
        """Take what the clusters give; frames of a cluster that is too small are closed to what follows."""
        n_clusters = min(sampler.n_clusters or max(1, budget // sampler.n_per_cluster), len(pool))
        some = pool.sample(n_clusters)
        picks.labels = cluster(
            pool.points, n_clusters, sampler.clustering, some, pool.fixed, sampler.random_state, sampler.max_bytes
        )
        populations = np.bincount(picks.labels[picks.labels >= 0])
        shares = quotas(populations, budget, sampler.cluster_share, sampler.min_cluster_size)
        indices, ordinals = representatives(pool.points, picks.labels, shares)
        picks.add(indices[ordinals == 0], 'centroid')
        picks.add(indices[ordinals > 0], 'stratum')
        large_enough = np.append(populations >= sampler.min_cluster_size, True)
        picks.is_open = large_enough[picks.labels]
