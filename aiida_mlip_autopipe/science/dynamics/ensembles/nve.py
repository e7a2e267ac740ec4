"""Constant volume and energy: velocity Verlet with both engines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms, units
from ase.md.verlet import VelocityVerlet

from aiida_mlip_autopipe.science.dynamics.ase.steps import AseStep, keep_centre_at_rest
from aiida_mlip_autopipe.science.dynamics.ensembles.base import Ensemble

if TYPE_CHECKING:
    from aiida_mlip_autopipe.science.dynamics.batch.integrators import Integrator

__all__ = ['NVE']


class NVE(Ensemble):
    """Constant volume and energy: velocity Verlet, without a thermostat."""

    rank = 20
    controls_temperature = False
    integrators = {'ase': 'velocity Verlet', 'torchsim': 'velocity Verlet'}

    def ase_production(self, atoms: Atoms, target_K: float, pressure_GPa: float, rng: np.random.Generator) -> AseStep:
        """Return velocity Verlet."""
        keep_centre_at_rest(atoms)
        return _WithoutThermostat(VelocityVerlet(atoms, self.parameters.timestep_fs * units.fs))

    def batch_step(self) -> Integrator:
        """Return velocity Verlet."""
        from aiida_mlip_autopipe.science.dynamics.batch.integrators import Integrator

        return Integrator(self.parameters)

    def sentence(self, engine: str) -> str:
        """Return what a paper says."""
        return f'Volume and energy were constant ({self.integrators[engine]}).'


class _WithoutThermostat(AseStep):
    def set_temperature(self, temperature_K: float) -> None:
        """Leave the energy as it is."""
