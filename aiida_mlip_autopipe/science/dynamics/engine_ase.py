"""Molecular dynamics of one replica with ASE, and single points.

nvt: Langevin dynamics (E. Vanden-Eijnden, G. Ciccotti, Chem. Phys. Lett. 429, 310 (2006)), the centre of mass fixed.
npt: isotropic Martyna-Tobias-Klein (J. Chem. Phys. 101, 4177 (1994)). All random numbers come from one generator, so
that a seed gives the same trajectory, bit for bit, on one thread.

ASE's Martyna-Tobias-Klein counts 3 N degrees of freedom while the centre of mass rests: with few atoms the others would
be too hot by N / (N - 1). Its temperature is therefore lowered by that factor.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator
from ase.constraints import FixCom
from ase.md.langevin import Langevin
from ase.md.nose_hoover_chain import IsotropicMTKNPT

from aiida_mlip_autopipe.science.dynamics.guards import (
    GuardedCalculator,
    Guards,
    GuardTripped,
    degrees_of_freedom,
    temperature,
)
from aiida_mlip_autopipe.science.parameters import DynamicsParameters
from aiida_mlip_autopipe.science.training.potential import check_elements, inspect_potential, load_calculator

__all__ = ['run_dynamics', 'single_point']

Sink = Callable[[int, np.ndarray, np.ndarray, float, float, float], None]


def run_dynamics(
    seed: Atoms,
    calculator: Calculator,
    parameters: DynamicsParameters,
    *,
    temperature_K: float,
    pressure_GPa: float | None,
    random_seed: int,
    sink: Sink,
) -> dict[str, Any] | None:
    """Run one replica and hand its frames to ``sink``.

    Parameters
    ----------
    seed : Atoms
        Starting structure; not changed.
    calculator : Calculator
        Gives energy, forces and stress.
    parameters : DynamicsParameters
        Ensemble, steps, time constants and guards.
    temperature_K : float
        Target temperature, in K.
    pressure_GPa : float or None
        Target pressure, in GPa; None with nvt.
    random_seed : int
        Seed of the velocities and the thermostat.
    sink : callable
        ``sink(step, positions, cell, energy, temperature, max_force)``, called every ``sample_interval`` steps; the
        last is the norm of the largest force on an atom, in eV/Å.

    Returns
    -------
    dict or None
        The guard that ended the replica, as the manifest records it; None if it ran to the end.
    """
    rng = np.random.default_rng(random_seed)
    atoms = Atoms(numbers=seed.numbers, positions=seed.positions, cell=seed.cell, pbc=seed.pbc)
    guards = Guards(atoms, parameters.guards, temperature_K)
    atoms.calc = GuardedCalculator(calculator, guards)
    step = 0
    try:
        with np.errstate(all='ignore'):  # what overflows here is caught by the guards
            guards.before_forces(atoms)
            guards.structure(atoms)
            dynamics = _start(atoms, parameters, temperature_K, pressure_GPa, rng)
            for step in range(1, parameters.n_steps + 1):
                dynamics.step()
                guards.after_step(atoms)
                writes = step % parameters.sample_interval == 0
                if writes or step % parameters.guards.check_interval == 0:
                    guards.structure(atoms)
                if writes:
                    energy, force = atoms.get_potential_energy(), _max_force(atoms)
                    sink(step, atoms.positions, atoms.cell.array, energy, temperature(atoms), force)
    except GuardTripped as tripped:
        return tripped.record(step)
    return None


def _max_force(atoms: Atoms) -> float:
    """Return the norm of the largest force on an atom, in eV/Å, from the results at hand."""
    return float(np.linalg.norm(atoms.get_forces(apply_constraint=False), axis=1).max())


def _start(
    atoms: Atoms,
    parameters: DynamicsParameters,
    temperature_K: float,
    pressure_GPa: float | None,
    rng: np.random.Generator,
) -> Langevin | IsotropicMTKNPT:
    """Draw velocities, let the centre of mass rest and return the integrator."""
    masses = atoms.get_masses()[:, np.newaxis]
    momenta = rng.standard_normal((len(atoms), 3)) * np.sqrt(masses * units.kB * temperature_K)
    if len(atoms) > 1:
        momenta -= masses * momenta.sum(axis=0) / masses.sum()
    atoms.set_momenta(momenta)
    if parameters.ensemble == 'npt':
        return IsotropicMTKNPT(
            atoms,
            timestep=parameters.timestep_fs * units.fs,
            temperature_K=temperature_K * degrees_of_freedom(len(atoms)) / (3 * len(atoms)),
            pressure_au=(pressure_GPa or 0.0) * units.GPa,
            tdamp=parameters.thermostat_time_fs * units.fs,
            pdamp=parameters.barostat_time_fs * units.fs,
        )
    if len(atoms) > 1:
        atoms.set_constraint(FixCom())
    return Langevin(
        atoms,
        timestep=parameters.timestep_fs * units.fs,
        temperature_K=temperature_K,
        friction=parameters.friction_per_fs / units.fs,
        fixcm=False,
        rng=rng,
    )


def single_point(potential: Path, atoms: Atoms, dtype: str = 'float64', device: str = 'auto') -> dict[str, Any]:
    """Return what a potential says about one structure.

    Returns
    -------
    dict
        ``energy`` (float, eV), ``forces`` (ndarray (N, 3), eV/Å), ``stress`` (ndarray (6,), eV/Å³, Voigt, ASE's sign).

    Raises
    ------
    PotentialError
        If the potential is unusable or does not know an element.
    """
    check_elements(inspect_potential(potential)['elements'], [atoms], potential)
    calculator = load_calculator(potential, dtype, device)
    calculator.calculate(atoms)
    return {
        'energy': float(calculator.results['energy']),
        'forces': np.asarray(calculator.results['forces'], dtype=float),
        'stress': np.asarray(calculator.results['stress'], dtype=float),
    }
