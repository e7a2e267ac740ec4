"""Equations of motion of a batch: each replica at its own step, temperature and pressure.

Velocity Verlet, with places for a thermostat in the middle of the step and for a barostat before: an ensemble fills
them. Equilibration: Berendsen (H. J. C. Berendsen et al., J. Chem. Phys. 81, 3684 (1984)). The centre of mass rests,
and momenta have 3 N - 3 degrees of freedom.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from ase import units

from aiida_mlip_autopipe.science.dynamics.batch.random import BAROSTAT, THERMOSTAT, VELOCITIES, standard_normal

if TYPE_CHECKING:
    from torch import Tensor

    from aiida_mlip_autopipe.science.dynamics.batch.state import Batch, Slot
    from aiida_mlip_autopipe.science.parameters import DynamicsParameters

__all__ = ['MAX_RESCALING', 'Integrator', 'draw_momenta', 'drift_of_centre']

MAX_RESCALING = 0.1
"""Most that one step changes the root of the volume, or an equilibration the momenta, as a fraction."""

NOISE_ATOM_STEPS = 200_000
MAX_NOISE_STEPS = 16
"""Noise is drawn ahead for so many atoms times steps, and at most so many steps: fewer, larger calls of the device."""


def draw_momenta(batch: Batch) -> None:
    """Draw momenta from Maxwell and Boltzmann's distribution at the target of the first step; the centre rests."""
    energy = units.kB * batch.masses.new_tensor([slot.replica.temperature_K for slot in batch.slots])
    noise = standard_normal(batch.seed[batch.owner], VELOCITIES, batch.index * 0, batch.index)
    batch.momenta = (batch.masses * energy[batch.owner]).sqrt()[:, None] * noise
    batch.momenta = batch.momenta - drift_of_centre(batch)


def drift_of_centre(batch: Batch) -> Tensor:
    """Return the part of the momenta that moves the centre of mass; zero for a single atom. Shape (n, 3)."""
    velocity = (batch.rest / batch.total(batch.masses))[:, None] * batch.total(batch.momenta)
    return batch.masses[:, None] * velocity[batch.owner]


