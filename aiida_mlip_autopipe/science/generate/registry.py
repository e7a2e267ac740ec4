"""The methods of the structure generator, by name, in the order in which their structures appear.

A further method is one module with a function ``(base, parameters, rng) -> list[Atoms]``, and its line in ``METHODS``.
Its random numbers come from the generator it is handed, which depends on the seed of the stage, the name of the method
and the index of the source alone: a new method leaves the structures of the others as they are.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
from ase import Atoms

from aiida_mlip_autopipe.science.generate.rattle import rattled
from aiida_mlip_autopipe.science.generate.strain import strained
from aiida_mlip_autopipe.science.generate.supercell import pristine
from aiida_mlip_autopipe.science.parameters import GenerationParameters

__all__ = ['METHODS', 'Method', 'random_stream']

Method = Callable[[Atoms, GenerationParameters, np.random.Generator], list[Atoms]]

METHODS: dict[str, Method] = {
    'pristine': pristine,
    'strained': strained,
    'rattled': rattled,
}


def random_stream(random_seed: int, name: str, source_index: int) -> np.random.Generator:
    """Return the generator of one method on one source: independent of all others, whatever their number."""
    spawn_key = (zlib.crc32(name.encode()), source_index)
    return np.random.default_rng(np.random.SeedSequence(random_seed, spawn_key=spawn_key))
