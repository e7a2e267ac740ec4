"""Existing data that makes no sense is refused frame by frame, in words that say what is wrong with it."""

from __future__ import annotations

import re

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import write
from ase.units import Bohr, GPa, Hartree, Ry

from aiida_mlip_autopipe.science.existing_data import (
    differences_between,
    existing_data,
    read_labelled,
    too_different,
    unfit_frames,
)
from aiida_mlip_autopipe.science.existing_data.composition import energies_by_composition
from aiida_mlip_autopipe.science.parameters import LabellingParameters

ENERGIES_EV = {'Cu': -3.5, 'Au': -3.2}


def alloy(n_gold: int = 0, seed: int = 0) -> Atoms:
    """Return four displaced atoms of copper and gold with sound labels; most compositions come once or twice."""
    rng = np.random.default_rng(seed)
    atoms = bulk('Cu', a=3.8, cubic=True)
    atoms.symbols[:n_gold] = 'Au'
    atoms.positions += rng.normal(scale=0.05, size=(4, 3))
    atoms.info['REF_energy'] = sum(ENERGIES_EV[symbol] for symbol in atoms.symbols) + rng.uniform(0, 0.4)
    atoms.info['REF_stress'] = rng.normal(scale=0.02, size=6)
    forces = rng.normal(scale=0.5, size=(4, 3))
    atoms.arrays['REF_forces'] = forces - forces.mean(axis=0)
    return atoms


def alloys() -> list[Atoms]:
    """Return twelve sound frames."""
    return [alloy(n_gold=seed % 5, seed=seed) for seed in range(12)]


def wrong(change, number: int = 7) -> dict[int, str]:
    """Return what is found wrong with twelve frames of which one was changed."""
    frames = alloys()
    change(frames[number])
    return unfit_frames(frames)


def same_elsewhere(atoms: Atoms, scale: float = 1.0) -> Atoms:
    """Return a frame with the same atoms in the same places."""
    copy = atoms.copy()
    copy.info['REF_stress'] = scale * np.asarray(atoms.info['REF_stress'])
    return copy


def test_sound_frames_pass():
    """Of an alloy, at several compositions."""
    assert unfit_frames(alloys()) == {}


def set_to(name, value):
    """Return what gives a frame this label."""
    return lambda atoms: (atoms.arrays if name == 'REF_forces' else atoms.info).__setitem__(name, value)


def moved(value):
    """Return what puts an atom at this place."""
    return lambda atoms: atoms.positions.__setitem__(0, value)


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (set_to('REF_forces', np.zeros((4, 2))), 'has forces of the shape (4, 2), not (4, 3)'),
        (set_to('REF_energy', np.zeros(4)), 'has energy of the shape (4,), not () or (1,)'),
        (set_to('REF_stress', np.zeros(5)), 'has stress of the shape (5,), not (6,) or (9,) or (3, 3)'),
        (set_to('REF_stress', np.arange(9.0)), 'has a stress tensor that is not symmetric'),
        (set_to('REF_energy', 1e300), 'has an energy of 1e+300 eV: atoms have less than 1e+06 eV each'),
        (set_to('REF_energy', np.inf), 'has energy with values that are not finite'),
        (set_to('REF_forces', np.full((4, 3), np.nan)), 'has forces with values that are not finite'),
        (set_to('REF_forces', np.eye(4, 3) * 400), 'has a force of 400 eV/Å, above labelling.max_force_eV_A (50)'),
        (set_to('REF_stress', np.full(6, 3.2)), 'has a stress of 513 GPa, above labelling.max_stress_GPa (200): the '
         'file says 3.2, and its unit is to be eV/Å³; if it is in GPa, divide it by 160.2177, if in kbar, by 1602.177'),
        (moved([np.inf, 0, 0]), 'has positions or a cell that are not finite'),
        (moved([1e6, 0, 0]), 'has positions or a cell of 1e+06 Å'),
        (moved([0.1, 1.9, 1.9]), 'has atoms on top of each other: Au-Au at 0.154 Å'),
        (lambda atoms: atoms.set_cell([3.8, 3.8, 1e-6]), 'has a cell that is 1e-06 Å high along c'),
        (lambda atoms: atoms.set_cell([[3.8, 0, 0], [3.8, 0.01, 0], [0, 0, 3.8]]), 'has a cell that is 0.01 Å high'),
        (lambda atoms: atoms.set_cell([3.8, 3.8, 0]), 'has no three lattice vectors'),
        (set_to('REF_energy', -33.2), 'has an energy of -8.300 eV per atom, where -3.'),
    ],
)  # fmt: skip
def test_a_frame_of_nonsense_is_named_with_what_is_wrong(change, words):
    """The frame, and it alone."""
    found = wrong(change)
    assert list(found) == [7]
    assert found[7].startswith(words), found[7]


