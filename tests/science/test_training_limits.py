"""What limits a potential: the labels or the training; told by what it brings to go on, on sets where it is known."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from aiida_mlip_autopipe.science.frames import write_extxyz
from aiida_mlip_autopipe.science.parameters import TrainingParameters
from aiida_mlip_autopipe.science.training import TrainingError, train
from aiida_mlip_autopipe.science.training.limits import limited_by, tell_limit

pytestmark = pytest.mark.usefixtures('warm_training')

SMALL = TrainingParameters(
    free_atom='trained',
    num_channels=8,
    correlation=2,
    max_ell=2,
    num_interactions=1,
    r_max=4.0,
    lr=0.02,
    swa_fraction=0.0,
)


def errors(train_force, validation_force):
    return {
        name: {'energy_rmse_meV': 1.0, 'force_rmse_meV_A': force, 'n_frames': 12}
        for name, force in (('train', train_force), ('validation', validation_force))
    }


@pytest.mark.parametrize(
    ('judged', 'limit', 'words'),
    [
        ([(100, 110), (90, 95), (70, 80)], 'training', 'they still fell in the last 100 steps'),
        ([(300, 60), (240, 65)], 'training', 'raise training.n_steps'),  # frames that validate are easier by chance
        ([(20, 90), (18, 88)], 'labels', '18 meV/Å on the training set, 88 on the validation set'),
        ([(20, 90), (5, 95)], 'labels', 'more of them would help'),  # it learns them by heart
        ([(40, 44), (40, 43)], 'neither', 'a larger network'),
        ([(40, 44), (42, 50)], 'neither', 'a larger network'),
        ([(20, 90)], 'labels', 'more of them would help'),
    ],
)
def test_the_limit_follows_from_the_errors(judged, limit, words):
    found = [errors(*one) for one in judged]
    assert limited_by(found) == limit
    told = tell_limit({**found[-1], 'run': {'limited_by': limit, 'continuations': [{'n_steps': 100}]}})
    assert words in told


def copper(n_frames, seed, spread=0.15):
    """Return an isolated atom and displaced cells, labelled with effective medium theory."""
    rng = np.random.default_rng(seed)
    frames = [Atoms('Cu', positions=[[6, 6, 6]], cell=[12] * 3, pbc=True)]
    frames[0].info = {'frame_id': 'atom-Cu', 'origin': 'atom-Cu', 'config_type': 'IsolatedAtom'}
    for number in range(n_frames):
        atoms = bulk('Cu', cubic=True, a=3.6 * rng.uniform(0.97, 1.03))
        atoms.positions += rng.normal(scale=spread, size=(4, 3))
        atoms.info = {'frame_id': f'{seed}-{number}', 'origin': f'{seed}-{number}', 'config_type': 'candidate'}
        frames.append(atoms)
    for atoms in frames:
        atoms.calc = EMT()
        energy, forces, stress = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
        atoms.calc = None
        atoms.info.update(REF_energy=energy, REF_stress=stress)
        atoms.arrays['REF_forces'] = forces
    return frames


@pytest.fixture
def sets(tmp_path):
    """Return a function that writes a training set of so many frames and a validation set."""

    def write(n_training):
        write_extxyz(tmp_path / 'training.xyz', copper(n_training, 1))
        write_extxyz(tmp_path / 'validation.xyz', copper(12, 2)[1:])
        return tmp_path / 'training.xyz', tmp_path / 'validation.xyz'

    return write


@pytest.mark.slow
def test_few_steps_on_many_labels_are_limited_by_the_training(sets, tmp_path):
    """A continuation lowers the errors: it goes on as often as it may, and the last potential is kept."""
    told = []
    result = train(*sets(24), SMALL.model_copy(update={'n_steps': 60, 'max_continuations': 1}), tmp_path, told.append)
    continuations = result.run['continuations']
    assert result.run['limited_by'] == 'training' and [one['kept'] for one in continuations] == [True]
    assert result.metrics['validation']['force_rmse_meV_A'] == continuations[-1]['validation_force_rmse_meV_A']
    assert result.potential == tmp_path / 'potential.model'
    assert [state['epoch'] for state in told] == list(range(1, len(told) + 1)) and told[-1]['epochs'] == len(told)
    assert result.potential.read_bytes() == (tmp_path / 'continued_1/potential.model').read_bytes()


@pytest.mark.nightly
def test_many_steps_on_few_labels_are_limited_by_the_labels(sets, tmp_path):
    """It learns its three frames by heart; to go on once more brings nothing on others."""
    result = train(
        *sets(3), SMALL.model_copy(update={'n_steps': 500, 'batch_size': 1, 'max_continuations': 6}), tmp_path
    )
    assert result.run['limited_by'] == 'labels'
    assert len(result.run['continuations']) < 6 and not result.run['continuations'][-1]['kept']


@pytest.mark.slow
def test_a_training_that_diverges_begins_once_more_with_lower_rates(sets, tmp_path, caplog):
    """A rate far too high gives no finite errors; a quarter of it may, and the result says so, or the error does."""
    wild = SMALL.model_copy(update={'lr': 1e30, 'n_steps': 40, 'max_continuations': 0})
    with pytest.raises(TrainingError, match='diverged'):
        train(*sets(6), wild, tmp_path)
    assert 'begins once more with learning rates 0.25 times as high' in caplog.text
