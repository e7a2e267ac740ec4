"""Whether labelled frames can be what they say: each by itself, and held against the others.

All frames of a set are judged at once, as a set may hold a hundred thousand.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.units import GPa

from aiida_mlip_autopipe.science.existing_data.composition import energies_by_composition
from aiida_mlip_autopipe.science.generate.distances import closest_pair
from aiida_mlip_autopipe.science.parameters import LabellingParameters

__all__ = ['contradictions', 'unsound']

SMALLEST_HEIGHT_A = 0.5
LARGEST_LENGTH_A = 1e4
LARGEST_ENERGY_EV = 1e6
"""Per atom: that of uranium with all its electrons is -0.76e6 eV."""
CLOSEST = 0.5
"""Over the sum of the covalent radii: below, two atoms are on top of each other."""
SAME_PLACE_A = 1e-3

Frames = Mapping[int, Atoms]


def unsound(frames: Frames, bounds: LabellingParameters) -> dict[int, str]:
    """Return the frames whose geometry or labels make no sense: number -> why, in words.

    Parameters
    ----------
    frames : mapping of int to Atoms
        Complete frames by their number, with ``REF_energy`` and, as far as there is one, ``REF_stress`` in ``info``,
        ``REF_forces`` in ``arrays``.
    bounds : LabellingParameters
        What is too large.
    """
    found: dict[int, str] = {}
    for check in (_cells, _distances, _forces, _stresses, _energies):
        left = {number: atoms for number, atoms in frames.items() if number not in found}
        if left:
            found |= check(left, bounds)
    return found


def _cells(frames: Frames, bounds: LabellingParameters) -> dict[int, str]:
    """Return the frames with a cell that is as good as flat, and those with atoms far out in space."""
    cells = np.array([atoms.cell.array for atoms in frames.values()])
    volumes = np.abs(np.linalg.det(cells))
    faces = np.linalg.norm(np.cross(np.roll(cells, -1, axis=1), np.roll(cells, -2, axis=1)), axis=2)
    heights = volumes[:, np.newaxis] / faces
    far = [np.abs(atoms.positions).max(initial=0.0) for atoms in frames.values()]
    lengths = np.maximum(far, np.abs(cells).max(axis=(1, 2)))
    found = {}
    for number, height, axis, length in zip(frames, heights.min(axis=1), heights.argmin(axis=1), lengths, strict=True):
        if not height >= SMALLEST_HEIGHT_A:
            found[number] = f'has a cell that is {height:.3g} Å high along {"abc"[axis]}'
        elif length > LARGEST_LENGTH_A:
            found[number] = f'has positions or a cell of {length:.3g} Å'
    return found


def _distances(frames: Frames, bounds: LabellingParameters) -> dict[int, str]:
    """Return the frames with atoms on top of each other; frames of the same atoms are looked at together."""
    from aiida_mlip_autopipe.science.sampling.compiled.distances import closest_ratios

    groups = defaultdict(list)
    for number, atoms in frames.items():
        groups[atoms.numbers.tobytes()].append(number)
    found = {}
    for group in groups.values():
        elements, kinds = np.unique(frames[group[0]].numbers, return_inverse=True)
        ratios = closest_ratios(
            np.array([frames[number].positions for number in group]),
            np.array([frames[number].cell.array for number in group]),
            np.ones(3, dtype=bool),
            kinds,
            covalent_radii[elements],
            CLOSEST,
        )
        for place in np.flatnonzero(~(ratios >= CLOSEST)):
            pair = closest_pair(frames[group[place]], CLOSEST)
            found[group[place]] = f'has atoms on top of each other: {pair} ({CLOSEST} of the covalent radii)'
    return found


def _forces(frames: Frames, bounds: LabellingParameters) -> dict[int, str]:
    """Return the frames with a force that is too large."""
    forces = np.linalg.norm(np.concatenate([atoms.arrays['REF_forces'] for atoms in frames.values()]), axis=1)
    sizes = np.array([len(atoms) for atoms in frames.values()])
    largest = np.maximum.reduceat(forces, np.cumsum(sizes) - sizes)
    bound = bounds.max_force_eV_A
    return {
        number: f'has a force of {force:.3g} eV/Å, above labelling.max_force_eV_A ({bound:g})'
        for number, force in zip(frames, largest, strict=True)
        if not force <= bound
    }


def _stresses(frames: Frames, bounds: LabellingParameters) -> dict[int, str]:
    """Return the frames with a stress that is too large."""
    bound = bounds.max_stress_GPa
    if bound is None:
        return {}
    found = {}
    for number, atoms in frames.items():
        largest = np.abs(atoms.info.get('REF_stress', 0.0)).max()
        if not largest <= bound * GPa:
            found[number] = (
                f'has a stress of {largest / GPa:.3g} GPa, above labelling.max_stress_GPa ({bound:g}): the file says '
                f'{largest:.3g}, and its unit is to be eV/Å³; if it is in GPa, divide it by {1 / GPa:.4f}, if in kbar, '
                f'by {10 / GPa:.3f}'
            )
    return found


def _energies(frames: Frames, bounds: LabellingParameters) -> dict[int, str]:
    """Return the frames with an energy that no atoms have, or one far from what their composition suggests."""
    energies = {number: atoms.info['REF_energy'] for number, atoms in frames.items()}
    found = {
        number: f'has an energy of {energy:.3g} eV: atoms have less than {LARGEST_ENERGY_EV:g} eV each'
        for number, energy in energies.items()
        if abs(energy) > LARGEST_ENERGY_EV * len(frames[number])
    }
    window = bounds.data_energy_window_eV
    numbers = [number for number in frames if number not in found]
    if window is None or not numbers:
        return found
    left = [frames[number] for number in numbers]
    of_left = np.array([energies[number] for number in numbers])
    expected = energies_by_composition(left, of_left)
    per_atom = of_left / np.array([len(atoms) for atoms in left])
    for place in np.flatnonzero(np.abs(per_atom - expected) > window):
        atoms, number = left[place], numbers[place]
        found[number] = (
            f'has an energy of {per_atom[place]:.3f} eV per atom, where {expected[place]:.3f} is expected of '
            f'{atoms.symbols.formula.format("hill")} (a line through the compositions of all frames): '
            f'{per_atom[place] - expected[place]:+.3f} is outside labelling.data_energy_window_eV ({window:g})'
        )
        if len(atoms) == 1:
            found[number] += '; if it is an isolated atom, say so by config_type=IsolatedAtom'
    return found


def contradictions(frames: Frames, bounds: LabellingParameters) -> dict[int, str]:
    """Return the frames that are the structure of an earlier one with other labels: number -> how they differ.

    Parameters
    ----------
    frames, bounds
        As for `unsound`; labels may differ by as much as those that are computed again.
    """
    first: dict[bytes, int] = {}
    found = {}
    for number, atoms in frames.items():
        earlier = first.setdefault(_place(atoms), number)
        other = frames[earlier]
        if other is atoms:
            continue
        energy_meV = 1e3 * (atoms.info['REF_energy'] - other.info['REF_energy']) / len(atoms)
        off_meV_A = 1e3 * np.sqrt(np.square(atoms.arrays['REF_forces'] - other.arrays['REF_forces']).mean())
        if abs(energy_meV) > bounds.max_data_energy_meV:
            told = f'its energy is {energy_meV:+.3g} meV per atom from that one (max_data_energy_meV: '
            found[number] = f'is the structure of frame {earlier}, but {told}{bounds.max_data_energy_meV:g})'
        elif off_meV_A > bounds.max_data_force_meV_A:
            told = f'its forces differ by {off_meV_A:.3g} meV/Å (max_data_force_meV_A: '
            found[number] = f'is the structure of frame {earlier}, but {told}{bounds.max_data_force_meV_A:g})'
    return found


def _place(atoms: Atoms) -> bytes:
    """Return what is the same for two structures whose atoms are in the same places; as a file rounds them."""
    rounded = np.rint(np.concatenate([atoms.positions, atoms.cell.array]) / SAME_PLACE_A).astype(np.int64)
    return atoms.numbers.tobytes() + rounded.tobytes()
