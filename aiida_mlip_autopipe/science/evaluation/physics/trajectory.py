"""Molecular dynamics of the supercell with the potential alone, under the guards of the exploration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.constraints import FixCom
from ase.md.langevin import Langevin
from ase.md.verlet import VelocityVerlet

from aiida_mlip_autopipe.science.dynamics.ase.trajectory import draw_velocities
from aiida_mlip_autopipe.science.dynamics.guards import GuardedCalculator, Guards
from aiida_mlip_autopipe.science.evaluation.physics.base import Context
from aiida_mlip_autopipe.science.evaluation.physics.crystal import supercell_of
from aiida_mlip_autopipe.science.generate.supercell import isotropic_supercell
from aiida_mlip_autopipe.science.systems import fills_its_cell

__all__ = ['trajectory']


def trajectory(context: Context, ensemble: str, n_steps: int) -> Iterator[Atoms]:
    """Yield the supercell after each step, and raise `GuardTripped` where it leaves physics.

    Parameters
    ----------
    context : Context
        The potential, the crystal, time step, temperature, guards and random seed.
    ensemble : str
        'nve': the perfect crystal starts at twice the temperature, half of which becomes potential energy; 'nvt':
        Langevin, from the temperature.
    n_steps : int
        Steps.
    """
    parameters = context.parameters
    rng = np.random.default_rng((parameters.random_seed, len(ensemble), ensemble == 'nve'))
    atoms = _supercell(context)
    start_K = parameters.temperature_K * (2 if ensemble == 'nve' else 1)
    guards = Guards(atoms, parameters.guards, start_K)
    atoms.calc = GuardedCalculator(context.calculator, guards)
    draw_velocities(atoms, start_K, rng)
    integrator = _integrator(atoms, ensemble, context, rng)
    guards.before_forces(atoms)
    guards.structure(atoms)
    for step in range(1, n_steps + 1):
        with np.errstate(all='ignore'):  # what overflows here is caught by the guards
            integrator.step()
        guards.after_step(atoms)
        if step % parameters.guards.check_interval == 0:
            guards.structure(atoms)
        yield atoms


def _supercell(context: Context) -> Atoms:
    if fills_its_cell(context.pristine):
        return supercell_of(context.pristine, context.parameters)
    return isotropic_supercell(context.pristine, context.parameters.supercell_atoms)


def _integrator(atoms: Atoms, ensemble: str, context: Context, rng: np.random.Generator) -> Any:
    parameters = context.parameters
    timestep = parameters.timestep_fs * units.fs
    if ensemble == 'nve':
        return VelocityVerlet(atoms, timestep)
    if len(atoms) > 1:
        atoms.set_constraint(FixCom())
    friction = parameters.friction_per_fs / units.fs
    return Langevin(atoms, timestep, temperature_K=parameters.temperature_K, friction=friction, fixcm=False, rng=rng)
