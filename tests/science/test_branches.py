"""Labels of another electronic solution are found among those of one."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from aiida_mlip_autopipe.science.branches import other_branches

N_ANTIFERROMAGNETIC, N_FERROMAGNETIC = 40, 5


def labels(step_eV: float, stdev_A: float = 0.08, seed: int = 3, moments: bool = False) -> list[Atoms]:
    """Return strained and rattled nickel, forty labels of a lower solution and five of one ``step_eV`` per atom above.

    Both are of a model of a metal; the upper one is softer by a twentieth, as a solution with other bonds is.
    """
    rng = np.random.default_rng(seed)
    upper = set(rng.choice(N_ANTIFERROMAGNETIC + N_FERROMAGNETIC, N_FERROMAGNETIC, replace=False).tolist())
    frames = []
    for number in range(N_ANTIFERROMAGNETIC + N_FERROMAGNETIC):
        atoms = bulk('Ni', cubic=True)
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.uniform(-0.02, 0.02, (3, 3))), scale_atoms=True)
        atoms.positions += rng.normal(scale=stdev_A, size=(4, 3))
        atoms.calc = EMT()
        scale, above = (0.95, step_eV) if number in upper else (1.0, 0.0)
        atoms.info = {
            'frame_id': f'{"fm" if number in upper else "afm"}-{number}',
            'REF_energy': scale * atoms.get_potential_energy() + above * len(atoms),
            'REF_stress': scale * atoms.get_stress(),
        }
        if moments:
            atoms.info |= {'total_magnetization_uB': 4.0 * (number in upper), 'absolute_magnetization_uB': 4.2}
        atoms.arrays['REF_forces'] = scale * atoms.get_forces()
        atoms.calc = None
        frames.append(atoms)
    return frames


@pytest.mark.parametrize('seed', [1, 2])
@pytest.mark.parametrize('step_eV', [-0.06, 0.06, 0.12])
def test_five_labels_of_another_solution_are_found_among_forty(step_eV, seed):
    """By energy alone, at least four, with at most one false; each with its figure."""
    found = other_branches(labels(step_eV, seed=seed))
    true = [name for name in found if name.startswith('fm')]
    assert len(true) >= 4 and len(found) - len(true) <= 1
    assert all('eV per atom from what the 8 most similar labels let expect' in words for words in found.values())


def test_a_moment_tells_two_solutions_of_one_energy_apart():
    """Where the energies are alike the moments are not."""
    found = other_branches(labels(0.0, moments=True))
    assert len(found) == N_FERROMAGNETIC and all(name.startswith('fm') for name in found)
    assert all('total magnetisation +1.00 µB per atom' in words for words in found.values())


@pytest.mark.parametrize('stdev_A', [0.03, 0.08, 0.15])
def test_labels_of_one_solution_are_not_told(stdev_A):
    """Cold or hot, none stands out; nor do too few, or isolated atoms."""
    frames = [atoms for atoms in labels(0.1, stdev_A) if atoms.info['frame_id'].startswith('afm')]
    assert len(other_branches(frames)) <= 1
    assert other_branches(frames[:4]) == {}
