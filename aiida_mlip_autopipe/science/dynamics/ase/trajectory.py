"""Molecular dynamics of one replica with ASE, and single points.

The ensemble gives the integrator. All random numbers come from one generator, so that a seed gives the same trajectory,
bit for bit, on one thread; a checkpoint holds all that the next step depends on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator

from aiida_mlip_autopipe.science.committee import disagreement
from aiida_mlip_autopipe.science.dynamics.ensembles.base import ensemble_of
from aiida_mlip_autopipe.science.dynamics.guards import (
    GuardedCalculator,
    Guards,
    GuardTripped,
    temperature,
)
from aiida_mlip_autopipe.science.dynamics.stopping import Stop
from aiida_mlip_autopipe.science.parameters import DynamicsParameters
from aiida_mlip_autopipe.science.potential.load import check_elements, inspect_potential, load_calculator

if TYPE_CHECKING:
    from aiida_mlip_autopipe.science.dynamics.ase.steps import AseStep
    from aiida_mlip_autopipe.science.dynamics.recorder import Recorder, ReplicaEnd
    from aiida_mlip_autopipe.science.dynamics.replicas import Replica

__all__ = ['draw_velocities', 'run_dynamics', 'single_point']


def run_dynamics(
    recorder: Recorder,
    calculator: Calculator,
    parameters: DynamicsParameters,
    stop: Stop | None = None,
    committee: Sequence[Calculator] = (),
) -> ReplicaEnd:
    """Run one replica to its end, or go on with it, and hand its frames to the recorder.

    Parameters
    ----------
    recorder : Recorder
        Gives the replica, its starting structure and the state to go on from; takes frames and checkpoints.
    calculator : Calculator
        Gives energy, forces and stress.
    parameters : DynamicsParameters
        Ensemble, steps, time constants and guards.
    stop : Stop, optional
        When the job must end.
    committee : sequence of Calculator
        Further potentials, asked for the forces of each frame.

    Returns
    -------
    dict
        How it ended, as `Recorder.end` says.
    """
    run = _Trajectory(recorder, calculator, parameters, committee)
    step = run.first
    try:
        with np.errstate(all='ignore'):  # what overflows here is caught by the guards
            run.start()
            while step < parameters.n_steps:
                step += 1
                if not run.advance(step):
                    return recorder.end('nothing_new', step)
                stopped = stop is not None and stop.now()
                if stopped or recorder.checkpoint_due():
                    recorder.checkpoint(step, run.state())
                if stopped and step < parameters.n_steps:
                    return recorder.end('interrupted', step)
    except GuardTripped as tripped:
        return recorder.end('guard', max(step, 0), tripped)
    return recorder.end('completed', step)


class _Trajectory:
    """A replica on its way: atoms, integrator, guards and random numbers. Steps up to 0 are its equilibration."""

    def __init__(
        self,
        recorder: Recorder,
        calculator: Calculator,
        parameters: DynamicsParameters,
        committee: Sequence[Calculator],
    ) -> None:
        self._recorder, self._parameters, self._committee = recorder, parameters, committee
        self._replica: Replica = recorder.replica
        seed = recorder.atoms
        self._ensemble = ensemble_of(parameters)
        self._rng = np.random.default_rng(self._replica.random_seed)
        self._guards = Guards(seed, parameters.guards, self._replica.max_target_K)
        self._atoms = Atoms(numbers=seed.numbers, positions=seed.positions, cell=seed.cell, pbc=seed.pbc)
        self._atoms.calc = GuardedCalculator(calculator, self._guards)
        self._step: AseStep
        self.first = -parameters.equilibration_steps if recorder.resumed is None else recorder.resumed[0]

    def start(self) -> None:
        """Draw velocities, or take up the state of a checkpoint."""
        if self._recorder.resumed is not None:
            self._resume(self._recorder.resumed[1])
            return
        self._guards.before_forces(self._atoms)
        self._guards.structure(self._atoms)
        draw_velocities(self._atoms, self._replica.temperature_K, self._rng)
        self._step = self._make_step(self.first + 1)

    def advance(self, step: int) -> bool:
        """Make one step; return False if the replica has shown nothing new for long."""
        if step == 1 and self.first < 0:
            self._step = self._make_step(step)
        if self._replica.temperature_end_K is not None and step > 1:
            self._step.set_temperature(self._target(step))
        self._step.step()
        self._guards.after_step(self._atoms)
        writes = step > 0 and step % self._parameters.sample_interval == 0
        if writes or step % self._parameters.guards.check_interval == 0:
            self._guards.structure(self._atoms)
        return self._write(step) if writes else True

    def state(self) -> dict[str, np.ndarray]:
        """Return all that the next step depends on."""
        atoms = self._atoms
        return {
            'positions': atoms.get_positions(),
            'momenta': atoms.get_momenta(),
            'cell': atoms.cell.array.copy(),
            'rng': np.array(json.dumps(self._rng.bit_generator.state)),
            'energy_eV': np.array(np.nan if self._guards.energy_eV is None else self._guards.energy_eV),
            **{f'integrator.{name}': value for name, value in self._step.state().items()},
        }

    def _resume(self, state: dict[str, np.ndarray]) -> None:
        atoms = self._atoms
        atoms.set_cell(state['cell'])
        atoms.positions = state['positions']
        atoms.set_momenta(state['momenta'])
        self._rng.bit_generator.state = json.loads(str(state['rng']))
        self._guards.energy_eV = float(state['energy_eV'])
        self._step = self._make_step(self.first + 1)
        prefix = 'integrator.'
        self._step.restore({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})

    def _write(self, step: int) -> bool:
        atoms = self._atoms
        energy, forces = atoms.get_potential_energy(), atoms.get_forces(apply_constraint=False)
        return self._recorder.frame(
            step,
            atoms.positions,
            atoms.cell.array,
            energy,
            temperature(atoms),
            float(np.linalg.norm(forces, axis=1).max()),
            _disagreement(atoms, forces, self._committee),
        )

    def _target(self, step: int) -> float:
        return self._replica.target_K(step, self._parameters.n_steps)

    def _make_step(self, step: int) -> AseStep:
        """Return what makes a step, and those that follow."""
        self._atoms.set_constraint()
        make = self._ensemble.ase_equilibration if step <= 0 else self._ensemble.ase_production
        return make(self._atoms, self._target(step), self._replica.pressure_GPa or 0.0, self._rng)


def draw_velocities(atoms: Atoms, temperature_K: float, rng: np.random.Generator) -> None:
    """Draw velocities from Maxwell and Boltzmann's distribution and let the centre of mass rest."""
    masses = atoms.get_masses()[:, np.newaxis]
    momenta = rng.standard_normal((len(atoms), 3)) * np.sqrt(masses * units.kB * temperature_K)
    if len(atoms) > 1:
        momenta -= masses * momenta.sum(axis=0) / masses.sum()
    atoms.set_momenta(momenta)


def _disagreement(atoms: Atoms, forces: np.ndarray, committee: Sequence[Calculator]) -> float:
    """Return the largest disagreement of a committee on the force on an atom, in eV/Å; NaN without a committee."""
    if not committee:
        return float('nan')
    frame = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    every = [forces]
    for calculator in committee:
        calculator.calculate(frame, ['forces'])
        every.append(np.asarray(calculator.results['forces'], dtype=float))
    return float(disagreement(np.array(every)).max())


# ----------------------------------------------------------------------------------------------------- single points


def single_point(
    potential: Path, atoms: Atoms, dtype: str = 'float64', device: str = 'auto'
) -> dict[str, float | np.ndarray]:
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
