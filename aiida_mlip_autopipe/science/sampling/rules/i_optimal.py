"""I-optimal frames: each lowers the mean predictive variance over all frames most.

Take the energy of a frame to be linear in its principal components, plus a constant. The frames that were labelled,
with features phi (a row each), leave the predictive variance ``phi_i A^-1 phi_i`` at frame i, in units of the noise,
with ``A = ridge + sum phi phi^T``. Its mean over all frames is ``trace(A^-1 M)``, ``M = mean phi phi^T``. A label of
frame x lowers it by ``(phi_x A^-1 M A^-1 phi_x) / (1 + phi_x A^-1 phi_x)``: the frame with the largest gain is taken,
one after the other. So frames are taken where there are many to predict, and far out only as far as that helps to
predict these. No labels are needed.

The prior of a coefficient is that of standardised features which all count alike; the noise is what the components
left out explain of the variance. Both numbers of each frame are updated in O(components) per pick (Sherman-Morrison).
As for the seeds of k-means, at most some 30 000 frames are candidates; the mean is over all frames.

Sources: V-optimal design, as in J. T. Ash, S. Goel, A. Krishnamurthy and S. Kakade (BAIT), arXiv 2106.09675 (2021);
K. Yu, J. Bi and V. Tresp, Proc. 23rd Int. Conf. Machine Learning, 1081 (2006) (transductive experimental design).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from aiida_mlip_autopipe.science.references import Reference
from aiida_mlip_autopipe.science.sampling.pool import Picks, Pool
from aiida_mlip_autopipe.science.sampling.rules.base import SelectionRule

if TYPE_CHECKING:
    from aiida_mlip_autopipe.science.parameters import SamplingParameters
    from aiida_mlip_autopipe.science.sampling.direct import DirectSampler

__all__ = ['IOptimal']

#: Rows whose products are summed at once.
BLOCK = 4096

#: The noise is at least this fraction of the variance: labels are never exact in a model of few numbers.
LEAST_NOISE = 1e-3

ASH = Reference(
    'J. T. Ash, S. Goel, A. Krishnamurthy, S. Kakade, arXiv:2106.09675 (2021)', 'https://arxiv.org/abs/2106.09675'
)
YU = Reference(
    'K. Yu, J. Bi, V. Tresp, Proc. 23rd Int. Conf. Machine Learning, 1081 (2006)',
    'https://doi.org/10.1145/1143844.1143980',
)


class IOptimal(SelectionRule):
    """Least mean predictive variance, over all frames, of a model that is linear in the components."""

    #: It needs more components than clusters do, and alone it takes too few of the frequent frames.
    defaults: ClassVar[Mapping[str, Any]] = {'min_eigenvalue': 0.01, 'random_fraction': 0.5}

    def select(self, pool: Pool, n_wanted: int, sampler: DirectSampler) -> Picks:
        """Take one after the other what lowers the mean predictive variance most."""
        picks = Picks.none_of(pool)
        some = pool.sample(n_wanted)
        candidates = np.arange(len(pool)) if some is None else some
        candidates = candidates[np.unique(pool.digests[candidates], return_index=True)[1]]
        centre, ridge = pool.points.mean(axis=0, dtype=np.float64), _ridge(pool)
        taken = _least_variance(pool, candidates, n_wanted, centre, ridge)
        picks.add(candidates[taken], 'variance')
        return picks

    def sentence(self, parameters: SamplingParameters) -> str:
        """Return what a paper says."""
        return (
            f'Up to {parameters.n_to_select} frames of each round were selected one after the other such that the mean '
            'predictive variance over all frames, of a linear model of their principal components, is least (I-optimal '
            'design).'
        )

    def references(self) -> tuple[Reference, ...]:
        """Return the sources of the criterion."""
        return (YU, ASH)


def _ridge(pool: Pool) -> float:
    """Return the noise over the prior variance of a coefficient: the variance of what the components leave out."""
    kept = float(pool.points.var(axis=0, dtype=np.float64).sum())
    ratio = min(max(float(pool.weights.sum()), LEAST_NOISE), 1.0)
    return max(kept * (1 - ratio) / ratio, LEAST_NOISE * kept) or 1.0


def _least_variance(pool: Pool, candidates: np.ndarray, n_wanted: int, centre: np.ndarray, ridge: float) -> np.ndarray:
    """Return which candidates to take, in order, by their places among the candidates."""
    constant = np.sqrt(max(float(pool.points.var(axis=0, dtype=np.float64).sum()), 1.0))

    def features(points: np.ndarray) -> np.ndarray:
        return np.column_stack([points - centre, np.full(len(points), constant)])

    mean_products = _sum_of_products(features, pool.points) / len(pool)
    inverse = np.linalg.inv(_sum_of_products(features, pool.fixed) + ridge * np.eye(len(mean_products)))
    rows = features(pool.points[candidates])
    variance = np.einsum('ij,ij->i', rows @ inverse, rows)
    gained = np.einsum('ij,ij->i', rows @ (inverse @ mean_products @ inverse), rows)
    is_open, taken = np.ones(len(rows), np.bool_), np.empty(min(n_wanted, len(rows)), np.int64)
    for number in range(len(taken)):
        taken[number] = np.argmax(np.where(is_open, gained / (1 + variance), -np.inf))
        is_open[taken[number]] = False
        step = inverse @ rows[taken[number]]
        moved = inverse @ (mean_products @ step)
        shrunk = 1 + variance[taken[number]]
        along, across = rows @ step, rows @ moved
        gained = np.maximum(gained + along * (along * (step @ mean_products @ step) / shrunk - 2 * across) / shrunk, 0)
        variance = np.maximum(variance - along**2 / shrunk, 0)
        inverse -= np.outer(step, step) / shrunk
    return taken


def _sum_of_products(features: Callable[[np.ndarray], np.ndarray], points: np.ndarray) -> np.ndarray:
    """Return the sum of the products of the features of all points, block by block (n_features, n_features)."""
    total = np.zeros((points.shape[1] + 1, points.shape[1] + 1))
    for first in range(0, len(points), BLOCK):
        rows = features(points[first : first + BLOCK])
        total += rows.T @ rows
    return total
