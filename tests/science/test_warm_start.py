"""A training that begins with the weights of the round before: where it may, what it keeps, and what it says of it."""

from types import SimpleNamespace

import numpy as np
import pytest

from aiida_mlip_autopipe.science.evaluation import evaluate
from aiida_mlip_autopipe.science.frames import read_extxyz, write_extxyz
from aiida_mlip_autopipe.science.parameters import EvaluationParameters, TrainingParameters
from aiida_mlip_autopipe.science.potential import inspect_potential
from aiida_mlip_autopipe.science.training import TrainingError, TrainingResult, TrainingSetError, train
from aiida_mlip_autopipe.science.training import warm as warm_start
from aiida_mlip_autopipe.science.training.limits import tell_limit
from aiida_mlip_autopipe.science.training.warm import start, tell_warm_start, why_not_warm
from tests.support.labels import labelled_silicon
from tests.support.potentials import tiny_potential

pytestmark = pytest.mark.usefixtures('warm_training')

# The network of the tiny potentials.
PARAMETERS = TrainingParameters(
    num_channels=4, max_L=1, r_max=4.0, correlation=2, max_ell=2, num_interactions=1, batch_size=2, swa_fraction=0,
    max_continuations=0, device='cpu',
)  # fmt: skip


@pytest.fixture(scope='module')
def given(tmp_path_factory):
    """Return the paths of sets of silicon, of the potential that labelled them and of one with other weights."""
    folder = tmp_path_factory.mktemp('given')
    right, other = (tiny_potential(folder, seed=seed) for seed in (0, 1))
    frames = labelled_silicon(right, 6)
    write_extxyz(folder / 'training.xyz', frames[:5])
    write_extxyz(folder / 'validation.xyz', frames[5:])
    return SimpleNamespace(
        sets=(folder / 'training.xyz', folder / 'validation.xyz'), right=right, other=other, folder=folder
    )


def frames_of(given):
    """Return the frames of both sets."""
    return {name: read_extxyz(path) for name, path in zip(('training', 'validation'), given.sets, strict=True)}


def force_error(potential, given, dtype='float32'):
    """Return the force error on the validation set, in meV/Å."""
    settings = EvaluationParameters(dtype=dtype, device='cpu')
    return evaluate(potential, read_extxyz(given.sets[1]), settings).metrics['force_rmse_meV_A']


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({}, None),
        ({'num_channels': 8}, 'num_channels 4 of 8'),
        ({'r_max': 5.0}, 'r_max 4 of 5 asked for'),
        ({'correlation': 3, 'max_ell': 3}, 'correlation 2 of 3, max_ell 2 of 3'),
        ({'num_interactions': 2, 'max_L': 0}, 'num_interactions 1 of 2'),
    ],
)
def test_only_the_network_that_is_asked_for_may_begin_warm(given, changes, words):
    reason = why_not_warm(given.right, frames_of(given), PARAMETERS.model_copy(update=changes))
    assert reason is None if words is None else words in reason


def test_another_energy_of_the_free_atom_is_no_start(given):
    """A tenth of a meV is enough: all energies that were learnt are differences to it."""
    sets = frames_of(given)
    sets['training'][0].info['REF_energy'] += 1e-4
    reason = why_not_warm(given.right, sets, PARAMETERS)
    assert reason == 'its free atom of Si has -1.000000 eV, that of the labels -0.999900 eV'


def test_another_set_of_elements_is_no_start(given):
    other = tiny_potential(given.folder, ('Si', 'Ge'))
    assert why_not_warm(other, frames_of(given), PARAMETERS) == 'it knows Si, Ge, the labels have Si'


def test_a_file_that_is_no_potential_is_no_start(given):
    assert 'cannot be loaded as a MACE potential' in why_not_warm(given.sets[0], frames_of(given), PARAMETERS)


def test_a_fine_tuning_has_no_round_before(given, tmp_path):
    naive = PARAMETERS.model_copy(update={'method': 'naive'})
    with pytest.raises(TrainingSetError, match=r"previous: given, but training\.method is 'naive'"):
        train(*given.sets, naive, tmp_path, foundation=given.other, previous=given.other)


@pytest.mark.slow
def test_a_warm_training_begins_where_the_one_before_ended(given, tmp_path):
    """With a rate of nothing it is the earlier potential: weights, scale and energies are taken over."""
    still = PARAMETERS.model_copy(update={'lr': 1e-30, 'n_steps': 1})
    result = train(*given.sets, still, tmp_path, previous=given.other)
    told = result.run['warm_start']
    assert told['previous_sha256'] == inspect_potential(given.other)['sha256'] and told['refused'] is None
    assert told['kept'] and told['fresh_force_rmse_meV_A'] is None
    assert told['previous_force_rmse_meV_A'] == pytest.approx(force_error(given.other, given), rel=1e-5)
    assert told['warm_force_rmse_meV_A'] == pytest.approx(told['previous_force_rmse_meV_A'], rel=1e-5)
    assert result.run['method'] == 'scratch' and 'foundation_sha256' not in result.run
    assert result.metrics['validation']['force_rmse_meV_A'] == told['warm_force_rmse_meV_A']