class Integrator:
    """The two halves of a step, before and after the forces: velocity Verlet, unless an ensemble adds to it.

    Parameters
    ----------
    parameters : DynamicsParameters
        Time step and time constants.

    Attributes
    ----------
    measures_at_end : bool
        Whether the temperature of a frame is that at the end of the step; else :meth:`thermalise` measures it.
    moves_volumes : bool
        Whether :meth:`rescale` needs random numbers.
    timestep : float
        In ASE's unit of time.
    noise : Noise
        Random numbers for the momenta and volumes of a step.
    """

    measures_at_end: ClassVar[bool] = True
    moves_volumes: ClassVar[bool] = False

    def __init__(self, parameters: DynamicsParameters) -> None:
        self.timestep = parameters.timestep_fs * units.fs
        self.noise = Noise(volumes=self.moves_volumes)
        self._n_steps = parameters.n_steps
        self._berendsen = parameters.timestep_fs / parameters.thermostat_time_fs
        self._slots: list[Slot] = []
        self._targets_K = np.zeros(0)
        self._ramps = False

    def rescale(self, batch: Batch, energy: Tensor, production: Tensor) -> None:
        """Change cells, before positions are moved.

        Parameters
        ----------
        batch : Batch
            Its tensors are replaced, not changed.
        energy : tensor, shape (K,)
            Thermal energies of the targets, in eV.
        production : tensor, shape (K,)
            1 for replicas in production, 0 for those that equilibrate.
        """

    def thermalise(self, batch: Batch, energy: Tensor, production: Tensor) -> None:
        """Change momenta, in the middle of the step; arguments as for :meth:`rescale`."""

    def before_forces(self, batch: Batch) -> None:
        """Move the replicas to the positions of their next step."""
        batch.steps = batch.steps + 1
        energy, production = self._targets(batch)
        self._kick(batch)
        self.rescale(batch, energy, production)
        self._drift(batch)
        self.thermalise(batch, energy, production)
        self._drift(batch)

    def after_forces(self, batch: Batch) -> Tensor:
        """Bring the momenta to the end of the step; return the temperatures there, in K, shape (K,)."""
        self._kick(batch)
        temperature = batch.kinetic_temperature()
        equilibrating = batch.steps <= 0
        if equilibrating.any():
            temperature = self._equilibrate(batch, temperature)
        if self.measures_at_end:
            batch.temperature = temperature
        return temperature

    def _targets(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return thermal energies, in eV, and 1 for production and 0 for equilibration, shapes (K,)."""
        import torch

        if self._slots is not batch.slots:
            self._slots = batch.slots
            self._ramps = any(slot.replica.temperature_end_K is not None for slot in batch.slots)
            self._targets_K = self._read_targets(batch)
        elif self._ramps:
            self._targets_K = self._read_targets(batch)
        columns = torch.as_tensor(np.stack([units.kB * self._targets_K, batch.steps > 0]), device=batch.owner.device)
        return columns[0], columns[1]

    def _read_targets(self, batch: Batch) -> np.ndarray:
        pairs = zip(batch.slots, batch.steps.tolist(), strict=True)
        return np.array([slot.replica.target_K(step, self._n_steps) for slot, step in pairs])

    def _kick(self, batch: Batch) -> None:
        batch.momenta = batch.momenta + (self.timestep / 2) * batch.forces

    def _drift(self, batch: Batch) -> None:
        batch.positions = batch.positions + (self.timestep / 2) * batch.momenta / batch.masses[:, None]

    def _equilibrate(self, batch: Batch, temperature: Tensor) -> Tensor:
        """Scale the momenta of the replicas that equilibrate towards their targets; return the temperatures."""
        energy, production = self._targets(batch)
        target = energy / units.kB
        factor = (1 + self._berendsen * (target / temperature.clamp(min=1e-6) - 1)).clamp(min=0).sqrt()
        factor = factor.clamp(1 - MAX_RESCALING, 1 + MAX_RESCALING)
        factor = production + (1 - production) * factor
        batch.momenta = factor[batch.owner][:, None] * batch.momenta
        batch.temperature = temperature * factor**2
        return batch.temperature


class Noise:
    """Noise drawn some steps ahead, until the batch changes; what is drawn depends on replica and step alone."""

    def __init__(self, *, volumes: bool) -> None:
        self._for_volumes = volumes
        self._slots: list[Slot] = []
        self._first = np.zeros(0, dtype=int)
        self._atoms: Tensor | None = None
        self._systems: Tensor | None = None

    def atoms(self, batch: Batch) -> Tensor:
        """Return standard normal numbers for the momenta, shape (n, 3)."""
        row = self._row(batch)
        assert self._atoms is not None
        return self._atoms[row]

    def systems(self, batch: Batch) -> Tensor:
        """Return standard normal numbers for the volumes, shape (K,)."""
        row = self._row(batch)
        assert self._systems is not None
        return self._systems[row]

    def _row(self, batch: Batch) -> int:
        """Return which of the steps drawn is that of the batch, after drawing anew if none is."""
        import torch

        if self._atoms is not None and self._slots is batch.slots:
            row = int(batch.steps[0] - self._first[0])
            if 0 <= row < len(self._atoms):
                return row
        n_steps = max(1, min(MAX_NOISE_STEPS, NOISE_ATOM_STEPS // batch.n_atoms))
        self._slots, self._first = batch.slots, batch.steps
        ahead = torch.arange(n_steps, device=batch.owner.device)[:, None]
        steps = torch.as_tensor(batch.steps, device=batch.owner.device) + ahead
        index = batch.index.expand(n_steps, -1)
        self._atoms = standard_normal(batch.seed[batch.owner], THERMOSTAT, steps[:, batch.owner], index)
        if self._for_volumes:
            self._systems = standard_normal(batch.seed, BAROSTAT, steps, torch.zeros_like(steps))[..., 0]
        return 0
