"""The rules of selection that are compared with random selections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms

from aiida_mlip_autopipe.science.descriptors import make_descriptor
from aiida_mlip_autopipe.science.parameters import SoapParameters
from aiida_mlip_autopipe.science.sampling import DirectSampler
from aiida_mlip_autopipe.science.training.weights import weights_of

__all__ = ['RULES', 'Picks', 'Select', 'by_rule', 'set_covers']


class Picks(NamedTuple):
    """Rows of the pool, and how much each counts in the training."""

    rows: np.ndarray
    weights: np.ndarray | None = None


Select = Callable[[np.ndarray, int, int], Picks]
"""Rows of the pool, how many to select, and a seed -> what is selected."""


def by_rule(weighted: bool = False, **settings: Any) -> Select:
    """Return a selection by a rule."""

    def select(rows: np.ndarray, n_to_select: int, seed: int) -> Picks:
        sampler = DirectSampler(n_to_select, random_state=seed, **settings).fit(rows)
        return Picks(sampler.selected_idx_, weights_of(sampler.represents_) if weighted else None)

    return select


I_OPTIMAL = {'selection': 'i-optimal', 'min_eigenvalue': 0.01}

RULES: dict[str, Select] = {
    'DIRECT': by_rule(),
    'DIRECT, weights': by_rule(weighted=True),
    'DIRECT, half at random': by_rule(random_fraction=0.5),
    'DIRECT, half at random, weights': by_rule(weighted=True, random_fraction=0.5),
    'I-optimal': by_rule(**I_OPTIMAL),
    'I-optimal, weights': by_rule(weighted=True, **I_OPTIMAL),
    'I-optimal, a quarter at random, weights': by_rule(weighted=True, random_fraction=0.25, **I_OPTIMAL),
    'I-optimal, half at random': by_rule(random_fraction=0.5, **I_OPTIMAL),
    'I-optimal, half at random, weights': by_rule(weighted=True, random_fraction=0.5, **I_OPTIMAL),
}
"""I-optimal is with all components above 0.01 (`min_eigenvalue`)."""


def set_covers(frames: list[Atoms], rows: np.ndarray, species: list[str]) -> dict[str, Select]:
    """Return set covers of the environments of frames, which are known by their rows."""
    descriptor = make_descriptor(SoapParameters(), species, average='off')
    atoms_of = {row.tobytes(): descriptor.create(atoms)[None] for row, atoms in zip(rows, frames, strict=True)}

    def covering(random_fraction: float) -> Select:
        def select(some: np.ndarray, n_to_select: int, seed: int) -> Picks:
            sampler = DirectSampler(
                n_to_select, random_state=seed, selection='set-cover', random_fraction=random_fraction
            )
            return Picks(
                sampler.fit(some, environments=lambda: (atoms_of[row.tobytes()] for row in some)).selected_idx_
            )

        return select

    return {'set cover': covering(0.0), 'set cover, half at random': covering(0.5)}
