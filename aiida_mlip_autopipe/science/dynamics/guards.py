"""Guards: when a replica has left physics, it is stopped before it costs time or yields nonsense.

Neither energies nor forces of a learned potential reveal a collision or a collapse (two atoms at 0.5 Å can have a
normal energy), so geometry and temperature are watched. A force call on positions that are not finite can take minutes,
and one on a collapsed cell or on atoms flung out of it can exhaust the memory: these are looked at before each call.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_changes
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list
from matscipy.neighbours import neighbour_list
from numpy.typing import ArrayLike

from aiida_mlip_autopipe.science.frames.records import GuardEntry
from aiida_mlip_autopipe.science.parameters import GuardParameters

__all__ = [
    'GENTLER_SEEDS',
    'MAX_MOVE_A',
    'Bonds',
    'GuardTripped',
    'GuardedCalculator',
    'Guards',
    'degrees_of_freedom',
    'max_temperature_K',
    'seeds_own_energy',
    'temperature',
]

FIRST_STEPS = 100
"""Until here the energy that a start has above its minimum shows as heat."""

GENTLER_SEEDS = (
    'displace the seeds less (generation.rattled.stdev_A), or raise the temperatures, of which the bound is a multiple'
)

BOND_FACTOR = 1.2
"""Atoms are bonded where they are closer than this multiple of the sum of their covalent radii."""

MAX_MOVE_A = 3.0
"""An atom that moves further than this between two force calls has left the integrator's realm, in Å."""


class GuardTripped(Exception):  # noqa: N818  it ends a replica as planned and is no error of the program
    """A replica has left physics.

    Attributes
    ----------
    name : str
        Which guard.
    value, bound : float
        What was found and what is allowed.
    released_eV : float or None
        Of a temperature: the potential energy per atom, in eV, that the start has given up by then.
    """

    def __init__(self, name: str, value: float, bound: float, released_eV: float | None = None) -> None:
        super().__init__(f'{name}: {value:g} (bound {bound:g})')
        self.name = name
        self.value = float(value)
        self.bound = float(bound)
        self.released_eV = released_eV

    def record(self, step: int) -> GuardEntry:
        """Return the entry for the manifest; a value that is not finite becomes None."""
        value = self.value if math.isfinite(self.value) else None
        entry: GuardEntry = {'name': self.name, 'step': step, 'value': value, 'bound': self.bound}
        if self.released_eV is not None and math.isfinite(self.released_eV):
            entry['released_eV'] = self.released_eV
        return entry


def seeds_own_energy(guard: GuardEntry) -> str | None:
    """Return in words that a replica was too hot from the energy of its own start; None where it was not, or later."""
    released = guard.get('released_eV')
    if released is None or released <= 0 or guard['step'] > FIRST_STEPS:
        return None
    return (
        f'the start gave up {1e3 * released:.0f} meV per atom of its own potential energy by step {guard["step"]}, '
        f'which heats it by up to {2 * released / (3 * units.kB):.0f} K whatever the target'
    )


def degrees_of_freedom(n_atoms: int) -> int:
    """Return the number of momenta that move freely: the centre of mass rests unless it is the only atom."""
    return 3 * n_atoms - 3 if n_atoms > 1 else 3


def temperature(atoms: Atoms) -> float:
    """Return the kinetic temperature, in K, of atoms whose centre of mass rests."""
    return 2 * atoms.get_kinetic_energy() / (units.kB * degrees_of_freedom(len(atoms)))


def max_temperature_K(parameters: GuardParameters, temperature_K: float, n_atoms: int) -> float:  # noqa: N802
    """Return the highest temperature allowed, in K; it allows for the fluctuations with few atoms."""
    return parameters.max_temperature_factor * temperature_K * (1 + 5 / math.sqrt(3 * n_atoms))


@dataclass(frozen=True)
class Bonds:
    """The bonds of a starting structure, which must not break.

    Attributes
    ----------
    first, second : ndarray of int, shape (n,)
        The atoms of each bond.
    shifts : ndarray, shape (n, 3)
        Lattice vectors that are added to the second atom; positions are not wrapped on the way.
    lengths : ndarray, shape (n,)
        Sum of the covalent radii, in Å.
    max_stretch : float
        Longest bond allowed, in these lengths.
    """

    first: np.ndarray
    second: np.ndarray
    shifts: np.ndarray
    lengths: np.ndarray
    max_stretch: float

    @classmethod
    def of(cls, atoms: Atoms, max_stretch: float | None) -> Bonds:
        """Return the bonds of a structure: none where they may break."""
        if max_stretch is None:
            return cls(*(np.zeros(0, dtype=int),) * 2, np.zeros((0, 3)), np.zeros(0), math.inf)
        radii = covalent_radii[atoms.numbers]
        first, second, shifts = neighbor_list('ijS', atoms, min(BOND_FACTOR, max_stretch) * radii)
        half = (first < second) | ((first == second) & (shifts > 0).any(axis=1))
        first, second, shifts = first[half], second[half], shifts[half].astype(float)
        return cls(first, second, shifts, radii[first] + radii[second], max_stretch)

    def check(self, positions: np.ndarray, cell: np.ndarray) -> None:
        """Raise `GuardTripped` if a bond is too long."""
        if not len(self.first):
            return
        vectors = positions[self.second] - positions[self.first] + self.shifts @ cell
        stretch = float((np.linalg.norm(vectors, axis=1) / self.lengths).max())
        if stretch > self.max_stretch:
            raise GuardTripped('max_bond_stretch', stretch, self.max_stretch)


