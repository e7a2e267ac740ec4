"""The products of the atomic cluster expansion, for eight atoms at a time.

:class:`~aiida_mlip_autopipe.science.descriptors.couplings.Products` says which. Each value is kept for eight atoms side
by side, value v of atom ``lane`` at values[8 v + lane]: one instruction works on all of them, whatever the sum looks
like, and reading the list of products costs an eighth. Sums stay in a register until they are complete.
"""

# An intrinsic is called without its first parameter, which annotations cannot say.
# mypy: disable-error-code="call-arg"

from __future__ import annotations

import numpy as np

from aiida_mlip_autopipe.science.descriptors.compiled.neighbours import lean
from aiida_mlip_autopipe.science.descriptors.compiled.vectors import LANES, scalar_product, weighted_sum

__all__ = ['multiply_densities', 'place_density']


@lean
def place_density(density: np.ndarray, inputs: np.ndarray, norms: np.ndarray, lane: int, values: np.ndarray) -> None:
    """Put the density of one atom, (species, lm, n) raveled, into its lane; ``norms`` (inputs,) multiply it."""
    for i in range(len(inputs)):
        values[LANES * (1 + i) + lane] = norms[i] * density[inputs[i]]


@lean
def multiply_densities(
    values: np.ndarray,
    inputs: np.ndarray,
    starts: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    weights: np.ndarray,
    left: np.ndarray,
    right: np.ndarray,
    counts: np.ndarray,
    factors: np.ndarray,
    out: np.ndarray,
) -> None:
    """Evaluate all functions for eight atoms.

    Parameters
    ----------
    values : numpy.ndarray
        (8 (1 + inputs + components of pairs),), float64, of which :func:`place_density` has filled the inputs; the rest
        is overwritten.
    inputs, starts, first, second, weights, left, right, counts, factors : numpy.ndarray
        See :class:`~aiida_mlip_autopipe.science.descriptors.couplings.Products`.
    out : numpy.ndarray
        (8 functions,), float64: function f of atom ``lane`` goes to 8 f + lane.
    """
    for lane in range(LANES):
        values[lane] = 1.0
    place = LANES * (1 + len(inputs))
    for s in range(len(starts) - 1):
        weighted_sum(values, first, second, weights, starts[s], starts[s + 1] - starts[s], place)
        place += LANES
    for f in range(len(left)):
        scalar_product(values, LANES * left[f], LANES * right[f], counts[f], factors[f], out, LANES * f)
