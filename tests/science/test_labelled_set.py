"""A set that is trained on by itself: origins, reference energies, held-out frames, what is refused or warned of."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

from aiida_mlip_autopipe.science.systems import is_isolated_atom
from aiida_mlip_autopipe.science.training.labelled_set import hold_out, test_frames, training_set

test_frames.__test__ = False  # type: ignore[attr-defined]


def labelled(symbols: str = 'Si2', n_frames: int = 6, n_origins: int = 3, seed: int = 0) -> list[Atoms]:
    """Return displaced crystals with energies of -5 eV an atom of silicon and -8 eV of carbon, roughly."""
    rng = np.random.default_rng(seed)
    frames = []
    for number in range(n_frames):
        atoms = bulk('Si', a=5.43 + 0.01 * number) if symbols == 'Si2' else bulk('SiC', 'zincblende', a=4.36)
        atoms.positions += rng.normal(scale=0.05, size=(2, 3))
        energy = sum({'Si': -5.0, 'C': -8.0}[symbol] for symbol in atoms.symbols) + 0.01 * number
        forces, stress = rng.normal(size=(2, 3)), rng.normal(scale=0.01, size=6)
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces, stress=stress)
        atoms.info['origin'] = f'trajectory-{number % n_origins}'
        frames.append(atoms)
    return frames


def isolated(symbol: str, energy: float) -> Atoms:
    """Return an isolated atom with its energy."""
    atoms = Atoms(symbol, cell=[9, 9, 9], pbc=True)
    atoms.info = {'config_type': 'IsolatedAtom', 'REF_energy': energy}
    return atoms


def test_a_set_keeps_origins_and_the_energies_of_its_isolated_atoms():
    whole = training_set([*labelled(), isolated('Si', -1.5)])
    atom, *others = whole.frames
    assert is_isolated_atom(atom) and atom.info['REF_energy'] == -1.5 and not whole.warnings
    assert {frame.info['origin'] for frame in others} == {'trajectory-0', 'trajectory-1', 'trajectory-2'}
    assert all({'REF_energy', 'REF_stress'} <= set(frame.info) for frame in others)


def test_a_set_is_the_set_of_itself():
    """A run divides what was read from a file again."""
    first = training_set(labelled(), 'fit')
    second = training_set(first.frames, 'fit')
    assert first.warnings == second.warnings
    for one, two in zip(first.frames, second.frames, strict=True):
        assert one == two and one.info['frame_id'] == two.info['frame_id'] and one.info['origin'] == two.info['origin']
        assert one.info['REF_energy'] == pytest.approx(two.info['REF_energy'])


def test_frames_without_an_origin_are_warned_of():
    frames = [*labelled(), isolated('Si', -1.5)]
    for atoms in frames[:4]:
        del atoms.info['origin']
    whole = training_set(frames)
    assert "4 of 6 frames have no info['origin']" in whole.warnings[0] and 'too small' in whole.warnings[0]
    assert len({atoms.info['origin'] for atoms in whole.frames[1:]}) == 4 + 2


def test_another_entry_names_the_origin():
    frames = [*labelled(), isolated('Si', -1.5)]
    for number, atoms in enumerate(frames[:6]):
        atoms.info['run'] = number % 2
    assert {atoms.info['origin'] for atoms in training_set(frames, origin='run').frames[1:]} == {'0', '1'}


def test_a_fit_gives_the_energies_of_the_elements_and_is_warned_of():
    whole = training_set([*labelled('Si2'), *labelled('SiC', seed=1)], 'fit')
    energies = {atoms.get_chemical_symbols()[0]: atoms.info['REF_energy'] for atoms in whole.frames[:2]}
    assert energies == pytest.approx({'C': -8.0, 'Si': -5.0}, abs=0.05)
    assert 'cohesive energies' in whole.warnings[0]


@pytest.mark.parametrize(
    ('added', 'told', 'words'),
    [
        ([], None, 'there is no isolated atom of Si'),
        ([], {'C': -8.0}, 'there is no isolated atom of Si'),
        ([isolated('Si', -1.5), isolated('Si', -1.6)], None, 'two isolated atoms of Si have -1.5 and -1.6 eV'),
        ([isolated('Si', -1.5)], {'Si': -1.7}, 'isolated_atoms: Si is told as -1.7 eV'),
        ([isolated('Si', -1.5)], 'fit', 'whose energies are better: remove isolated_atoms'),
        ([isolated('Si', np.nan)], None, 'the isolated atom of Si has no finite energy'),
        ([bulk('Si')], {'Si': -1.5}, 'frame 6 has no energy'),
        ([], {'Si': -102.5}, 'the frames are bound by -97.5 eV per atom'),
        ([], {'Si': 20.0}, 'the frames are bound by 25 eV per atom'),
    ],
)
def test_a_set_that_cannot_be_trained_on_is_refused(added, told, words):
    with pytest.raises(ValueError, match=words.replace('(', r'\(')):
        training_set([*labelled(), *added], told)


def test_frames_of_several_charges_are_refused():
    frames = labelled()
    frames[2].info['charge'] = 1
    with pytest.raises(ValueError, match=r'total charges of \+0, \+1'):
        training_set(frames, {'Si': -1.5})


def test_frames_of_several_levels_of_theory_are_refused_and_one_level_is_kept():
    frames = labelled()
    for atoms in frames:
        atoms.info['label_fingerprint'] = '3cf1accf'
    assert training_set(frames, {'Si': -1.5}).label_fingerprint == '3cf1accf'
    frames[3].info['label_fingerprint'] = 'another'
    with pytest.raises(ValueError, match='2 levels of theory'):
        training_set(frames, {'Si': -1.5})


def test_held_out_frames_share_no_origin_with_the_others():
    frames = training_set(labelled(n_frames=12, n_origins=4), {'Si': -1.5}).frames
    rest, tested = hold_out(frames, 0.25, random_seed=0)
    assert len(rest) + len(tested) == 13 and len(tested) == 3
    assert not {atoms.info['origin'] for atoms in rest} & {atoms.info['origin'] for atoms in tested}
    assert len({atoms.info['origin'] for atoms in hold_out(frames, 0.89, random_seed=0)[0][1:]}) == 2


def test_two_origins_are_too_few_for_three_sets():
    frames = training_set(labelled(n_origins=2), {'Si': -1.5}).frames
    with pytest.raises(ValueError, match='descend from 2 structure'):
        hold_out(frames, 0.1, random_seed=0)


def test_a_test_set_that_was_trained_on_is_refused():
    frames = training_set(labelled(), {'Si': -1.5}).frames
    with pytest.raises(ValueError, match=r'test: 6 of its 6 frames are structures of data'):
        test_frames(labelled(), frames, 'origin')
    with pytest.raises(ValueError, match=r'test: 2 of its 2 frames share an origin with data'):
        test_frames(labelled(n_frames=2, seed=5), frames, 'origin')
    others = labelled(n_frames=2, seed=5)
    for atoms in others:
        atoms.info['origin'] = 'another'
    assert len(test_frames(others, frames, 'origin')) == 2
