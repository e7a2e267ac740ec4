"""Magnetic moments: which elements have them, which order a crystal can have, and when one is lost."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, make_supercell
from ase.calculators.emt import EMT

from aiida_mlip_autopipe.science.frames import read_extxyz, write_extxyz
from aiida_mlip_autopipe.science.frames.reading import load_frames
from aiida_mlip_autopipe.science.generate import StructureGenerator
from aiida_mlip_autopipe.science.parameters import GenerationParameters
from aiida_mlip_autopipe.science.systems import lost_order, magnetic_elements, order_in_words
from aiida_mlip_autopipe.science.systems.moments import antiferromagnetic_signs
from tests.support.trajectories import few_steps, run_one


def nickel_oxide() -> Atoms:
    """Return the rhombohedral cell of two formula units that holds planes (111) of opposite moments."""
    return make_supercell(bulk('NiO', 'rocksalt', a=4.18), [[0, 1, 1], [1, 0, 1], [1, 1, 0]])


def with_order(atoms: Atoms, size: float = 2.0) -> Atoms:
    """Return an oxide of nickel with antiparallel neighbours."""
    moments = np.where(atoms.symbols == 'Ni', size, 0.0)
    atoms.set_initial_magnetic_moments(antiferromagnetic_signs(atoms, moments))
    return atoms


@pytest.mark.parametrize(
    ('elements', 'magnetic'),
    [
        (['O', 'V'], ['V']),
        (['Mn', 'O'], ['Mn']),
        (['Ba', 'Ti', 'O'], ['Ti']),
        (['Sr', 'Ru', 'O'], ['Ru']),
        (['O'], ['O']),
        (['H', 'O'], []),
        (['Ti'], []),
        (['Cu'], []),
        (['Cu', 'O'], ['Cu']),
        (['Gd', 'N'], ['Gd']),
        (['Ce', 'O'], ['Ce']),
        (['Si'], []),
    ],
)
def test_which_elements_carry_a_moment(elements, magnetic):
    """The oxygen of an oxide carries none, oxygen alone does; some metals do in compounds alone."""
    assert magnetic_elements(elements) == magnetic


def test_nickel_oxide_gets_planes_of_opposite_moments():
    """Six of the twelve nearest neighbours are antiparallel, and all of the six behind an oxygen atom."""
    atoms = with_order(nickel_oxide())
    assert sorted(atoms.get_initial_magnetic_moments()) == [-2, 0, 0, 2]
    assert order_in_words(atoms) == 'Ni -2, 2 µB; antiparallel neighbours 6/12, 6/6'
    assert order_in_words(atoms * (2, 1, 2)) == order_in_words(atoms)


def test_a_metal_gets_antiparallel_nearest_neighbours():
    """The two atoms of cubic chromium."""
    atoms = bulk('Cr', cubic=True)
    moments = antiferromagnetic_signs(atoms, np.full(2, 3.0))
    atoms.set_initial_magnetic_moments(moments)
    assert moments.tolist() == [3, -3] and '8/8, 0/6' in order_in_words(atoms)


def test_a_cell_that_cannot_hold_the_order_is_refused():
    """One magnetic atom has no antiparallel partner."""
    with pytest.raises(ValueError, match=r'1 magnetic atom.* give a cell that holds the order'):
        antiferromagnetic_signs(bulk('NiO', 'rocksalt', a=4.18), np.array([2.0, 0.0]))


def test_moments_follow_their_atoms_into_the_seeds(tmp_path):
    """Supercell, strain and rattling keep the order; and so does the file."""
    parameters = GenerationParameters(target_atoms=16, strained={'n': 1}, rattled={'n': 1, 'stdev_A': 0.02})
    seeds = StructureGenerator(parameters).generate([with_order(nickel_oxide())])
    write_extxyz(tmp_path / 'seeds.extxyz', seeds)
    for atoms in read_extxyz(tmp_path / 'seeds.extxyz'):
        assert len(atoms) >= 16
        if atoms.info['method'] != 'rattled':
            assert '6/12, 6/6' in order_in_words(atoms)
        moments = atoms.get_initial_magnetic_moments()
        assert (np.abs(moments[atoms.symbols == 'Ni']) == 2).all() and moments.sum() == 0


def test_moments_follow_their_atoms_through_dynamics(tmp_path):
    """Frames of real dynamics that are read back from shards have the moments of their seed."""
    atoms = bulk('Ni', cubic=True)
    atoms.set_initial_magnetic_moments([0.6, -0.6, 0.6, -0.6])
    run_one(atoms, EMT(), few_steps(), tmp_path)
    frames = load_frames([tmp_path], [0, 3])
    for frame in frames:
        assert frame.get_initial_magnetic_moments().tolist() == [0.6, -0.6, 0.6, -0.6]
    atoms.set_initial_magnetic_moments(None)
    run_one(atoms, EMT(), few_steps(), tmp_path / 'without')
    assert not load_frames([tmp_path / 'without'], [0])[0].has('initial_magmoms')


def test_a_lost_order_is_told_with_its_moments():
    """Gone, turned, or without a partner; an order that is there, also with all signs reversed, is not told."""
    up_down, parallel = np.array([2.0, -2.0, 0.0, 0.0]), np.array([2.0, 2.0, 0.0, 0.0])
    kept = np.array([1.6, -1.6, 0.01, 0.0])
    assert lost_order(up_down, 0.0, 3.5, kept) is None and lost_order(up_down, 0.0, 3.5, -kept) is None
    assert lost_order(parallel, 3.4, 3.6, np.abs(kept)) is None and lost_order(parallel, 3.4, 3.6, None) is None
    assert 'gone (total 0.00 µB, absolute 0.01 µB' in lost_order(up_down, 0.0, 0.01, 0 * kept)
    assert 'turned: atom 1 (-2.0 to +1.60)' in lost_order(up_down, 3.3, 3.5, np.abs(kept))
    assert 'began without one (total 3.30 µB' in lost_order(up_down, 3.3, 3.5, None)
    assert 'total moment is gone' in lost_order(parallel, 0.0, 3.5, kept)
    assert 'total moment is gone' in lost_order(parallel, 0.05, 3.5, None)
