"""Farthest-point traversal: each frame is the farthest from those before it, the first the nearest to the mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiida_mlip_autopipe.science.references import Reference
from aiida_mlip_autopipe.science.sampling.clustering import k_centre
from aiida_mlip_autopipe.science.sampling.pool import Picks, Pool
from aiida_mlip_autopipe.science.sampling.rules.base import SelectionRule

if TYPE_CHECKING:
    from aiida_mlip_autopipe.science.parameters import SamplingParameters
    from aiida_mlip_autopipe.science.sampling.direct import DirectSampler

__all__ = ['Farthest']

GONZALEZ = Reference(
    'T. F. Gonzalez, Theor. Comput. Sci. 38, 293 (1985)', 'https://doi.org/10.1016/0304-3975(85)90224-5'
)


class Farthest(SelectionRule):
    """Farthest-point traversal: each frame is the farthest from those before."""

    def select(self, pool: Pool, n_wanted: int, sampler: DirectSampler) -> Picks:
        """Take one after the other what is farthest from all that is represented."""
        picks = Picks.none_of(pool)
        picks.add(k_centre(pool.points, n_wanted, pool.fixed)[0], 'farthest')
        return picks

    def sentence(self, parameters: SamplingParameters) -> str:
        """Return what a paper says."""
        return f'Up to {parameters.n_to_select} frames of each round were selected by farthest-point traversal.'

    def references(self) -> tuple[Reference, ...]:
        """Return the source of the traversal."""
        return (GONZALEZ,)
