"""Constant volume and temperature: Langevin dynamics with both engines, the centre of mass at rest.

With ASE in the splitting of E. Vanden-Eijnden and G. Ciccotti, Chem. Phys. Lett. 429, 310 (2006). In a batch in the
splitting BAOAB (B. Leimkuhler, C. Matthews, Appl. Math. Res. Express 2013, 34); the temperature of a frame is that of
the momenta in the middle of the step, just after the thermostat: for harmonic forces they are exact there, while at the
end of the step they are too cold by a fraction (omega dt)**2 / 4 (Z. Zhang et al., J. Phys. Chem. A 123, 6056 (2019)).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms, units
from ase.md.langevin import Langevin

from aiida_mlip_autopipe.science.dynamics.ase.steps import AseStep, keep_centre_at_rest
from aiida_mlip_autopipe.science.dynamics.batch.integrators import Integrator, drift_of_centre
from aiida_mlip_autopipe.science.dynamics.ensembles.base import Ensemble
from aiida_mlip_autopipe.science.references import Reference

if TYPE_CHECKING:
    from torch import Tensor

    from aiida_mlip_autopipe.science.dynamics.batch.state import Batch
    from aiida_mlip_autopipe.science.parameters import DynamicsParameters

__all__ = ['NVT', 'LangevinStep']

VANDEN_EIJNDEN = Reference(
    'E. Vanden-Eijnden, G. Ciccotti, Chem. Phys. Lett. 429, 310 (2006)', 'https://doi.org/10.1016/j.cplett.2006.07.086'
)
LEIMKUHLER = Reference(
    'B. Leimkuhler, C. Matthews, Appl. Math. Res. Express 2013, 34 (2013)', 'https://doi.org/10.1093/amrx/abs010'
)


class NVT(Ensemble):
    """Constant volume and temperature: Langevin dynamics."""

    rank = 0
    integrators = {'ase': 'Langevin', 'torchsim': 'Langevin (BAOAB)'}

    def ase_production(self, atoms: Atoms, target_K: float, pressure_GPa: float, rng: np.random.Generator) -> AseStep:
        """Return Langevin dynamics."""
        keep_centre_at_rest(atoms)
        timestep, friction = self.parameters.timestep_fs * units.fs, self.parameters.friction_per_fs / units.fs
        return AseStep(Langevin(atoms, timestep, temperature_K=target_K, friction=friction, fixcm=False, rng=rng))

    def batch_step(self) -> Integrator:
        """Return Langevin dynamics."""
        keep = math.exp(-self.parameters.friction_per_fs * self.parameters.timestep_fs)
        return LangevinStep(self.parameters, keep)

    def sentence(self, engine: str) -> str:
        """Return what a paper says."""
        friction = f'{1e3 * self.parameters.friction_per_fs:g} ps⁻¹'
        return f'The temperature was controlled at constant volume ({self.integrators[engine]}, friction {friction}).'

    def references(self, engine: str) -> tuple[Reference, ...]:
        """Return where the splitting of the engine is from."""
        return {'ase': (VANDEN_EIJNDEN,), 'torchsim': (LEIMKUHLER,)}[engine]


class LangevinStep(Integrator):
    """Langevin dynamics of a batch.

    Parameters
    ----------
    parameters : DynamicsParameters
        Time step and time constants.
    keep : float
        The part of the momenta that is left after a step.
    """

    measures_at_end = False

    def __init__(self, parameters: DynamicsParameters, keep: float) -> None:
        super().__init__(parameters)
        self._keep = keep

    def thermalise(self, batch: Batch, energy: Tensor, production: Tensor) -> None:
        """Let the momenta forget a part of what they were, and give them noise instead."""
        keep = 1 - production * (1 - self._keep)
        width = ((1 - keep**2) * energy)[batch.owner] * batch.masses
        batch.momenta = keep[batch.owner][:, None] * batch.momenta + width.sqrt()[:, None] * self.noise.atoms(batch)
        batch.momenta = batch.momenta - drift_of_centre(batch)
        batch.temperature = batch.kinetic_temperature()
