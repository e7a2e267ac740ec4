"""How a selection rule is written.

A rule is one class: which frames it takes from a pool, and what a paper says of it. Its name is that of its entry point
in the group ``aiida_mlip_autopipe.selection_rules`` and the value of ``exploration.selection``. What comes before and
after is the same for all: frames that cannot be described, break a limit, are too near to a known one or certain are
not in the pool; groups give their shares one after the other. A rule of another package::

    class Extremes(SelectionRule):
        \"\"\"The frames that are farthest from the mean of all.\"\"\"

        def select(self, pool, n_wanted, sampler):
            distances = np.linalg.norm(pool.points - pool.points.mean(axis=0), axis=1)
            order = np.argsort(-distances, kind='stable')
            _, first = np.unique(pool.digests[order], return_index=True)  # equal frames are taken once
            picks = Picks.none_of(pool)
            picks.add(order[np.sort(first)[:n_wanted]], 'extreme')
            return picks

        def sentence(self, parameters):
            return f'Up to {parameters.n_to_select} frames of each round were those farthest from the mean.'

and in its ``pyproject.toml``::

    [project.entry-points."aiida_mlip_autopipe.selection_rules"]
    extremes = "my_package.extremes:Extremes"
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from aiida_mlip_autopipe.science.references import Reference

if TYPE_CHECKING:
    from aiida_mlip_autopipe.science.parameters import SamplingParameters
    from aiida_mlip_autopipe.science.sampling.direct import DirectSampler
    from aiida_mlip_autopipe.science.sampling.pool import Picks, Pool

__all__ = ['SelectionRule']


class SelectionRule(ABC):
    """A rule of selection; it has no state.

    Attributes
    ----------
    needs_environments : bool
        Whether it looks at ``pool.environments``: then all atoms are described, not only the frames.
    settings : frozenset of str
        Keys of ``exploration`` that it reads and other rules do not: with these they are refused.
    defaults : mapping
        Values of keys for all rules that suit it, where none is given.
    """

    needs_environments: ClassVar[bool] = False
    settings: ClassVar[frozenset[str]] = frozenset()
    defaults: ClassVar[Mapping[str, Any]] = {}

    @abstractmethod
    def select(self, pool: Pool, n_wanted: int, sampler: DirectSampler) -> Picks:
        """Take frames from a pool.

        Parameters
        ----------
        pool : Pool
            The frames to choose from, as points of the reduced space, and the points that are represented already.
        n_wanted : int
            So many, at least 1 and at most those of the pool. Where fewer are taken, frames that differ from them in
            anything but their points are added, in order, unless ``picks.is_open`` is false for them.
        sampler : DirectSampler
            Its settings; all random numbers follow from ``sampler.random_state``.

        Returns
        -------
        Picks
            By their place in the pool, none twice and none equal to another, each with the reason.
        """

    @abstractmethod
    def sentence(self, parameters: SamplingParameters) -> str:
        """Return what the methods section of a paper says, after it told how frames were described."""

    def references(self) -> tuple[Reference, ...]:
        """Return the publications that the sentence cites."""
        return ()
