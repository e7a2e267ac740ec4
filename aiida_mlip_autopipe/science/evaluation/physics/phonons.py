"""Phonon frequencies from the forces of displaced supercells, by phonopy.

One atom of the supercell is displaced at a time, in the fewest directions that symmetry leaves (A. Togo, J. Phys. Soc.
Jpn. 92, 012001 (2023)); what forces the perfect supercell has are subtracted. The same displacements, supercell and
symmetry serve both sides, so that only the forces differ; the long-ranged part of polar crystals is added to neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from aiida_mlip_autopipe.science.evaluation.physics.base import (
    Check,
    Context,
    Judgement,
    Label,
    MissingLabelsError,
    named,
    row,
)
from aiida_mlip_autopipe.science.evaluation.physics.crystal import phonopy_of, supercell_of
from aiida_mlip_autopipe.science.evaluation.physics.figures import POTENTIAL, REFERENCE
from aiida_mlip_autopipe.science.evaluation.records import Row
from aiida_mlip_autopipe.science.parameters import PhysicsParameters
from aiida_mlip_autopipe.science.references import Reference

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from phonopy import Phonopy

__all__ = ['CHECK', 'IMAGINARY_THz', 'frequencies']

IMAGINARY_THz = -0.1
"""A mode below this is unstable; those above may be acoustic ones at Γ, zero up to noise."""

MESH_LENGTH_A = 60.0
"""The mesh has so many points along a reciprocal vector as this length over that of its period in space."""

N_DENSITY, WIDTH_THz = 200, 0.2


def structures(crystal: Atoms, parameters: PhysicsParameters) -> list[Atoms]:
    """Return the perfect supercell and the displaced ones."""
    perfect = supercell_of(crystal, parameters)
    del perfect.arrays['site']
    origin = crystal.info['frame_id']
    frames = [named(perfect, 'supercell', origin)]
    for index, displacement in enumerate(_displacements(_displaced(crystal, parameters))):
        atoms = perfect.copy()
        atoms.positions += displacement
        frames.append(named(atoms, 'phonons', origin, displacement_index=index))
    return frames


def frequencies(phonopy: Phonopy, forces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the frequencies (n_q, n_modes) in THz on a mesh, imaginary ones negative, and the weights (n_q,).

    Parameters
    ----------
    phonopy : Phonopy
        With displacements.
    forces : ndarray, shape (n_displacements, n_atoms, 3)
        Of the supercells, in eV/Å.
    """
    phonopy.forces = forces
    phonopy.produce_force_constants(show_drift=False)
    phonopy.symmetrize_force_constants(show_drift=False)
    mesh = phonopy.run_mesh(MESH_LENGTH_A)
    weights = np.asarray(mesh.weights, dtype=float)
    return np.array(mesh.frequencies), weights / weights.sum()


def judge(context: Context) -> Judgement:
    """Compare the frequencies of both sides, mode by mode in ascending order."""
    phonopy = _displaced(context.pristine, context.parameters)
    displacements = _displacements(phonopy)
    frames = {atoms.info['displacement_index']: atoms for atoms in context.frames('phonons')}
    perfect = context.frames('supercell')
    n_labelled = len(frames) + len(perfect)
    if n_labelled < len(displacements) + 1:
        raise MissingLabelsError(f'{n_labelled} of {len(displacements) + 1} supercells have a label: all are needed')
    ordered = [frames[index] for index in range(len(displacements))]
    _check_displacements(perfect[0], ordered, displacements)
    (found, weights), (wanted, _) = (frequencies(phonopy, _forces(perfect[0], ordered, side)) for side in context.sides)
    return Judgement(
        rows=_rows(context.parameters, found, wanted, weights),
        uncertainty='none: there are as many displacements as unknowns',
        data={'n_displacements': len(displacements), 'mesh': np.asarray(phonopy.mesh_numbers).tolist()},
        figure=_densities(found, wanted, weights),
    )


def _displaced(crystal: Atoms, parameters: PhysicsParameters) -> Phonopy:
    phonopy = phonopy_of(crystal, parameters)
    phonopy.generate_displacements(distance=parameters.displacement_A)
    return phonopy


