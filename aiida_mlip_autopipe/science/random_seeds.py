"""Random seeds that follow from one that is an input."""

from __future__ import annotations

import numpy as np

__all__ = ['derived_seed']


def derived_seed(random_seed: int, number: int) -> int:
    """Return the random seed that belongs to another one and to a number, such as that of a replica or of a round."""
    return int(np.random.SeedSequence((random_seed, number)).generate_state(1)[0])
