"""Guards: when a replica has left physics, it is stopped before it costs time or yields nonsense.

Neither energies nor forces of a learned potential reveal a collision or a collapse (two atoms at 0.5 Å can have a
normal energy), so geometry and temperature are watched. A force call on positions that are not finite can take minutes,
and one on a collapsed cell or on atoms flung out of it can exhaust the memory: these are looked at before each call.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_changes
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list

from aiida_mlip_autopipe.science.parameters import GuardParameters

__all__ = ['GuardTripped', 'GuardedCalculator', 'Guards', 'degrees_of_freedom', 'temperature']

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
    """

    def __init__(self, name: str, value: float, bound: float) -> None:
        super().__init__(f'{name}: {value:g} (bound {bound:g})')
        self.name = name
        self.value = float(value)
        self.bound = float(bound)

    def record(self, step: int) -> dict[str, Any]:
        """Return the entry for the manifest; a value that is not finite becomes None."""
        value = self.value if math.isfinite(self.value) else None
        return {'name': self.name, 'step': step, 'value': value, 'bound': self.bound}


def degrees_of_freedom(n_atoms: int) -> int:
    """Return the number of momenta that move freely: the centre of mass rests unless it is the only atom."""
    return 3 * n_atoms - 3 if n_atoms > 1 else 3


def temperature(atoms: Atoms) -> float:
    """Return the kinetic temperature, in K, of atoms whose centre of mass rests."""
    return 2 * atoms.get_kinetic_energy() / (units.kB * degrees_of_freedom(len(atoms)))


class Guards:
    """The checks of one replica.

    Parameters
    ----------
    atoms : Atoms
        The replica before its first step: volume and composition are taken from it.
    parameters : GuardParameters
        Bounds.
    temperature_K : float
        Target temperature; the bound allows for its fluctuations with few atoms.
    """

    def __init__(self, atoms: Atoms, parameters: GuardParameters, temperature_K: float) -> None:
        self._parameters = parameters
        self._volume = abs(float(np.linalg.det(atoms.cell.array)))
        self._radii = parameters.min_distance_factor * covalent_radii[atoms.numbers]
        self._positions: np.ndarray | None = None
        self._energy: float | None = None
        self._max_temperature = parameters.max_temperature_factor * temperature_K * (1 + 5 / math.sqrt(3 * len(atoms)))

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

    def after_forces(self, results: dict[str, Any]) -> None:
        """Check that energy and forces are finite."""
        if not (math.isfinite(results['energy']) and np.isfinite(results['forces']).all()):
            raise GuardTripped('finite_forces', math.nan, 0.0)

    def after_step(self, atoms: Atoms) -> None:
        """Check the temperature."""
        value = temperature(atoms)
        if not value <= self._max_temperature:  # also if it is not a number
            raise GuardTripped('max_temperature_K', value, self._max_temperature)

    def structure(self, atoms: Atoms) -> None:
        """Check the shortest distance and the energy per atom; the first call sets the energy of reference."""
        first, second, distances = neighbor_list('ijd', atoms, self._radii)
        if len(distances):
            factor = self._parameters.min_distance_factor
            allowed = self._radii[first] + self._radii[second]
            raise GuardTripped('min_distance_factor', float((distances / allowed).min()) * factor, factor)
        energy = atoms.get_potential_energy() / len(atoms)
        self._energy = energy if self._energy is None else self._energy
        if abs(energy - self._energy) > self._parameters.energy_window_eV:
            raise GuardTripped('energy_window_eV', energy - self._energy, self._parameters.energy_window_eV)


class GuardedCalculator(Calculator):
    """An ASE calculator that looks at the geometry before, and at the results after, each call of another one."""

    implemented_properties = ['energy', 'free_energy', 'forces', 'stress']

    def __init__(self, calculator: Calculator, guards: Guards) -> None:
        super().__init__()
        self._calculator = calculator
        self._guards = guards

    def calculate(self, atoms: Atoms | None = None, properties: Any = None, system_changes: Any = all_changes) -> None:
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