def test_an_energy_is_told_with_what_its_composition_suggests():
    """The expected energy, how far off it is, the key and its value; a wider window lets it pass."""
    frames = alloys()
    frames[7].info['REF_energy'] = -33.2
    (words,) = unfit_frames(frames).values()
    assert re.fullmatch(
        r'has an energy of -8\.300 eV per atom, where -3\.[23]\d\d is expected of Au2Cu2 \(a line through the '
        r'compositions of all frames\): -(4\.9|5\.0)\d\d is outside labelling\.data_energy_window_eV \(3\)',
        words,
    )
    assert unfit_frames(frames, LabellingParameters(data_energy_window_eV=6.0)) == {}
    assert unfit_frames(frames, LabellingParameters(data_energy_window_eV=None)) == {}


def test_a_single_atom_far_off_is_perhaps_an_isolated_one():
    """The message says how to mark it."""
    frames = [*alloys(), Atoms('Cu', cell=[9.0] * 3, pbc=True)]
    frames[-1].info |= {'REF_energy': -0.2, 'REF_stress': np.zeros(6)}
    frames[-1].arrays['REF_forces'] = np.zeros((1, 3))
    assert unfit_frames(frames)[12].endswith('if it is an isolated atom, say so by config_type=IsolatedAtom')
    frames[-1].info['config_type'] = 'IsolatedAtom'
    assert unfit_frames(frames) == {}


def test_the_line_of_energies_is_not_moved_by_a_third_of_absurd_ones():
    """Energies of 1e4 eV per atom in every third frame; the others are expected where they are."""
    frames = [alloy(n_gold=seed % 5, seed=seed) for seed in range(60)]
    energies = np.array([atoms.info['REF_energy'] for atoms in frames])
    absurd = np.arange(60) % 3 == 0
    expected = energies_by_composition(frames, np.where(absurd, energies + 4e4, energies))
    assert np.abs(expected - energies / 4)[~absurd].max() < 0.1


def test_a_structure_given_twice_with_other_labels_is_named():
    """By another energy, or other forces, also where a file has rounded the positions; equal labels are no matter."""
    frames = alloys()
    again, rounded, others = frames[3].copy(), frames[4].copy(), frames[5].copy()
    again.info['REF_energy'] += 0.4
    rounded.positions = rounded.positions.round(5)
    rounded.info['REF_energy'] -= 0.04
    others.arrays['REF_forces'] = -others.arrays['REF_forces']
    found = unfit_frames([*frames, frames[2].copy(), again, rounded, others])
    assert list(found) == [13, 14, 15]
    assert found[13] == (
        'is the structure of frame 3, but its energy is +100 meV per atom from that one (max_data_energy_meV: 5)'
    )
    assert found[14].startswith('is the structure of frame 4, but its energy is -10 meV per atom')
    assert found[15].startswith('is the structure of frame 5, but its forces differ by ')