def _displacements(phonopy: Phonopy) -> np.ndarray:
    """Return the displacements (n, n_atoms, 3) of all atoms, in Å."""
    dataset: Any = phonopy.dataset
    first_atoms = dataset['first_atoms']
    displacements = np.zeros((len(first_atoms), len(phonopy.supercell), 3))
    for of_all, entry in zip(displacements, first_atoms, strict=True):
        of_all[entry['number']] = entry['displacement']
    return displacements


def _check_displacements(perfect: Atoms, frames: list[Atoms], displacements: np.ndarray) -> None:
    """Raise `ValueError` if the labelled structures are not those that the parameters make."""
    for index, (atoms, displacement) in enumerate(zip(frames, displacements, strict=True)):
        if len(atoms) != len(perfect) or not np.allclose(atoms.positions - perfect.positions, displacement, atol=1e-5):
            raise ValueError(
                f'the labelled supercell {atoms.info["frame_id"]} does not have displacement {index} of these '
                'parameters: give those that its structures were made with (displacement_A, supercell_atoms, symprec_A)'
            )


def _forces(perfect: Atoms, frames: list[Atoms], side: Mapping[str, Label]) -> np.ndarray:
    at_rest = side[perfect.info['frame_id']].forces
    return np.array([side[atoms.info['frame_id']].forces - at_rest for atoms in frames])


def _rows(parameters: PhysicsParameters, found: np.ndarray, wanted: np.ndarray, weights: np.ndarray) -> list[Row]:
    rmse = float(np.sqrt(weights @ ((found - wanted) ** 2).mean(axis=1)))
    unstable, unstable_0 = (float(weights @ (side < IMAGINARY_THz).mean(axis=1)) for side in (found, wanted))
    return [
        row('frequencies_rmse', 'THz', None, difference=rmse, tolerance=parameters.max_phonon_rmse_THz),
        row('frequencies_largest_error', 'THz', None, difference=float(np.abs(found - wanted).max())),
        row('lowest_frequency', 'THz', float(found.min()), float(wanted.min())),
        row('highest_frequency', 'THz', float(found.max()), float(wanted.max())),
        row('imaginary_fraction', '', unstable, unstable_0, passed=not (unstable > 0 and unstable_0 == 0)),
    ]


def _densities(found: np.ndarray, wanted: np.ndarray, weights: np.ndarray) -> dict[str, Any]:
    """Return the densities of states, normalised to one, each mode a Gaussian."""
    low = min(found.min(), wanted.min(), 0) - 3 * WIDTH_THz
    grid = np.linspace(low, max(found.max(), wanted.max()) + 3 * WIDTH_THz, N_DENSITY)
    sides = {}
    for name, values in (('potential', found), ('reference', wanted)):
        modes = np.repeat(weights, values.shape[1]) / values.shape[1]
        bells = np.exp(-(((grid[:, None] - values.ravel()) / WIDTH_THz) ** 2) / 2) / (WIDTH_THz * np.sqrt(2 * np.pi))
        sides[name] = (bells @ modes).tolist()
    return {'frequencies': grid.tolist(), **sides}


def sentence(parameters: PhysicsParameters) -> str:
    """Return what a paper says."""
    return (
        f'Phonon frequencies were compared with DFT, from displacements of {parameters.displacement_A:g} Å in a '
        f'supercell of at least {parameters.supercell_atoms} atoms.'
    )


def draw(axes: Axes, shown: Mapping[str, Any]) -> None:
    """Draw the figure."""
    axes.plot(shown['frequencies'], shown['reference'], '--', color=REFERENCE, label='DFT')
    axes.plot(shown['frequencies'], shown['potential'], '-', color=POTENTIAL, label='potential')
    axes.set_ylim(bottom=0)
    axes.set(
        xlabel='frequency (THz); imaginary ones negative',
        ylabel='density of states (1/THz)',
        title='Phonons',
    )
    axes.legend()


CHECK = Check(
    structures,
    judge,
    sentence,
    about='Phonon frequencies on a mesh, from displaced supercells.',
    references=(Reference('A. Togo, J. Phys. Soc. Jpn. 92, 012001 (2023)', 'https://doi.org/10.7566/JPSJ.92.012001'),),
    draw=draw,
    rank=20,
)
