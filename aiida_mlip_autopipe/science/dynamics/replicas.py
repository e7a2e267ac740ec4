"""Replicas: each seed at each strain, temperature and pressure of the grid, with a random seed of its own.

A replica is a function of its starting structure, its conditions and its random seed alone: it does not matter in which
job, process or batch it runs, nor what its neighbours do.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from aiida_mlip_autopipe.science.generate.supercell import isotropic_supercell
from aiida_mlip_autopipe.science.random_seeds import derived_seed
from aiida_mlip_autopipe.science.registry import ENSEMBLES
from aiida_mlip_autopipe.science.systems import filled_space, fills_its_cell

if TYPE_CHECKING:
    from ase import Atoms

    from aiida_mlip_autopipe.science.parameters import DynamicsParameters

__all__ = ['Cost', 'Replica', 'ReplicaPlan']

BYTES_PER_FRAME, BYTES_PER_ATOM = 60, 10
"""What a frame takes on disk, compressed: without its atoms, and for each of them (measured: see the benchmarks)."""


@dataclass(frozen=True)
class Replica:
    """One trajectory to run.

    Attributes
    ----------
    index : int
        Names its shards.
    seed_index : int
        Which starting structure.
    strain : float
        Isotropic strain of its cell, along the axes that are filled.
    temperature_K : float
        Target temperature, in K; where it is a ramp, that of the first step.
    temperature_end_K : float or None
        Of a ramp, the target of the last step.
    pressure_GPa : float or None
        Target pressure; None without a barostat.
    random_seed : int
        Seed of its velocities and its thermostat.
    """

    index: int
    seed_index: int
    strain: float
    temperature_K: float
    temperature_end_K: float | None
    pressure_GPa: float | None
    random_seed: int

    def target_K(self, step: int, n_steps: int) -> float:  # noqa: N802  the unit is part of the name
        """Return the target temperature at a step, in K; before the first step it is that of the first."""
        if self.temperature_end_K is None:
            return self.temperature_K
        progress = min(max(step - 1, 0) / max(n_steps - 1, 1), 1.0)
        return self.temperature_K + progress * (self.temperature_end_K - self.temperature_K)

    @property
    def max_target_K(self) -> float:  # noqa: N802
        """The highest target temperature, in K."""
        return max(self.temperature_K, self.temperature_end_K or 0.0)


@dataclass(frozen=True)
class Cost:
    """What a plan asks for.

    Attributes
    ----------
    n_replicas, n_frames : int
        Trajectories, and frames that they leave at most.
    atom_steps : int
        Atoms times steps, summed: divide by the speed that the doctor measured, in atom-steps/s.
    megabytes : float
        Disk space of the frames at most, in MB.
    """

    n_replicas: int
    n_frames: int
    atom_steps: int
    megabytes: float

    def __str__(self) -> str:
        return (
            f'{self.n_replicas} replicas, {self.atom_steps:.2g} atom-steps, at most {self.n_frames} frames '
            f'({self.megabytes:.3g} MB)'
        )


class ReplicaPlan:
    """All replicas of an exploration, and the structures they start from.

    Parameters
    ----------
    seeds : sequence of Atoms
        Starting structures with ``frame_id`` (and ``origin``) in ``info``.
    parameters : DynamicsParameters
        Grid, supercell and strains.

    Raises
    ------
    ValueError
        If there is no seed, one has no name, or one is not periodic where that is needed.
    """

    def __init__(self, seeds: Sequence[Atoms], parameters: DynamicsParameters) -> None:
        self.parameters = parameters
        self.seeds = tuple(seeds)
        _check_seeds(self.seeds, parameters)
        pressures = parameters.pressures_GPa if ENSEMBLES[parameters.ensemble].controls_pressure else [None]
        grid = itertools.product(range(len(seeds)), parameters.strains, parameters.temperatures_K, pressures)
        self.replicas = [
            Replica(index, seed, strain, *_ends(temperature), pressure, derived_seed(parameters.random_seed, index))
            for index, (seed, strain, temperature, pressure) in enumerate(grid)
        ]

    def share(self, job_index: int, n_jobs: int) -> list[Replica]:
        """Return the replicas of one of several jobs: every ``n_jobs``-th, so that each gets a bit of everything.

        Raises
        ------
        ValueError
            If there is none for this job.
        """
        replicas = self.replicas[job_index::n_jobs]
        if not 0 <= job_index < n_jobs or not replicas:
            raise ValueError(f'job_index {job_index} of n_jobs {n_jobs} has no replica to run: lower n_jobs')
        return replicas

    def atoms(self, replica: Replica) -> Atoms:
        """Return the structure that a replica starts from, with the ``info`` of its seed."""
        atoms = _supercell(self.seeds[replica.seed_index], self.parameters.supercell_atoms)
        if replica.strain:
            deformation = np.eye(3) + replica.strain * filled_space(atoms)
            atoms.set_cell(atoms.cell.array @ deformation)
            atoms.positions = atoms.positions @ deformation
        return atoms

    def cost(self, replicas: Sequence[Replica] | None = None) -> Cost:
        """Return what the replicas, or some of them, ask for."""
        parameters = self.parameters
        chosen = self.replicas if replicas is None else replicas
        sizes = [len(_supercell(seed, parameters.supercell_atoms)) for seed in self.seeds]
        frames = parameters.n_steps // parameters.sample_interval
        n_atoms = sum(sizes[replica.seed_index] for replica in chosen)
        return Cost(
            n_replicas=len(chosen),
            n_frames=len(chosen) * frames,
            atom_steps=n_atoms * (parameters.n_steps + parameters.equilibration_steps),
            megabytes=frames * (len(chosen) * BYTES_PER_FRAME + n_atoms * BYTES_PER_ATOM) / 1e6,
        )


def _ends(temperature: float | tuple[float, float]) -> tuple[float, float | None]:
    return temperature if isinstance(temperature, tuple) else (temperature, None)


def _supercell(seed: Atoms, target_atoms: int | None) -> Atoms:
    if target_atoms is None:
        return seed.copy()
    atoms = isotropic_supercell(seed, target_atoms)
    atoms.info = dict(seed.info)
    return atoms


def _check_seeds(seeds: Sequence[Atoms], parameters: DynamicsParameters) -> None:
    if not seeds:
        raise ValueError('there is no seed structure to start from: give at least one')
    ensemble = ENSEMBLES[parameters.ensemble]
    for index, atoms in enumerate(seeds):
        if 'frame_id' not in atoms.info:
            raise ValueError(f"seed {index} has no info['frame_id']: name it")
        if ensemble.needs_periodic_cell and not (fills_its_cell(atoms) and atoms.cell.rank == 3):
            others = [repr(name) for name, other in ENSEMBLES.items() if not other.needs_periodic_cell]
            raise ValueError(
                f'seed {index} ({atoms.info["frame_id"]}) does not fill a cell in three directions: ensemble '
                f'{parameters.ensemble!r} needs that; use {" or ".join(others)}'
            )
