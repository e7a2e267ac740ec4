"""Labels of another electronic solution: a calculation that ended in another magnetic or charge order than its like.

Two solutions of one structure differ in energy, and often in moment, where forces look alike. A label is compared with
those of its nearest structures: between two frames i and j of one solution the energy follows from the forces and
stresses at both ends,

    E_j - E_i = -1/2 (F_i + F_j) . u + 1/2 (V_i s_i + V_j s_j) : e,

with the displacements u and the strain e from one to the other; the trapezoidal rule is exact to second order. What is
left over is third order in the displacement, or a step from one solution to the other. So what is allowed grows with
the cube of the distance, for frames that are further from their neighbours than the others are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress

from aiida_mlip_autopipe.science.systems import is_isolated_atom

__all__ = ['other_branches']

N_NEIGHBOURS = 8
FEWEST = 6
FURTHEST_A = 0.6
"""Root mean square displacement beyond which two frames are not compared, in Å."""
STRAIN_SCALE_A = 2.0
"""By which a strain counts as a displacement."""
LEAST_EV, LEAST_UB = 0.005, 0.1
"""Differences per atom that are never told, in eV and µB."""
N_DEVIATIONS = 6
"""A difference is told above so many median absolute deviations."""
MOMENTS = ('total_magnetization_uB', 'absolute_magnetization_uB')


class _Stack(NamedTuple):
    """Frames of the same atoms: scaled positions (n, N, 3), cells (n, 3, 3), energies (n,), forces, virials in eV."""

    scaled: np.ndarray
    cells: np.ndarray
    energies: np.ndarray
    forces: np.ndarray
    virials: np.ndarray

    def part(self, frames: slice) -> _Stack:
        """Return some of them."""
        return _Stack(*(values[frames] for values in self))


def _stacked(group: Sequence[Atoms]) -> _Stack:
    return _Stack(
        np.array([atoms.get_scaled_positions(wrap=False) for atoms in group]),
        np.array([atoms.cell.array for atoms in group]),
        np.array([atoms.info['REF_energy'] for atoms in group]),
        np.array([atoms.arrays['REF_forces'] for atoms in group]),
        np.array([_virial(atoms) for atoms in group]),
    )


def other_branches(frames: Sequence[Atoms]) -> dict[str, str]:
    """Return the labelled frames that are on another branch than their nearest neighbours: ``frame_id`` -> figures.

    Frames of the same atoms in the same order are compared, such as all that descend from one supercell; isolated
    atoms, and frames with too few or too distant neighbours, are not.

    Parameters
    ----------
    frames : sequence of Atoms
        With ``REF_energy``, ``REF_forces``, ``REF_stress`` and, of magnets, the magnetisation.
    """
    groups = defaultdict(list)
    for atoms in frames:
        if not is_isolated_atom(atoms):
            groups[tuple(atoms.numbers.tolist())].append(atoms)
    found: dict[str, str] = {}
    for group in groups.values():
        if len(group) >= FEWEST:
            found |= _in_group(group)
    return found


def _in_group(group: Sequence[Atoms]) -> dict[str, str]:
    n_frames, n_atoms = len(group), len(group[0])
    distances, excess = np.full((n_frames, n_frames), np.inf), np.zeros((n_frames, n_frames))
    stack = _stacked(group)
    for i in range(n_frames - 1):
        apart, beyond = _compare(stack.part(slice(i, i + 1)), stack.part(slice(i + 1, None)))
        distances[i, i + 1 :] = distances[i + 1 :, i] = apart
        excess[i, i + 1 :], excess[i + 1 :, i] = beyond, -beyond
    nearest = np.argsort(distances, axis=1, kind='stable')[:, :N_NEIGHBOURS]
    close = [row[distances[number, row] < FURTHEST_A] for number, row in enumerate(nearest)]
    compared = [(number, row) for number, row in enumerate(close) if len(row) >= FEWEST - 1]
    energies = [float(np.median(excess[row, number])) for number, row in compared]
    distance = np.array([distances[number, row].mean() for number, row in compared])
    allowed = np.maximum(1.0, distance / np.median(distance)) ** 3 if compared else distance
    found: dict[str, list[str]] = defaultdict(list)
    names = [str(group[number].info['frame_id']) for number, _ in compared]
    _tell(found, names, energies, allowed, LEAST_EV, 'energy {:+.3f} eV per atom')
    for name in MOMENTS:
        if all(name in atoms.info for atoms in group):
            values = np.array([abs(atoms.info[name]) for atoms in group]) / n_atoms
            steps = [float(values[number] - np.median(values[row])) for number, row in compared]
            words = name.split('_')[0] + ' magnetisation {:+.2f} µB per atom'
            _tell(found, names, steps, np.ones(len(steps)), LEAST_UB, words)
    return {
        name: f'{" and ".join(told)} from what the {N_NEIGHBOURS} most similar labels let expect'
        for name, told in found.items()
    }


def _tell(
    found: dict[str, list[str]],
    names: Sequence[str],
    differences: Sequence[float],
    allowed: np.ndarray,
    least: float,
    words: str,
) -> None:
    """Add the words of each difference that stands out, by more than it is allowed to, to what was found."""
    if not differences:
        return
    bounds = allowed * max(least, N_DEVIATIONS * float(np.median(np.abs(differences))))
    for name, difference, bound in zip(names, differences, bounds, strict=True):
        if abs(difference) > bound:
            found[name].append(words.format(difference))


def _compare(one: _Stack, others: _Stack) -> tuple[np.ndarray, np.ndarray]:
    """Return how far a frame is from others of the same atoms (Å), and what their energies do not owe to forces.

    Both of shape (n,); the second is the energy of the others over what the one lets expect, in eV per atom.
    """
    steps = others.scaled - one.scaled
    steps -= np.round(steps)
    mean_cells = (one.cells + others.cells) / 2
    displacements = steps @ mean_cells
    strains = np.linalg.solve(mean_cells, others.cells - one.cells)
    strains = (strains + strains.transpose(0, 2, 1)) / 2
    work = ((one.forces + others.forces) / 2 * displacements).sum(axis=(1, 2))
    stretching = ((one.virials + others.virials) / 2 * strains).sum(axis=(1, 2))
    n_atoms = steps.shape[1]
    excess = (others.energies - one.energies + work - stretching) / n_atoms
    relative = displacements - displacements.mean(axis=1, keepdims=True)
    moved = np.sqrt((relative**2).sum(axis=(1, 2)) / n_atoms)
    return moved + STRAIN_SCALE_A * np.linalg.norm(strains, axis=(1, 2)), excess


def _virial(atoms: Atoms) -> np.ndarray:
    """Return volume times stress, (3, 3), in eV; zero where the label has no stress."""
    stress = atoms.info.get('REF_stress')
    if stress is None or not np.isfinite(stress).all():
        return np.zeros((3, 3))
    full: np.ndarray = atoms.get_volume() * voigt_6_to_full_3x3_stress(np.asarray(stress))
    return full
