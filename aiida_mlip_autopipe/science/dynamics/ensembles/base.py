"""How an ensemble is written.

An ensemble is one class: what it needs, its equations of motion for each engine, and what a paper says of it. Its name
is that of its entry point in the group ``aiida_mlip_autopipe.ensembles`` and the value of ``exploration.ensemble``. It
takes its time constants from the parameters of the dynamics. One of another package, for the engine ``ase`` alone::

    class NoseHoover(Ensemble):
        \"\"\"Constant volume and temperature: a chain of Nosé-Hoover thermostats.\"\"\"

        integrators = {'ase': 'Nosé-Hoover chain'}

        def ase_production(self, atoms, target_K, pressure_GPa, rng):
            timestep, time = (x * units.fs for x in (self.parameters.timestep_fs, self.parameters.thermostat_time_fs))
            return AseStep(NoseHooverChainNVT(atoms, timestep, temperature_K=target_K, tdamp=time))

        def sentence(self, engine):
            return 'The temperature was controlled at constant volume by a chain of Nosé-Hoover thermostats.'

and in its ``pyproject.toml``::

    [project.entry-points."aiida_mlip_autopipe.ensembles"]
    nose_hoover = "my_package.nose_hoover:NoseHoover"

An integrator that remembers more than positions, momenta and cell overrides `AseStep.state` and `AseStep.restore`: a
replica that was interrupted goes on bit for bit, and the tests of all ensembles hold it to that.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from aiida_mlip_autopipe.science.references import Reference
from aiida_mlip_autopipe.science.registry import ENSEMBLES

if TYPE_CHECKING:
    import numpy as np
    from ase import Atoms

    from aiida_mlip_autopipe.science.dynamics.ase.steps import AseStep
    from aiida_mlip_autopipe.science.dynamics.batch.integrators import Integrator
    from aiida_mlip_autopipe.science.parameters import DynamicsParameters

__all__ = ['Ensemble', 'ensemble_of']


class Ensemble(ABC):
    """An ensemble and how each engine samples it.

    Parameters
    ----------
    parameters : DynamicsParameters
        Time step and time constants.

    Attributes
    ----------
    rank : int
        Where several ensembles would do, that of the lowest rank is suggested.
    controls_temperature, controls_pressure : bool
        Whether there is a thermostat, and a barostat: then each replica has a target pressure.
    needs_stress : bool
        Whether the potential must give stresses at each step.
    needs_periodic_cell : bool
        Whether structures must fill their cell in three directions: one with vacuum has no pressure.
    integrators : mapping
        Name of an engine -> name of the integrator that samples the ensemble there, which is recorded with the frames.
        An engine that is missing cannot be used.
    """

    rank: ClassVar[int] = 100
    controls_temperature: ClassVar[bool] = True
    controls_pressure: ClassVar[bool] = False
    needs_stress: ClassVar[bool] = False
    needs_periodic_cell: ClassVar[bool] = False
    integrators: ClassVar[Mapping[str, str]] = {}

    def __init__(self, parameters: DynamicsParameters) -> None:
        self.parameters = parameters

    def ase_equilibration(
        self, atoms: Atoms, target_K: float, pressure_GPa: float, rng: np.random.Generator
    ) -> AseStep:
        """Return what moves the atoms before frames are written; arguments as for :meth:`ase_production`."""
        from aiida_mlip_autopipe.science.dynamics.ase.steps import berendsen

        return berendsen(atoms, self.parameters, target_K)

    @abstractmethod
    def ase_production(self, atoms: Atoms, target_K: float, pressure_GPa: float, rng: np.random.Generator) -> AseStep:
        """Return what moves the atoms with ASE.

        Parameters
        ----------
        atoms : Atoms
            With calculator and momenta, without constraints.
        target_K, pressure_GPa : float
            Target temperature, in K, and pressure, in GPa.
        rng : numpy.random.Generator
            All random numbers come from here.
        """

    def batch_step(self) -> Integrator:
        """Return the equations of motion of a batch, for the engine torchsim."""
        raise NotImplementedError(f'{type(self).__name__} has no equations of motion for the engine torchsim')

    @abstractmethod
    def sentence(self, engine: str) -> str:
        """Return what the methods section of a paper says of thermostat and barostat, for runs with an engine."""

    def references(self, engine: str) -> tuple[Reference, ...]:
        """Return the publications that the sentence cites."""
        return ()


def ensemble_of(parameters: DynamicsParameters) -> Ensemble:
    """Return the ensemble that the parameters ask for."""
    return ENSEMBLES[parameters.ensemble](parameters)
