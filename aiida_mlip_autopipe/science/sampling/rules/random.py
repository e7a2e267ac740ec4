"""Frames drawn at random: the baseline that others are compared with, and the rule of the test set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiida_mlip_autopipe.science.sampling.pool import Picks, Pool, draw
from aiida_mlip_autopipe.science.sampling.rules.base import SelectionRule

if TYPE_CHECKING:
    from aiida_mlip_autopipe.science.parameters import SamplingParameters
    from aiida_mlip_autopipe.science.sampling.direct import DirectSampler

__all__ = ['Random']


class Random(SelectionRule):
    """Drawn at random: the baseline."""

    def select(self, pool: Pool, n_wanted: int, sampler: DirectSampler) -> Picks:
        """Draw distinct frames."""
        picks = Picks.none_of(pool)
        picks.add(draw(pool.digests, n_wanted, (sampler.random_state,)), 'random')
        return picks

    def sentence(self, parameters: SamplingParameters) -> str:
        """Return what a paper says."""
        return f'Up to {parameters.n_to_select} frames of each round were drawn at random.'
