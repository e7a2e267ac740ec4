"""What the composition of a structure suggests for its energy: a sum over its atoms, fitted so that a few absurd
energies do not move it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms

__all__ = ['energies_by_composition']

N_ITERATIONS = 60
SMALLEST_RESIDUAL_EV = 1e-4  # a weight is one over the residual, which may be zero


def energies_by_composition(frames: Sequence[Atoms], energies_eV: np.ndarray) -> np.ndarray:
    """Return the energy per atom that the composition of each frame suggests, in eV, shape (n,).

    The energy per atom is taken as linear in the fractions of the elements, and the sum of the absolute residuals is
    made smallest, by least squares that are weighted again and again: up to almost half of the energies may be absurd
    (P. J. Rousseeuw, A. M. Leroy, Robust Regression and Outlier Detection (1987), chapter 3; fractions have no
    leverage).

    Parameters
    ----------
    frames : sequence of Atoms
    energies_eV : ndarray, shape (n,)
        Total energies.
    """
    numbers, of_atom = np.unique(np.concatenate([atoms.numbers for atoms in frames]), return_inverse=True)
    sizes = np.array([len(atoms) for atoms in frames])
    frame_of_atom = np.repeat(np.arange(len(frames)), sizes)
    fractions = np.zeros((len(frames), len(numbers)))
    np.add.at(fractions, (frame_of_atom, of_atom), 1.0)
    fractions /= sizes[:, np.newaxis]
    per_atom = energies_eV / sizes
    middle = np.median(per_atom)
    weights = 1 / np.maximum(np.abs(per_atom - middle), SMALLEST_RESIDUAL_EV)
    expected = np.full(len(frames), middle)
    for _ in range(N_ITERATIONS):
        weighted = fractions * weights[:, np.newaxis]
        of_elements = np.linalg.pinv(weighted.T @ fractions, hermitian=True) @ (weighted.T @ (per_atom - middle))
        expected = middle + fractions @ of_elements
        weights = 1 / np.maximum(np.abs(per_atom - expected), SMALLEST_RESIDUAL_EV)
    return expected
