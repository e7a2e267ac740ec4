"""A crystal whose nearest neighbours are joined for good by Lennard-Jones pairs: cheap physics for both engines."""

from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.neighborlist import neighbor_list

__all__ = ['PairCrystal', 'PairCrystalModel', 'argon', 'lithium_argon']

EPSILON_eV, SIGMA_A = 0.0104, 3.4


def argon(repeat: tuple[int, int, int] = (2, 2, 2)) -> Atoms:
    """Return the primitive cell of argon, repeated in each direction."""
    return bulk('Ar', 'fcc', a=5.4) * repeat


def lithium_argon() -> Atoms:
    """Return eight atoms of argon, each second one of the mass of lithium."""
    atoms = argon()
    atoms.symbols = ['Li', 'Ar'] * 4
    return atoms


class _Pairs:
    """Energies, forces and stresses of copies of a crystal; arrays may be those of numpy or of torch.

    Parameters
    ----------
    atoms : Atoms
        The perfect crystal. It says which atoms are joined, and by which of their images.
    """

    def __init__(self, atoms: Atoms) -> None:
        first, second, shifts = neighbor_list('ijS', atoms, 1.25 * SIGMA_A)
        half = (first < second) | ((first == second) & (shifts > 0).any(axis=1))
        self.first, self.second = first[half], second[half]
        scaled = atoms.get_scaled_positions(wrap=False)
        self.scaled = scaled[self.second] - scaled[self.first] + shifts[half]
        self.incidence = np.zeros((len(atoms), len(self.first)))
        np.add.at(self.incidence, (self.first, np.arange(len(self.first))), 1)
        np.add.at(self.incidence, (self.second, np.arange(len(self.first))), -1)

    def evaluate(self, xp: Any, positions: Any, cells: Any) -> tuple[Any, Any, Any]:
        """Return energies (K,), forces (K, N, 3) and stresses (K, 3, 3); atoms may be wrapped into the cell."""
        vectors = positions[:, self.second] - positions[:, self.first]
        images = xp.round(self.scaled - vectors @ xp.linalg.inv(cells))
        vectors = vectors + images @ cells
        squares = (vectors**2).sum(-1)
        power = (SIGMA_A**2 / squares) ** 3
        slopes = (24 * EPSILON_eV * (power - 2 * power**2) / squares)[..., None] * vectors
        volumes = abs(xp.linalg.det(cells))[:, None, None]
        return (
            4 * EPSILON_eV * (power**2 - power).sum(-1),
            self.incidence @ slopes,
            slopes.swapaxes(-1, -2) @ vectors / volumes,
        )


class PairCrystal(Calculator):
    """The crystal for ASE."""

    implemented_properties = ['energy', 'forces', 'stress']

    def __init__(self, atoms: Atoms) -> None:
        super().__init__()
        self._pairs = _Pairs(atoms)

    def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        """Compute everything."""
        energies, forces, stresses = self._pairs.evaluate(np, atoms.positions[None], atoms.cell.array[None])
        voigt = stresses[0].reshape(-1)[[0, 4, 8, 5, 2, 1]]
        self.results = {'energy': float(energies[0]), 'forces': forces[0], 'stress': voigt}


class PairCrystalModel:
    """The crystal for torch-sim: all systems of a state are copies of it."""

    def __init__(self, atoms: Atoms) -> None:
        import torch

        self.device, self.dtype = torch.device('cpu'), torch.float64
        self._n_atoms = len(atoms)
        self._pairs = _Pairs(atoms)
        self._pairs.scaled = torch.as_tensor(self._pairs.scaled)
        self._pairs.incidence = torch.as_tensor(self._pairs.incidence)

    def __call__(self, state: Any) -> dict[str, Any]:
        """Compute everything; cells come as columns."""
        import torch

        positions = state.positions.reshape(-1, self._n_atoms, 3)
        energies, forces, stresses = self._pairs.evaluate(torch, positions, state.cell.mT)
        return {'energy': energies, 'forces': forces.reshape(-1, 3), 'stress': stresses}
