"""The labelled frames by which selection rules are judged, and the linear potentials that judge them.

Silicon, germanium and lithium of Zuo et al., J. Phys. Chem. A 124, 731 (2020), and decorations of three bcc binaries
of Li et al., npj Comput. Mater. 6, 70 (2020), in ``shared/data`` beside the repository: they are not to be
redistributed. Energies of the alloys are what is left of them after a linear fit in the composition.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read

from aiida_mlip_autopipe.science.descriptors import ACE

from .linear_ace import LinearACE

__all__ = [
    'DATA',
    'HELD_OUT',
    'SETS',
    'files_of',
    'less_composition',
    'load',
    'potential_of',
    'species_of',
    'split',
    'trajectories_of',
]

DATA = Path(__file__).parents[3] / 'shared/data'
HELD_OUT = 0.2

#: Files, and the description of the frames that are taken of them (all, where it is None).
SETS: dict[str, tuple[tuple[str, ...], str | None]] = {
    'Si': (('si_zuo2020_training', 'si_zuo2020_test'), None),
    'Ge': (('ge_zuo2020_training', 'ge_zuo2020_test'), None),
    'Li': (('li_zuo2020_training', 'li_zuo2020_test'), None),
    'MoTa': (('alloys_li2020',), 'MoTa_SS'),
    'NbW': (('alloys_li2020',), 'NbW_SS'),
    'TaW': (('alloys_li2020',), 'TaW_SS'),
    'alloys in one pool': (('alloys_li2020',), None),
}

#: Functions by the number of elements: with forces, 1 meV per atom counts as 0.1 eV/Å.
FUNCTIONS: dict[int, dict[str, Any]] = {
    1: {'correlation_order': 4, 'n_max': [10, 6, 3, 2], 'l_max': [0, 5, 3, 2]},
    2: {'correlation_order': 3, 'n_max': [8, 4, 2], 'l_max': [0, 3, 2]},
}
FORCE_WEIGHT = 0.01

#: Of 1e-8 to 1e-2, the ones with the smallest errors after random selections.
RIDGE = {1: 1e-7, 2: 1e-6}


def files_of(name: str) -> list[Path]:
    """Return the files of a set."""
    return [DATA / f'{file}.extxyz' for file in SETS[name][0]]


def load(name: str) -> list[Atoms]:
    """Return the frames of a set, with energies (eV) and forces (eV/Å)."""
    description = SETS[name][1]
    frames = [atoms for path in files_of(name) for atoms in read(path, index=':')]
    frames = [atoms for atoms in frames if description in (None, atoms.info['description'])]
    return frames if len(species_of(frames)) == 1 else less_composition(frames)


def species_of(frames: list[Atoms]) -> list[str]:
    """Return the elements of frames."""
    return sorted({symbol for atoms in frames for symbol in atoms.get_chemical_symbols()})


def potential_of(frames: list[Atoms]) -> LinearACE:
    """Return the potential that judges the selections of a set."""
    species = species_of(frames)
    ace = ACE(species, 5.0, **FUNCTIONS[len(species)], average='outer')
    return LinearACE(frames, ace, FORCE_WEIGHT, RIDGE[len(species)])


def trajectories_of(frames: list[Atoms]) -> np.ndarray:
    """Return the trajectory of each frame (n,): its group and, for dynamics, the temperature."""
    temperatures = [re.search(r'\d+ K$', atoms.info['description']) for atoms in frames]
    return np.array(
        [
            atoms.info['group'] + (f' {found[0]}' if found else '')
            for atoms, found in zip(frames, temperatures, strict=True)
        ]
    )


def split(trajectories: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the frames of the pool and those held out, the same share of each trajectory."""
    generator = np.random.default_rng(seed)
    held_out = np.zeros(len(trajectories), dtype=bool)
    for name in np.unique(trajectories):
        members = generator.permutation(np.flatnonzero(trajectories == name))
        held_out[members[: round(HELD_OUT * len(members))]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def less_composition(frames: list[Atoms]) -> list[Atoms]:
    """Take from the energies what is linear in the composition; return the same frames."""
    species = species_of(frames)
    counts = np.array([[atoms.get_chemical_symbols().count(symbol) for symbol in species] for atoms in frames])
    sizes = counts.sum(axis=1)
    energies = np.array([atoms.get_potential_energy() for atoms in frames])
    per_atom = np.linalg.lstsq(counts / sizes[:, None], energies / sizes, rcond=None)[0]
    for atoms, rest in zip(frames, energies - counts @ per_atom, strict=True):
        atoms.calc = SinglePointCalculator(atoms, energy=rest, forces=atoms.get_forces())
    return frames
