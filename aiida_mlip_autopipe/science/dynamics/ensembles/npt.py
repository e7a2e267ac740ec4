"""Constant temperature and pressure, the cell scaled in all directions alike.

With ASE: Martyna-Tobias-Klein (J. Chem. Phys. 101, 4177 (1994)), equilibrated by Berendsen's thermostat and barostat
(H. J. C. Berendsen et al., J. Chem. Phys. 81, 3684 (1984)). It counts 3 N degrees of freedom while the centre of mass
rests: with few atoms the others would be too hot by N / (N - 1). It is therefore told of one atom less. Its
barostat_time_fs is no period: that with which a solid's volume swings is four to ten times shorter, and the time step
must resolve it.

In a batch: Langevin dynamics with the volume moved by stochastic cell rescaling (M. Bernetti, G. Bussi, J. Chem. Phys.
153, 114107 (2020)); thermostat and barostat are both stochastic, and so ergodic with few atoms.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms, units
from ase.md.nose_hoover_chain import IsotropicMTKNPT
from ase.md.nptberendsen import NPTBerendsen

from aiida_mlip_autopipe.science.dynamics.ase.steps import AseStep
from aiida_mlip_autopipe.science.dynamics.batch.integrators import MAX_RESCALING, Integrator
from aiida_mlip_autopipe.science.dynamics.ensembles.base import Ensemble
from aiida_mlip_autopipe.science.dynamics.ensembles.nvt import LEIMKUHLER, LangevinStep
from aiida_mlip_autopipe.science.references import Reference

if TYPE_CHECKING:
    from torch import Tensor

    from aiida_mlip_autopipe.science.dynamics.batch.state import Batch
    from aiida_mlip_autopipe.science.parameters import DynamicsParameters

__all__ = ['NPT']

COMPRESSIBILITY_PER_GPA = 0.01
"""Of a solid of 100 GPa, for the Berendsen barostat: it scales how fast the cell follows, not where it goes."""

MARTYNA = Reference(
    'G. J. Martyna, D. J. Tobias, M. L. Klein, J. Chem. Phys. 101, 4177 (1994)', 'https://doi.org/10.1063/1.467468'
)
BERNETTI = Reference('M. Bernetti, G. Bussi, J. Chem. Phys. 153, 114107 (2020)', 'https://doi.org/10.1063/5.0020514')


class NPT(Ensemble):
    """Constant temperature and isotropic pressure: Martyna-Tobias-Klein (ase), stochastic cell rescaling (torchsim)."""

    rank = 10
    controls_pressure = True
    needs_stress = True
    needs_periodic_cell = True
    integrators = {'ase': 'Martyna-Tobias-Klein', 'torchsim': 'stochastic cell rescaling'}

    def ase_equilibration(
        self, atoms: Atoms, target_K: float, pressure_GPa: float, rng: np.random.Generator
    ) -> AseStep:
        """Return Berendsen's thermostat and barostat."""
        thermostat, barostat = self._times()
        return AseStep(
            NPTBerendsen(
                atoms,
                self.parameters.timestep_fs * units.fs,
                temperature_K=target_K,
                taut=thermostat,
                taup=barostat,
                pressure_au=pressure_GPa * units.GPa,
                compressibility_au=COMPRESSIBILITY_PER_GPA / units.GPa,
                fixcm=True,
            )
        )

    def ase_production(self, atoms: Atoms, target_K: float, pressure_GPa: float, rng: np.random.Generator) -> AseStep:
        """Return Martyna-Tobias-Klein's equations."""
        thermostat, barostat = self._times()
        step = _MartynaTobiasKlein(
            IsotropicMTKNPT(
                atoms,
                self.parameters.timestep_fs * units.fs,
                temperature_K=target_K,
                pressure_au=pressure_GPa * units.GPa,
                tdamp=thermostat,
                pdamp=barostat,
            )
        )
        if len(atoms) > 1:
            step.count_centre_as_at_rest()
        return step

    def _times(self) -> tuple[float, float]:
        """Return the time constants of thermostat and barostat in ASE's unit of time."""
        return self.parameters.thermostat_time_fs * units.fs, self.parameters.barostat_time_fs * units.fs

    def batch_step(self) -> Integrator:
        """Return Langevin dynamics with stochastic cell rescaling."""
        return _CellRescaling(self.parameters)

    def sentence(self, engine: str) -> str:
        """Return what a paper says."""
        times = [f'{time:g} fs' for time in (self.parameters.thermostat_time_fs, self.parameters.barostat_time_fs)]
        return (
            'Temperature and pressure were controlled, the cell scaled isotropically '
            f'({self.integrators[engine]}, time constants {" and ".join(times)}).'
        )

    def references(self, engine: str) -> tuple[Reference, ...]:
        """Return where the integrator of the engine is from."""
        return {'ase': (MARTYNA,), 'torchsim': (LEIMKUHLER, BERNETTI)}[engine]


