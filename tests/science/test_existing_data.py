"""Existing data: how it is read, which frames are labelled again, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from ase.units import GPa

from aiida_mlip_autopipe.science.existing_data import differences_between, read_labelled, spread_over, too_different
from aiida_mlip_autopipe.science.parameters import LabellingParameters


def copper(amplitude: float, seed: int = 0) -> Atoms:
    """Return displaced copper with the results of a calculation."""
    atoms = bulk('Cu', cubic=True)
    atoms.rattle(amplitude, seed=seed)
    atoms.calc = EMT()
    results = {'energy': atoms.get_potential_energy(), 'forces': atoms.get_forces(), 'stress': atoms.get_stress()}
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def stored(folder: Path, *frames: Atoms) -> Path:
    """Return a file of frames."""
    write(folder / 'data.extxyz', list(frames))
    return folder / 'data.extxyz'


def test_results_of_a_calculation_become_labels(tmp_path):
    """Energy, forces and stress, the temperature too; equal frames are kept once, isolated atoms not at all."""
    hot, atom = copper(0.1), Atoms('Cu', cell=[9.0] * 3, pbc=True, info={'config_type': 'IsolatedAtom'})
    hot.info |= {'temperature_K': 600.0, 'comment': 'of no use here'}
    first, second = read_labelled(stored(tmp_path, hot, atom, hot, copper(0.2)))
    assert first.info['REF_energy'] == pytest.approx(hot.get_potential_energy())
    np.testing.assert_allclose(first.arrays['REF_forces'], hot.get_forces(), atol=1e-7)
    np.testing.assert_allclose(first.info['REF_stress'], hot.get_stress(), atol=1e-7)
    assert first.info['temperature_K'] == 600.0 and 'comment' not in first.info
    assert first.info['frame_id'].startswith('data-') and first.info['frame_id'] != second.info['frame_id']
    assert (first.info['origin'], first.info['config_type']) == ('data', 'data')


def test_labels_of_a_data_set_are_read_before_results(tmp_path):
    """``REF_`` labels come first; a stress of nine numbers is one of six."""
    atoms = copper(0.1)
    matrix = np.array([[1.0, 6.0, 5.0], [6.0, 2.0, 4.0], [5.0, 4.0, 3.0]]) / 64
    atoms.info |= {'REF_energy': -7.0, 'REF_stress': matrix}
    atoms.arrays['REF_forces'] = np.ones((4, 3))
    (found,) = read_labelled(stored(tmp_path, atoms))
    assert found.info['REF_energy'] == -7.0 and (found.arrays['REF_forces'] == 1).all()
    assert (64 * found.info['REF_stress']).tolist() == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]


def test_a_frame_keeps_the_name_it_has(tmp_path):
    """So that what a run made can be followed in the next one; a name of two structures is refused."""
    one, two = copper(0.1), copper(0.2)
    one.info['frame_id'] = 'seed-0123abcd'
    assert [atoms.info['frame_id'] for atoms in read_labelled(stored(tmp_path, one, one))] == ['seed-0123abcd']
    two.info['frame_id'] = 'seed-0123abcd'
    with pytest.raises(ValueError, match='frame 1 has the frame_id of another one, seed-0123abcd'):
        read_labelled(stored(tmp_path, one, two))


def test_frames_without_a_label_are_named(tmp_path):
    """Each unfit frame is told with its number and what it lacks."""
    bare, open_, broken = copper(0.1), copper(0.1), copper(0.2)
    bare.calc = None
    open_.pbc = [True, True, False]
    broken.calc.results['energy'] = np.nan
    path = stored(tmp_path, copper(0.15), bare, open_, broken)
    with pytest.raises(
        ValueError, match=r'data.extxyz: frame 1 has no energy.*; frame 2 pbc says that c is not.*; frame 3 has en'
    ):
        read_labelled(path)


def test_what_cannot_be_read_is_told(tmp_path):
    """A missing file, and one with isolated atoms alone."""
    with pytest.raises(ValueError, match='cannot be read'):
        read_labelled(tmp_path / 'none.extxyz')
    atom = Atoms('Cu', cell=[9.0] * 3, pbc=True, info={'config_type': 'IsolatedAtom'})
    with pytest.raises(ValueError, match='there is no labelled frame'):
        read_labelled(stored(tmp_path, atom))


def test_the_frames_to_label_again_span_the_forces(tmp_path):
    """From the smallest to the largest force; all of a set that has fewer."""
    frames = read_labelled(stored(tmp_path, *(copper(amplitude) for amplitude in (0.15, 0.05, 0.25, 0.1, 0.2))))
    assert spread_over(frames, 3) == [1, 0, 2]
    assert sorted(spread_over(frames, 99)) == [0, 1, 2, 3, 4]
    assert spread_over(frames[:1], 3) == [0]


def test_differences_are_per_atom_and_per_component(tmp_path):
    """An energy off by 8 meV in four atoms, one force component by 30 meV/Å, the stress by 1 GPa."""
    frames = read_labelled(stored(tmp_path, copper(0.1), copper(0.2)))
    again = frames[0].copy()
    again.info['REF_energy'] -= 0.008
    again.arrays['REF_forces'] = again.arrays['REF_forces'] + [[0, 0.03, 0], *[[0, 0, 0]] * 3]
    again.info['REF_stress'] = again.info['REF_stress'] + [GPa, 0, 0, 0, 0, 0]
    differences = differences_between(frames, [again])
    assert differences == pytest.approx(
        {'n_frames': 1, 'energy_meV': 2.0, 'energy_spread_meV': 0.0, 'force_meV_A': 30 / np.sqrt(12), 'stress_GPa': 1.0}
    )
    assert too_different(differences, LabellingParameters(max_data_stress_GPa=None)) is None
    assert too_different(differences, LabellingParameters()) == (
        '1 of its frames were labelled again, and differ: stresses by up to 1 GPa (tolerance: 0.5)'
    )
    strict = LabellingParameters(max_data_energy_meV=1.0, max_data_force_meV_A=1.0, max_data_stress_GPa=None)
    assert too_different(differences, strict) == (
        '1 of its frames were labelled again, and differ: energies by up to 2 meV/atom (tolerance: 1), forces by '
        '8.66 meV/Å (tolerance: 1)'
    )


@pytest.mark.parametrize(
    ('changed', 'is_a_zero'),
    [
        ({'energy_meV': 500.0}, True),
        ({'energy_meV': 500.0, 'energy_spread_meV': 9.0}, False),
        ({'force_meV_A': 90.0}, False),
    ],
)
def test_another_zero_of_energy_is_called_that(changed, is_a_zero):
    """Where all energies are off by the same and the forces agree; not where the forces differ, or one frame is off."""
    small = {'n_frames': 3, 'energy_meV': 0.1, 'energy_spread_meV': 0.1, 'force_meV_A': 1.0, 'stress_GPa': 0.0}
    told = too_different({**small, **changed}, LabellingParameters())
    assert told is not None and ('another zero of energy' in told) == is_a_zero
