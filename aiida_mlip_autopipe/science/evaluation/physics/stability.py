"""Whether a longer run at constant temperature stays in physics, and what structure it has.

A small error of the forces does not say that dynamics is stable (X. Fu et al., Trans. Mach. Learn. Res. (2023),
arXiv:2210.07237): the guards of the exploration watch it. The radial distribution function is the mean of the second
half.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from matscipy.neighbours import neighbour_list

from aiida_mlip_autopipe.science.dynamics.guards import GuardTripped
from aiida_mlip_autopipe.science.evaluation.physics.base import Check, Context, Judgement, row
from aiida_mlip_autopipe.science.evaluation.physics.figures import POTENTIAL
from aiida_mlip_autopipe.science.evaluation.physics.trajectory import trajectory
from aiida_mlip_autopipe.science.parameters import PhysicsParameters
from aiida_mlip_autopipe.science.references import Reference
from aiida_mlip_autopipe.science.systems import fills_its_cell

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ['CHECK', 'pair_counts']

R_MAX_A, N_BINS = 6.0, 120
MIN_INTERVAL, N_SAMPLES = 10, 200


def structures(crystal: Atoms, parameters: PhysicsParameters) -> list[Atoms]:
    """Return nothing: the potential is alone."""
    return []


def pair_counts(atoms: Atoms) -> np.ndarray:
    """Return the radial distribution function (`N_BINS`,) of a structure up to `R_MAX_A`."""
    edges = np.linspace(0, R_MAX_A, N_BINS + 1)
    counts, _ = np.histogram(neighbour_list('d', atoms, R_MAX_A), edges)
    shells = 4 / 3 * np.pi * np.diff(edges**3)
    return counts / (len(atoms) * shells * len(atoms) / atoms.get_volume())


def judge(context: Context) -> Judgement:
    """Run, and return how far it came."""
    parameters = context.parameters
    n_steps = parameters.stability_steps
    interval = max(MIN_INTERVAL, n_steps // (2 * N_SAMPLES))
    n_done, functions, temperatures, note = 0, [], [], ''
    try:
        for atoms in trajectory(context, 'nvt', n_steps):
            n_done += 1
            if 2 * n_done >= n_steps and n_done % interval == 0:
                temperatures.append(atoms.get_temperature())
                if fills_its_cell(atoms):  # else there is no density to compare with
                    functions.append(pair_counts(atoms))
    except GuardTripped as tripped:
        note = f'a guard ended the run after {n_done} steps: {tripped}'
    per_step = parameters.timestep_fs / 1e3
    rows = [row('time', 'ps', n_done * per_step, passed=n_done == n_steps)]
    if temperatures:
        rows.append(row('mean_temperature', 'K', float(np.mean(temperatures))))
    middles = (np.arange(N_BINS) + 0.5) * R_MAX_A / N_BINS
    return Judgement(
        rows=rows,
        uncertainty='none',
        data={'wanted_ps': n_steps * per_step},
        figure={'r_A': middles.tolist(), 'g': np.mean(functions, axis=0).tolist()} if functions else {},
        note=note,
    )


def sentence(parameters: PhysicsParameters) -> str:
    """Return what a paper says."""
    return (
        f'Dynamics at {parameters.temperature_K:g} K was watched for {parameters.stability_steps} steps of '
        f'{parameters.timestep_fs:g} fs.'
    )


def draw(axes: Axes, shown: Mapping[str, Any]) -> None:
    """Draw the figure."""
    axes.plot(shown['r_A'], shown['g'], color=POTENTIAL)
    axes.set_ylim(bottom=0)
    axes.set(xlabel='distance (Å)', ylabel='radial distribution function', title='Constant temperature')


CHECK = Check(
    structures,
    judge,
    sentence,
    about='Whether a guard stops a run at constant temperature; radial distribution function; needs no label.',
    references=(Reference('X. Fu et al., Trans. Mach. Learn. Res. (2023)', 'https://arxiv.org/abs/2210.07237'),),
    n_steps=lambda parameters: parameters.stability_steps,
    draw=draw,
    needs_filled_cell=False,
    rank=50,
)