@pytest.mark.nightly
def test_weights_that_get_worse_are_followed_by_random_ones_and_the_better_is_kept(given, tmp_path, caplog):
    """The earlier potential made the labels: no training can lower its error, and the result says what was tried."""
    told = []
    result = train(
        *given.sets, PARAMETERS.model_copy(update={'n_steps': 20}), tmp_path, told.append, previous=given.right
    )
    warm = result.run['warm_start']
    errors = {name: warm[f'{name}_force_rmse_meV_A'] for name in ('previous', 'warm', 'fresh')}
    assert errors['previous'] < errors['warm'] and errors['fresh'] is not None
    assert result.metrics['validation']['force_rmse_meV_A'] == min(errors['warm'], errors['fresh'])
    assert warm['kept'] == (errors['warm'] <= errors['fresh'])
    assert (tmp_path / 'fresh/potential.model').is_file() and 'did not help' in caplog.text
    assert [state['epoch'] for state in told] == list(range(1, len(told) + 1))
    dtype = 'float32' if warm['kept'] else 'float64'  # of a training from scratch
    found = force_error(result.potential, given, dtype)
    assert found == pytest.approx(min(errors['warm'], errors['fresh']), rel=1e-4)


@pytest.mark.nightly
def test_a_potential_that_may_not_begin_gives_the_training_from_random_weights(given, tmp_path):
    other = PARAMETERS.model_copy(update={'num_channels': 8, 'n_steps': 4})
    result = train(*given.sets, other, tmp_path, previous=given.right)
    told = result.run['warm_start']
    assert not told['kept'] and 'num_channels' in told['refused']
    assert told['fresh_force_rmse_meV_A'] == result.metrics['validation']['force_rmse_meV_A']


def result_of(error):
    """Return a result with this force error on the validation set; there was no training."""
    run = {'method': 'naive', 'foundation_sha256': 'x'}
    return TrainingResult(None, {}, {'validation': {'force_rmse_meV_A': error}}, {}, run)


def decide(given, monkeypatch, before, warm, fresh):
    """Return what `start` keeps of trainings that only have an error, or that fail: None."""

    def train_to(error):
        if error is None:
            raise TrainingError('it failed')
        return result_of(error)

    found = SimpleNamespace(metrics={'force_rmse_meV_A': before})
    monkeypatch.setattr(warm_start, 'evaluate', lambda *_: found)
    asked = []

    def train_warm(begun, parameters):
        asked.append((begun['foundation'], parameters))
        return train_to(warm)

    kept = start(train_warm, lambda *_: train_to(fresh), {}, given.right, frames_of(given), PARAMETERS)
    assert asked[0][0] == given.right and asked[0][1].method == 'naive'
    assert asked[0][1].finetune_lr * asked[0][1].final_lr_factor == pytest.approx(
        PARAMETERS.lr * PARAMETERS.final_lr_factor
    )
    return kept


@pytest.mark.parametrize(
    ('before', 'warm', 'fresh', 'kept', 'words'),
    [
        (90, 80, 70, 80, 'it began with the weights of the round before (force error on the validation set 90 '),
        (80, 90, 70, 70, '80 meV/Å -> 90 meV/Å), so it was trained from random ones (70 meV/Å)'),
        (80, 90, 95, 90, '80 meV/Å -> 90 meV/Å); random ones gave 95 meV/Å'),
        (80, None, 95, 95, '80 meV/Å -> none), so it was trained from random ones (95 meV/Å)'),
        (80, 90, None, 90, '80 meV/Å -> 90 meV/Å)'),
        (np.nan, 90, None, 90, 'none -> 90 meV/Å)'),
    ],
)  # fmt: skip
def test_the_frames_that_validate_decide_between_trainings_that_only_have_an_error(
    given, monkeypatch, before, warm, fresh, kept, words
):
    result = decide(given, monkeypatch, before, warm, fresh)
    assert result.metrics['validation']['force_rmse_meV_A'] == kept
    assert words in tell_warm_start(result.run)


def test_the_words_on_what_limits_a_potential_say_with_which_weights_it_began():
    errors = {'energy_rmse_meV': 1.0, 'force_rmse_meV_A': 40.0, 'n_frames': 12}
    training = {'train': errors, 'validation': errors, 'run': {'limited_by': 'neither', 'continuations': []}}
    without = tell_limit(training)  # as earlier versions have recorded it
    assert 'weights' not in without
    training['run']['warm_start'] = {'refused': 'its network is another one'}
    assert tell_limit(training) == (
        f'{without}; it was trained from random weights, not from those of the round before: its network is another one'
    )
