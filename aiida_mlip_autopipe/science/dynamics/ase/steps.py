"""One step after the other of an integrator of ASE, and what it remembers from step to step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms, units
from ase.constraints import FixCom
from ase.md.nvtberendsen import NVTBerendsen

if TYPE_CHECKING:
    from aiida_mlip_autopipe.science.parameters import DynamicsParameters

__all__ = ['AseStep', 'berendsen', 'keep_centre_at_rest']


class AseStep:
    """The steps of an integrator that remembers nothing beside positions, momenta and cell.

    Parameters
    ----------
    integrator : MolecularDynamics of ASE
        With a thermostat.
    """

    def __init__(self, integrator: Any) -> None:
        self.integrator = integrator

    def step(self) -> None:
        """Make one step."""
        self.integrator.step()

    def set_temperature(self, temperature_K: float) -> None:
        """Change the target temperature on the way, for a ramp."""
        self.integrator.set_temperature(temperature_K=temperature_K)

    def state(self) -> dict[str, np.ndarray]:
        """Return what a checkpoint must hold beside positions, momenta, cell and the state of the random numbers."""
        return {}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take up what :meth:`state` gave."""


def berendsen(atoms: Atoms, parameters: DynamicsParameters, target_K: float) -> AseStep:
    """Return Berendsen's thermostat (H. J. C. Berendsen et al., J. Chem. Phys. 81, 3684 (1984))."""
    timestep, time = parameters.timestep_fs * units.fs, parameters.thermostat_time_fs * units.fs
    return AseStep(NVTBerendsen(atoms, timestep, temperature_K=target_K, taut=time, fixcm=True))


def keep_centre_at_rest(atoms: Atoms) -> None:
    """Fix the centre of mass of more than one atom."""
    if len(atoms) > 1:
        atoms.set_constraint(FixCom())
