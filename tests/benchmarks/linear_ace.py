"""A potential that is trained in milliseconds: what selections of frames are compared by.

The energy of a frame is a sum over its atoms, of coefficients times ACE functions and of a constant. Energies and
forces are linear in the coefficients, which ridge regression finds from both. What a frame adds to the normal equations
is worked out once for all trainings; the gradients of the features are central differences.

Source: R. Drautz, Phys. Rev. B 99, 014104 (2019).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from scipy.linalg import solve

from aiida_mlip_autopipe.science.descriptors import ACE

__all__ = ['LinearACE', 'force_features']

#: Displacement of the central differences, in Å: with a third or three times of it, features change by some 1e-5.
STEP = 3e-4


class LinearACE:
    """Potentials trained on some of the frames, and their errors on others.

    Parameters
    ----------
    frames : sequence of ase.Atoms
        All frames, with energies (eV) and forces (eV/Å).
    ace : ACE
        Functions, averaged over the atoms (``average='outer'``).
    force_weight : float
        Weight of a force's component beside an energy per atom, in Å; 0.01: 0.1 eV/Å off is as bad as 1 meV per atom.
    ridge : float
        Strength of the ridge per frame, for features of unit variance.
    """

    def __init__(self, frames: Sequence[Atoms], ace: ACE, force_weight: float, ridge: float) -> None:
        self.force_weight, self.ridge = force_weight, ridge
        rows = ace.create(frames)
        scale = rows.std(axis=0)
        self.energies = np.array([atoms.get_potential_energy() / len(atoms) for atoms in frames])
        self.forces = [atoms.get_forces().ravel() for atoms in frames]
        self.energy_features = np.column_stack([(rows - rows.mean(axis=0)) / scale, np.ones(len(rows))])
        self.force_features = [np.pad(force_features(atoms, ace) / scale, ((0, 0), (0, 1))) for atoms in frames]
        equations = [self._normal_equations(index) for index in range(len(frames))]
        self.matrices = np.array([matrix for matrix, _ in equations])
        self.vectors = np.array([vector for _, vector in equations])

    def fit(self, frames: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        """Return the coefficients of a potential trained on some frames.

        Parameters
        ----------
        frames : numpy.ndarray
            Indices (n,).
        weights : numpy.ndarray, optional
            How much each of them counts (n,), in any unit; the same for all unless given.

        Returns
        -------
        numpy.ndarray
            (features + 1,), the constant last.
        """
        shares = np.ones(len(frames)) if weights is None else weights / np.mean(weights)
        ridge = np.full(self.vectors.shape[1], self.ridge * len(frames))
        ridge[-1] = 0.0
        matrix = np.tensordot(shares, self.matrices[frames], 1) + np.diag(ridge)
        return solve(matrix, shares @ self.vectors[frames], assume_a='pos')

    def errors(self, coefficients: np.ndarray, frames: np.ndarray) -> np.ndarray:
        """Return the RMSE on frames of these indices, (2,): energy, in eV per atom, and forces' components, in eV/Å."""
        energies = self.energy_features[frames] @ coefficients - self.energies[frames]
        forces = [self.force_features[index] @ coefficients - self.forces[index] for index in frames]
        return np.sqrt([np.mean(energies**2), np.mean(np.concatenate(forces) ** 2)])

    def _normal_equations(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return what a frame adds to the matrix and to the right-hand side."""
        features = np.vstack([self.energy_features[index], self.force_weight * self.force_features[index]])
        labels = np.append(self.energies[index], self.force_weight * self.forces[index])
        return features.T @ features, features.T @ labels


def force_features(atoms: Atoms, ace: ACE, step: float = STEP) -> np.ndarray:
    """Return minus the gradient of the features summed over the atoms, in 1/Å.

    Parameters
    ----------
    atoms : ase.Atoms
        A frame of N atoms.
    ace : ACE
        Functions, averaged over the atoms.
    step : float
        Displacement, in Å.

    Returns
    -------
    numpy.ndarray
        (3 N, features), in the order of the raveled forces.
    """
    steps = step * np.eye(3 * len(atoms)).reshape(-1, len(atoms), 3)
    forward, backward = (
        ace.create_frames(atoms.numbers, atoms.positions + displaced, atoms.cell.array, atoms.pbc)
        for displaced in (steps, -steps)
    )
    return len(atoms) * (backward - forward) / (2 * step)