class Guards:
    """The checks of one replica.

    Parameters
    ----------
    atoms : Atoms
        The replica before its first step: volume and composition are taken from it.
    parameters : GuardParameters
        Bounds.
    temperature_K : float
        Target temperature; of a ramp the higher end.
    energy_eV : float, optional
        Energy per atom to compare with, in eV, where a replica goes on; else that of the first check.
    """

    def __init__(
        self, atoms: Atoms, parameters: GuardParameters, temperature_K: float, energy_eV: float | None = None
    ) -> None:
        self._parameters = parameters
        self._volume = abs(float(np.linalg.det(atoms.cell.array)))
        self._radii = parameters.min_distance_factor * covalent_radii[atoms.numbers]
        self._positions: np.ndarray | None = None
        self.energy_eV = energy_eV
        self._latest_eV = math.nan
        self._n_atoms = len(atoms)
        self._max_temperature = max_temperature_K(parameters, temperature_K, len(atoms))
        self._bonds = Bonds.of(atoms, parameters.max_bond_stretch)

    def before_forces(self, atoms: Atoms) -> None:
        """Check what a force call cannot survive: positions, moves and cell."""
        positions = atoms.positions
        if not (np.isfinite(positions).all() and np.isfinite(atoms.cell.array).all()):
            raise GuardTripped('finite_geometry', math.nan, 0.0)
        if self._volume > 0:
            ratio = abs(float(np.linalg.det(atoms.cell.array))) / self._volume
            if ratio < self._parameters.min_volume_ratio:
                raise GuardTripped('min_volume_ratio', ratio, self._parameters.min_volume_ratio)
            if ratio > self._parameters.max_volume_ratio:
                raise GuardTripped('max_volume_ratio', ratio, self._parameters.max_volume_ratio)
        if self._positions is not None:
            move = float(np.abs(positions - self._positions).max())
            if move > MAX_MOVE_A:
                raise GuardTripped('max_move_A', move, MAX_MOVE_A)
        self._positions = positions.copy()

    def after_forces(self, results: Mapping[str, ArrayLike]) -> None:
        """Check that energy, forces and stress are finite."""
        if not all(np.isfinite(results[name]).all() for name in ('energy', 'forces', 'stress')):
            raise GuardTripped('finite_forces', math.nan, 0.0)
        self._latest_eV = float(np.asarray(results['energy']).item()) / self._n_atoms

    def after_step(self, atoms: Atoms) -> None:
        """Check the temperature."""
        value = temperature(atoms)
        if not value <= self._max_temperature:  # also if it is not a number
            released = None if self.energy_eV is None else self.energy_eV - self._latest_eV
            raise GuardTripped('max_temperature_K', value, self._max_temperature, released)

    def structure(self, atoms: Atoms) -> None:
        """Check distances, bonds and the energy per atom; the first call sets the energy of reference."""
        first, second, distances = _close_pairs(atoms, self._radii)
        if len(distances):
            factor = self._parameters.min_distance_factor
            allowed = self._radii[first] + self._radii[second]
            raise GuardTripped('min_distance_factor', float((distances / allowed).min()) * factor, factor)
        self._bonds.check(atoms.positions, atoms.cell.array)
        energy = atoms.get_potential_energy() / len(atoms)
        self.energy_eV = energy if self.energy_eV is None else self.energy_eV
        if abs(energy - self.energy_eV) > self._parameters.energy_window_eV:
            raise GuardTripped('energy_window_eV', energy - self.energy_eV, self._parameters.energy_window_eV)


def _close_pairs(atoms: Atoms, radii: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the pairs of atoms whose spheres overlap, and their distances; the fast list needs a whole cell."""
    find = neighbour_list if atoms.cell.rank == 3 else neighbor_list
    return find('ijd', atoms, radii)


class GuardedCalculator(Calculator):
    """An ASE calculator that looks at the geometry before, and at the results after, each call of another one."""

    implemented_properties = ['energy', 'free_energy', 'forces', 'stress']

    def __init__(self, calculator: Calculator, guards: Guards) -> None:
        super().__init__()
        self._calculator = calculator
        self._guards = guards

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """Return what changed since the last call: in molecular dynamics, positions and cell or nothing."""
        if self.atoms is None:
            return list(all_changes)
        pairs = {'positions': (self.atoms.positions, atoms.positions), 'cell': (self.atoms.cell, atoms.cell)}
        return [name for name, (before, now) in pairs.items() if not np.array_equal(before, now)]

    def calculate(
        self, atoms: Atoms | None = None, properties: list[str] | None = None, system_changes: list[str] = all_changes
    ) -> None:
        """Compute energy, forces and stress, or raise `GuardTripped`."""
        super().calculate(atoms, properties, system_changes)
        assert self.atoms is not None
        self._guards.before_forces(self.atoms)
        self._calculator.calculate(self.atoms, self.implemented_properties, system_changes)
        results = self._calculator.results
        self._guards.after_forces(results)
        self.results = {
            'energy': float(results['energy']),
            'free_energy': float(results['energy']),
            'forces': np.asarray(results['forces'], dtype=float),
            'stress': np.asarray(results['stress'], dtype=float),
        }
