"""Whether the total energy is conserved: its drift in a short run without a thermostat.

The forces of a potential that are not the gradient of its energy, or too long a time step, show here. The drift is the
slope of the total energy by least squares, without the first tenth of the run, in which the crystal warms up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from aiida_mlip_autopipe.science.dynamics.guards import GuardTripped
from aiida_mlip_autopipe.science.evaluation.physics.base import Check, Context, Judgement, jackknife, row
from aiida_mlip_autopipe.science.evaluation.physics.figures import POTENTIAL
from aiida_mlip_autopipe.science.evaluation.physics.trajectory import trajectory
from aiida_mlip_autopipe.science.parameters import PhysicsParameters

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ['CHECK']

N_BLOCKS = 10
N_CURVE = 400


def structures(crystal: Atoms, parameters: PhysicsParameters) -> list[Atoms]:
    """Return nothing: the potential is alone."""
    return []


def judge(context: Context) -> Judgement:
    """Return the drift of the total energy."""
    parameters = context.parameters
    energies, note = [], ''
    try:
        for atoms in trajectory(context, 'nve', parameters.nve_steps):
            energies.append(atoms.get_total_energy() / len(atoms) * 1e3)
    except GuardTripped as tripped:
        note = f'a guard ended the run after {len(energies)} steps: {tripped}'
    tolerance = parameters.max_drift_meV_ps
    if note:
        rows = [row('energy_drift', 'meV/atom/ps', None, tolerance=tolerance, passed=False)]
        return Judgement(rows, uncertainty='none', note=note)
    times = np.arange(1, len(energies) + 1) * parameters.timestep_fs / 1e3
    start = len(energies) // 10
    drift, error = _drift(times[start:], np.array(energies[start:]))
    fluctuation = float(np.std(energies[start:]))
    every = -(-len(energies) // N_CURVE)
    return Judgement(
        rows=[
            row('energy_drift', 'meV/atom/ps', drift, uncertainty=error, tolerance=tolerance),
            row('energy_fluctuation', 'meV/atom', fluctuation),
        ],
        uncertainty=f'jackknife over {N_BLOCKS} blocks of the run',
        figure={'times_ps': times[::every].tolist(), 'energies': (np.array(energies) - energies[0])[::every].tolist()},
    )


def _drift(times: np.ndarray, energies: np.ndarray) -> tuple[float, float]:
    """Return the slope by least squares and its error."""
    blocks = np.array_split(np.arange(len(times)), N_BLOCKS)

    def slope(kept: np.ndarray) -> np.ndarray:
        some = np.concatenate([blocks[block] for block in kept])
        return np.polyfit(times[some], energies[some], 1)[:1]

    return float(slope(np.arange(N_BLOCKS))[0]), float(jackknife(slope, N_BLOCKS)[0])


def sentence(parameters: PhysicsParameters) -> str:
    """Return what a paper says."""
    return (
        f'The drift of the total energy was measured without a thermostat, over {parameters.nve_steps} steps of '
        f'{parameters.timestep_fs:g} fs.'
    )


def draw(axes: Axes, shown: Mapping[str, Any]) -> None:
    """Draw the figure."""
    axes.plot(shown['times_ps'], shown['energies'], color=POTENTIAL, linewidth=1)
    axes.set(xlabel='time (ps)', ylabel='change of the total energy (meV/atom)', title='Without a thermostat')


CHECK = Check(
    structures,
    judge,
    sentence,
    about='Drift of the total energy without a thermostat; needs no label.',
    n_steps=lambda parameters: parameters.nve_steps,
    draw=draw,
    needs_filled_cell=False,
    rank=40,
)