def test_the_file_is_refused_with_the_first_three_and_the_number_of_others(tmp_path):
    """As ASE writes and reads it, forces of two columns too."""
    frames = alloys()
    for number in (1, 4, 6, 8, 10):
        frames[number].arrays['REF_forces'] = np.zeros((4, 2))
    write(tmp_path / 'data.extxyz', frames)
    with pytest.raises(ValueError, match=r'data.extxyz: frame 1 has forces of the shape \(4, 2\).*frame 4 .*frame 6 '
                       r'.* \(and 2 more\); repair these frames, or leave them out'):  # fmt: skip
        read_labelled(tmp_path / 'data.extxyz')


# ----------------------------------------------------------------------------------- beside labels computed again


def compared(given: list[Atoms], true: list[Atoms]) -> str | None:
    """Return why given data is refused where its frames were labelled again."""
    return too_different(differences_between(existing_data(given), existing_data(true)), LabellingParameters())


@pytest.mark.parametrize(
    ('factor', 'words'),
    [
        (-1, 'in eV/Å³, with the opposite sign (compression positive): multiply it by -1'),
        (1 / GPa, 'in GPa: multiply it by 0.00624151'),
        (-10 / GPa, 'in kbar, with the opposite sign (compression positive): multiply it by -0.000624151'),
        (Bohr**3 / Hartree, 'in Ha/Bohr³: multiply it by 183.632'),
        (-(3.8**3), 'a virial in eV: divide it by minus the volume of the cell'),
    ],
)
def test_a_stress_in_another_unit_or_with_the_other_sign_is_called_that(factor, words):
    """With the factor that mends it; nothing else differs."""
    true = alloys()[:3]
    told = compared([same_elsewhere(atoms, factor) for atoms in true], true)
    assert told is not None and told.startswith('3 of its frames were labelled again, and differ: stresses by up to ')
    assert told.endswith(f'; its stress is {words}')
    assert compared([same_elsewhere(atoms) for atoms in true], true) is None


def test_a_stress_with_the_other_sign_shows_on_small_ones_too():
    """Where the difference itself would be tolerated: other frames may be under large stress."""
    true = [same_elsewhere(atoms, 0.05) for atoms in alloys()[:3]]
    assert np.abs([atoms.info['REF_stress'] for atoms in true]).max() < 0.25 * GPa
    told = compared([same_elsewhere(atoms, -1) for atoms in true], true)
    assert told is not None and 'with the opposite sign' in told and 'tolerance' not in told


def test_shears_in_the_order_of_another_code_are_called_that():
    """VASP lists xy before yz."""
    true, given = alloys()[:3], alloys()[:3]
    for atoms in given:
        atoms.info['REF_stress'] = atoms.info['REF_stress'][[0, 1, 2, 5, 3, 4]]
    told = compared(given, true)
    assert told is not None and told.endswith('its stress is in eV/Å³, in the order xx yy zz xy yz zx')


def test_forces_and_energies_in_another_unit_are_called_that():
    """Gradients for forces, atomic units, energies per atom."""
    true, given = alloys()[:3], alloys()[:3]
    for atoms in given:
        atoms.info['REF_energy'] /= 4
        atoms.arrays['REF_forces'] = -atoms.arrays['REF_forces'] * Bohr / Ry
    told = compared(given, true)
    assert told is not None and 'its energies are per atom: it needs total energies in eV' in told
    assert 'its forces are in Ry/Bohr and have the opposite sign (gradients): multiply them by -25.711' in told
    given = alloys()[:3]
    for atoms in given:
        atoms.info['REF_energy'] /= Hartree
    told = compared(given, true)
    assert told is not None and 'its energies are in Ha: it needs total energies in eV' in told


def test_a_stress_that_differs_for_no_such_reason_is_told_in_figures():
    """Another level of theory."""
    true, given = alloys()[:3], alloys()[:3]
    for seed, atoms in enumerate(given):
        atoms.info['REF_stress'] = atoms.info['REF_stress'] + np.random.default_rng(seed).normal(scale=0.02, size=6)
    told = compared(given, true)
    assert told is not None and told.endswith('GPa (tolerance: 0.5)')