class _MartynaTobiasKlein(AseStep):
    """Martyna-Tobias-Klein's integrator, with what its chains of thermostats remember.

    ASE has no public way to that. Numbers that do not change from step to step come along; a restored replica must go
    on bit for bit, and a test holds it to that.
    """

    def set_temperature(self, temperature_K: float) -> None:
        """Change the thermal energy of each part, and the masses that go with it."""
        energy = units.kB * temperature_K
        for _, memory in self._memories():
            ratio = energy / memory._kT
            memory._kT = energy
            for name in ('_Q', '_R', '_W'):
                if hasattr(memory, name):
                    setattr(memory, name, getattr(memory, name) * ratio)

    def state(self) -> dict[str, np.ndarray]:
        """Return the numbers of integrator, thermostat and barostat."""
        return {
            f'{owner}.{name}': np.array(value)
            for owner, memory in self._memories()
            for name, value in vars(memory).items()
            if isinstance(value, float | np.ndarray)
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take up the numbers."""
        memories = dict(self._memories())
        for path, value in state.items():
            owner, name = path.split('.', 1)
            setattr(memories[owner], name, value.copy() if value.ndim else float(value))

    def count_centre_as_at_rest(self) -> None:
        """Count 3 N - 3 degrees of freedom in place of 3 N."""
        thermostat = self.integrator._thermostat
        thermostat._Q[0] *= 1 - 1 / thermostat._num_atoms_global
        for memory in (self.integrator, thermostat):
            memory._num_atoms_global -= 1

    def _memories(self) -> Iterator[tuple[str, Any]]:
        yield '', self.integrator
        yield 'thermostat', self.integrator._thermostat
        yield 'barostat', self.integrator._barostat


class _CellRescaling(LangevinStep):
    """Langevin dynamics of a batch, with the volumes moved by stochastic cell rescaling."""

    moves_volumes = True

    def __init__(self, parameters: DynamicsParameters) -> None:
        super().__init__(parameters, math.exp(-parameters.timestep_fs / parameters.thermostat_time_fs))
        self._barostat_time = parameters.barostat_time_fs * units.fs

    def rescale(self, batch: Batch, energy: Tensor, production: Tensor) -> None:
        """Move the volume by a step in its root; positions and cell follow, momenta go the other way.

        The kinetic part of the pressure counts all atoms, also the centre of mass, whose momentum was taken away.
        """
        volume = batch.volume()
        pressure = (2 * batch.kinetic_energy() / 3 + energy * batch.rest) / volume + batch.virial
        rate = batch.compressibility * self.timestep / (2 * self._barostat_time)
        force = pressure - batch.pressure + production * energy / (2 * volume)
        noise = production * (energy * rate / volume).sqrt() * self.noise.systems(batch)
        change = (rate * force + noise).clamp(-MAX_RESCALING, MAX_RESCALING)
        factor = (1 + change) ** (2 / 3)
        batch.cell = factor[:, None, None] * batch.cell
        batch.positions = factor[batch.owner][:, None] * batch.positions
        batch.momenta = batch.momenta / factor[batch.owner][:, None]
