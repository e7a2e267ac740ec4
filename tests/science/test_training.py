"""Training: what it refuses, what it gives, and splits that do not leak."""

import json

import numpy as np
import pytest
import torch
from ase.build import bulk

from aiida_mlip_autopipe.science.dynamics import single_point
from aiida_mlip_autopipe.science.frames import read_extxyz, write_extxyz
from aiida_mlip_autopipe.science.parameters import TrainingParameters
from aiida_mlip_autopipe.science.potential import (
    FOUNDATIONS,
    FoundationError,
    PotentialError,
    inspect_potential,
    load_foundation,
)
from aiida_mlip_autopipe.science.potential.schedule import Schedule, schedule_of
from aiida_mlip_autopipe.science.potential.training_files import list_checkpoints
from aiida_mlip_autopipe.science.training import TrainingError, TrainingSetError, split_by_origin, train
from aiida_mlip_autopipe.science.training.checkpoints import take_up
from aiida_mlip_autopipe.science.training.follow import Follower, run
from tests.support.labels import labelled_silicon

pytestmark = pytest.mark.usefixtures('warm_training')

TINY = TrainingParameters(num_channels=4, correlation=1, num_interactions=1, max_ell=1, r_max=4.0, n_steps=2,
                          max_continuations=0, swa_fraction=0.5, batch_size=50)  # fmt: skip


@pytest.fixture(scope='module')
def labelled(tiny_potential):
    """Return an isolated atom and eight labelled cells of four origins."""
    return labelled_silicon(tiny_potential, 8)


@pytest.fixture
def sets(labelled, tmp_path):
    """Return the paths of a training and a validation set."""
    training, validation = split_by_origin(labelled, 0.25, 0)
    write_extxyz(tmp_path / 'training.xyz', [labelled[i] for i in training])
    write_extxyz(tmp_path / 'validation.xyz', [labelled[i] for i in validation])
    return tmp_path / 'training.xyz', tmp_path / 'validation.xyz'


@pytest.mark.slow
def test_training_gives_a_potential_that_was_looked_at(sets, tmp_path):
    progress = []
    result = train(*sets, TINY, tmp_path, progress=progress.append)
    assert result.potential == tmp_path / 'potential.model'
    assert result.history['epoch'] == [0, 1]
    assert all(len(column) == 2 for column in result.history.values())
    assert np.isfinite(result.history['rmse_stress_meV_A3']).all()
    assert [state['epoch'] for state in progress] == [1, 2] and progress[0]['epochs'] == 2
    assert progress[-1]['rmse_f_meV_A'] == result.history['rmse_f_meV_A'][-1]
    assert result.metrics['train']['n_frames'] == 6 and result.metrics['validation']['n_frames'] == 2
    assert result.metrics['validation']['force_rmse_meV_A'] == pytest.approx(progress[-1]['rmse_f_meV_A'], rel=1e-3)
    assert result.metrics['validation']['energy_rmse_meV'] == pytest.approx(progress[-1]['rmse_e_meV'], rel=1e-3)
    assert result.info['elements'] == ['Si'] and result.info['r_max'] == 4.0 and result.info['dtype'] == 'float32'
    assert result.run['best_epoch'] == 1 and result.run['n_epochs'] == 2 and not result.run['stopped_early']
    saved = [torch.load(path, weights_only=False).state_dict() for path in
             (tmp_path / 'mace/autopipe_stagetwo.model', result.potential)]  # fmt: skip
    energies = 'atomic_energies_fn.atomic_energies'
    assert all(torch.equal(saved[0][name], saved[1][name]) for name in saved[0] if name != energies)
    assert np.isfinite(single_point(result.potential, bulk('Si'))['energy'])
    atom = read_extxyz(sets[0])[0]
    assert single_point(result.potential, atom)['energy'] == pytest.approx(atom.info['REF_energy'], abs=1e-5)


def test_the_total_energy_of_the_atoms_does_not_cost_precision(labelled, sets, tmp_path):
    """Labels 100 keV lower per atom, where single precision resolves 8 meV: the same training, in the same numbers."""
    results = []
    for name, offset in (('small', 0.0), ('large', -1e5)):
        folder = tmp_path / name
        folder.mkdir()
        paths = []
        for path in sets:
            frames = read_extxyz(path)
            for atoms in frames:
                atoms.info['REF_energy'] += offset * len(atoms)
            paths.append(folder / path.name)
            write_extxyz(paths[-1], frames)
        results.append(train(*paths, TINY, folder))
    small, large = results
    for name, column in small.history.items():
        assert large.history[name] == pytest.approx(column, rel=1e-3), name
    for name in ('train', 'validation'):
        found, expected = large.metrics[name], small.metrics[name]
        assert found['energy_rmse_meV'] == pytest.approx(expected['energy_rmse_meV'], rel=0.01, abs=8.0)
        assert found['force_rmse_meV_A'] == pytest.approx(expected['force_rmse_meV_A'], rel=1e-3)


def test_the_isolated_atoms_are_trained_on_where_the_network_does_not_know_them():
    """The network of a foundation has a shift: there the free atom has to be learnt."""
    of = {one: TrainingParameters(method=one) for one in ('scratch', 'naive', 'multihead')}
    assert [one.has_exact_free_atom for one in of.values()] == [True, False, False]
    assert [one.trains_on_isolated_atoms for one in of.values()] == [False, True, True]
    assert TrainingParameters(free_atom='trained').trains_on_isolated_atoms
    assert not TrainingParameters(free_atom='shifted').trains_on_isolated_atoms


def test_frames_with_vacuum_train_and_are_evaluated_without_a_stress(labelled, sets, tmp_path):
    """Where no frame has one, neither mace nor the evaluation makes one up."""
    slabs = [atoms.copy() for atoms in labelled]
    for atoms in slabs[1:]:
        del atoms.info['REF_stress']
        atoms.info['vacuum_axes'] = 'c'
    training, validation = split_by_origin(slabs, 0.25, 0)
    for path, part in zip(sets, (training, validation), strict=True):
        write_extxyz(path, [slabs[i] for i in part])
    result = train(*sets, TINY, tmp_path)
    assert result.history['rmse_stress_meV_A3'] == [None, None]
    for metrics in result.metrics.values():
        assert metrics['stress_rmse_GPa'] is None and np.isfinite(metrics['force_rmse_meV_A'])


def spoil(frames, index, key, value):
    """Return copies of frames with one label changed; None removes it."""
    frames = [atoms.copy() for atoms in frames]
    store = frames[index].arrays if key == 'REF_forces' else frames[index].info
    if value is None:
        del store[key]
    else:
        store[key] = np.asarray(store[key]) * value
    return frames


@pytest.mark.parametrize('key', ['REF_energy', 'REF_forces', 'REF_stress'])
@pytest.mark.parametrize(('value', 'words'), [(np.nan, 'non-finite'), (None, 'has no')])
def test_unsound_labels_are_refused_before_anything_starts(labelled, sets, tmp_path, key, value, words):
    write_extxyz(sets[0], spoil(labelled, 3, key, value))
    with pytest.raises(TrainingSetError, match=f'frame 3 .frame-0-2. of the training set .*{words}.*'):
        train(*sets, TINY, tmp_path)
    assert not (tmp_path / 'mace').exists()


def test_sets_without_isolated_atoms_or_frames_are_refused(labelled, sets, tmp_path):
    write_extxyz(sets[0], labelled[1:])
    with pytest.raises(TrainingSetError, match='no isolated atom of Si'):
        train(*sets, TINY, tmp_path)
    write_extxyz(sets[0], labelled[:1])
    with pytest.raises(TrainingSetError, match='no frame besides isolated atoms'):
        train(*sets, TINY, tmp_path)
    with pytest.raises(TrainingSetError, match=r'the validation set: .*nowhere\.xyz'):
        write_extxyz(sets[0], labelled)
        train(sets[0], tmp_path / 'nowhere.xyz', TINY, tmp_path)


def test_a_failing_command_is_an_error_with_its_last_words(tmp_path):
    import sys

    command = [sys.executable, '-c', 'print("first"); raise SystemExit("out of luck")']
    with pytest.raises(TrainingError, match=r'exit status 1(.|\n)*first\nout of luck'):
        run(command, tmp_path, Follower(tmp_path, epochs(1)))


def epochs(n_epochs, stage_two=None, patience=None):
    """Return a schedule of so many epochs."""
    return Schedule(2, 1, n_epochs, stage_two, 1.0, patience)


@pytest.mark.parametrize(
    ('n_frames', 'batch_size', 'steps_per_epoch', 'n_epochs'), [(26, 2, 13, 300), (27, 2, 13, 300), (3, 8, 1, 3900)]
)
def test_epochs_follow_from_steps(n_frames, batch_size, steps_per_epoch, n_epochs):
    """mace leaves out the last batch where it is incomplete; the learning rate ends where it is to, in two stages."""
    parameters = TINY.model_copy(
        update={'n_steps': 3900, 'batch_size': batch_size, 'swa_fraction': 0.3, 'patience': 100, 'final_lr_factor': 0.1}
    )
    schedule = schedule_of(parameters, n_frames)
    assert (schedule.steps_per_epoch, schedule.n_epochs) == (steps_per_epoch, n_epochs)
    assert schedule.stage_two == round(0.7 * n_epochs)
    assert schedule.lr_gamma**schedule.stage_two == pytest.approx(0.1)
    assert schedule.patience == -(-100 // steps_per_epoch)
    one = schedule_of(parameters.model_copy(update={'n_steps': 1}), n_frames)
    assert (one.n_epochs, one.stage_two) == (1, None)


def write_results(work, losses, first=0, tail=''):
    """Append epochs to the results in mace's folder, as mace writes them."""
    (work / 'results').mkdir(parents=True, exist_ok=True)
    with (work / 'results/autopipe_run-0_train.txt').open('a') as handle:
        for epoch, loss in enumerate(losses, start=first):
            handle.write(json.dumps({'loss': 1.0, 'mode': 'opt', 'epoch': epoch}) + '\n')
            entry = {'mode': 'eval', 'epoch': epoch, 'head': 'Default', 'loss': loss, 'rmse_e_per_atom': 0.5,
                     'rmse_f': float('nan')}  # fmt: skip
            handle.write(json.dumps({**entry, 'head': 'pt_head', 'loss': 7.0}) + '\n' + json.dumps(entry) + '\n')
        handle.write(tail)


def test_bare_nan_in_the_results_becomes_none_and_half_a_line_waits(tmp_path):
    write_results(tmp_path, [1.0], tail='{"mode": "ev')
    follower = Follower(tmp_path, epochs(2))
    follower.look()
    assert follower.history == {'epoch': [0], 'loss': [1.0], 'rmse_e_meV': [500.0], 'rmse_f_meV_A': [None],
                                'rmse_stress_meV_A3': [None]}  # fmt: skip
    with (tmp_path / 'results/autopipe_run-0_train.txt').open('a') as handle:
        handle.write('al", "epoch": 1, "loss": 2.0}\n')
    follower.look()
    assert follower.history['epoch'] == [0, 1] and follower.history['loss'] == [1.0, 2.0]


@pytest.mark.parametrize(('losses', 'stage_two', 'n_followed'), [
    ([5.0, 4.0, 4.5, 4.1, 1.0], None, 4),
    ([5.0, 4.0, 4.5, 4.1, 3.0, 3.5, 3.5, 3.5], 4, 7),  # the losses of the stages are not compared
    ([5.0, 4.0, 4.5, 4.5, 4.5], 5, 5),  # the first of two stages is mace's to end
    ([5.0, 4.0, 3.0, 3.5, 2.0], None, 5),
])  # fmt: skip
def test_when_patience_is_lost(tmp_path, losses, stage_two, n_followed):
    """What was done until the training could be stopped does not count, in whatever pieces it is read."""
    follower = Follower(tmp_path, epochs(100, stage_two, patience=2))
    write_results(tmp_path, losses)
    follower.look()
    assert follower.history['epoch'] == list(range(n_followed))
    assert follower.lost_patience == (n_followed < len(losses))
    assert not Follower(tmp_path, epochs(100, stage_two)).lost_patience


def test_a_loss_that_is_no_number_ends_the_training(tmp_path):
    follower = Follower(tmp_path, epochs(100))
    write_results(tmp_path, [5.0, float('nan'), 5.0])
    follower.look()
    assert follower.history['loss'] == [5.0, None] and follower.has_seen_enough


def test_checkpoints_are_few_and_the_best_is_among_them(tmp_path):
    """Two of each stage and the best of each."""
    (tmp_path / 'checkpoints').mkdir()
    follower = Follower(tmp_path, epochs(12, stage_two=6))
    for epoch, loss in enumerate([5, 1, 4, 3, 3, 3, 9, 8, 9, 9, 9]):
        ending = '_swa.pt' if epoch >= 6 else '.pt'
        (tmp_path / f'checkpoints/autopipe_run-0_epoch-{epoch}{ending}').touch()
        write_results(tmp_path, [float(loss)], first=epoch)
        if epoch != 8:  # the training does not wait to be looked at
            follower.look()
    assert [checkpoint.epoch for checkpoint in list_checkpoints(tmp_path)] == [1, 4, 5, 7, 9, 10]


def test_a_checkpoint_that_was_not_judged_yet_stays(tmp_path):
    """The training goes on between two looks: epoch 2 may turn out to be the best."""
    (tmp_path / 'checkpoints').mkdir()
    for epoch in range(6):
        (tmp_path / f'checkpoints/autopipe_run-0_epoch-{epoch}.pt').touch()
    follower = Follower(tmp_path, epochs(12))
    write_results(tmp_path, [3.0, 2.0])
    follower.look()
    write_results(tmp_path, [1.0, 2.0, 2.0, 2.0], first=2)
    follower.look()
    assert [checkpoint.epoch for checkpoint in list_checkpoints(tmp_path)] == [2, 4, 5]


@pytest.fixture
def interrupted(tmp_path):
    """Return mace's folder of a training that was killed while it wrote its checkpoint of epoch 3."""
    work = tmp_path / 'first/mace'
    assert take_up(work, None, {'seed': 1}) == 0
    write_results(work, [4.0, 3.0, 2.0, 1.0])
    (work / 'checkpoints').mkdir()
    for epoch in (1, 2, 3):
        torch.save({'model': {'epoch': epoch}}, work / f'checkpoints/autopipe_run-0_epoch-{epoch}.pt')
    damaged = work / 'checkpoints/autopipe_run-0_epoch-3.pt'
    damaged.write_bytes(damaged.read_bytes()[:100])
    return work


def epochs_in(work):
    """Return the epochs of checkpoints by those whose weights they hold."""
    return {checkpoint.epoch: checkpoint.weights()['epoch'] for checkpoint in list_checkpoints(work)}


@pytest.mark.parametrize('is_requeued', [False, True])
def test_an_interrupted_training_goes_on_after_its_last_whole_checkpoint(interrupted, tmp_path, caplog, is_requeued):
    """In another folder, or in its own, where a scheduler started it once more; and after another interruption."""
    work = interrupted if is_requeued else tmp_path / 'second/mace'
    for _ in range(2):
        assert take_up(work, interrupted, {'seed': 1}) == 3
        # mace counts the epoch of a checkpoint as still to be done
        assert epochs_in(work).items() >= {2: 2, 3: 2}.items() and max(epochs_in(work)) == 3
        follower = Follower(work, epochs(10))
        follower.look()
        assert follower.history['loss'] == [4.0, 3.0, 2.0]
    assert 'epoch-3.pt is not used' in caplog.text and 'continuing after epoch 2' in caplog.text


def test_at_the_end_of_the_first_stage_the_second_comes_next(interrupted):
    """Its first checkpoint has the place where mace looks for one of the second stage, and will write its own."""
    assert take_up(interrupted, None, {'seed': 1}, stage_two=3) == 3
    assert [(one.epoch, one.in_stage_two) for one in list_checkpoints(interrupted)][-2:] == [(2, False), (3, True)]


def test_a_training_that_was_asked_something_else_is_no_start(interrupted, tmp_path, caplog):
    work = tmp_path / 'second/mace'
    assert take_up(work, interrupted, {'seed': 2}) == 0
    assert 'other parameters or other data' in caplog.text
    assert take_up(work, tmp_path / 'vanished/mace', {'seed': 2}) == 0
    assert 'may have been cleaned' in caplog.text
    for checkpoint in list_checkpoints(interrupted):
        checkpoint.path.unlink()
    assert take_up(tmp_path / 'third/mace', interrupted, {'seed': 1}) == 0
    assert 'no usable checkpoint' in caplog.text and not list_checkpoints(work)


@pytest.mark.slow
def test_a_training_that_gets_no_better_is_stopped(sets, tmp_path):
    """With a high learning rate: mace ends the first stage, the second is ended from outside, and the best is kept."""
    restless = {'patience': 3, 'lr': 0.5, 'swa_lr': 0.5, 'final_lr_factor': 1.0}
    result = train(*sets, TINY.model_copy(update={'n_steps': 400, **restless}), tmp_path)
    epochs, losses, best = result.history['epoch'], result.history['loss'], result.run['best_epoch']
    in_first = [epoch for epoch in epochs if epoch < 200]
    assert result.run['stopped_early'] and epochs == [*range(len(in_first)), *range(201, epochs[-1] + 1)]
    assert 3 <= len(in_first) < 200 and epochs[-1] - best == 3 and best > 200
    index = epochs.index(best)
    assert losses[index] == min(losses[len(in_first) :])
    assert result.metrics['validation']['force_rmse_meV_A'] == pytest.approx(
        result.history['rmse_f_meV_A'][index], rel=1e-3
    )
    assert len(list_checkpoints(tmp_path / 'mace')) <= 7  # three of each stage, and the copy of the newest


def test_inspect_potential(tiny_potential, tmp_path):
    info = inspect_potential(tiny_potential)
    assert info['elements'] == ['Si'] and info['r_max'] == 4.0 and info['n_parameters'] > 100
    assert len(info['sha256']) == 64
    torch.save({'state': torch.zeros(2)}, tmp_path / 'checkpoint.pt')
    with pytest.raises(PotentialError, match='holds a dict, not a MACE potential'):
        inspect_potential(tmp_path / 'checkpoint.pt')
    with pytest.raises(PotentialError, match='is not a file'):
        inspect_potential(tmp_path)


def frames_of(origins):
    """Return frames with these origins."""
    frames = [bulk('Si') for _ in origins]
    for atoms, origin in zip(frames, origins, strict=True):
        atoms.info = {'origin': origin, 'config_type': 'IsolatedAtom' if origin == 'atom-Si' else 'candidate'}
    return frames


def test_split_keeps_origins_together_and_atoms_in_training():
    origins = [f'seed-{i % 10}' for i in range(50)] + ['atom-Si']
    training, validation = split_by_origin(frames_of(origins), 0.3, 0)
    assert sorted(training + validation) == list(range(51)) and 50 in training
    sides = {origins[i] for i in training}, {origins[i] for i in validation}
    assert not sides[0] & sides[1] and len(sides[1]) == 3
    back = origins[::-1]
    _, again = split_by_origin(frames_of(back), 0.3, 0)
    assert {back[i] for i in again} == sides[1]
    others = {frozenset(origins[i] for i in split_by_origin(frames_of(origins), 0.3, seed)[1]) for seed in range(5)}
    assert len(others) > 1


@pytest.mark.parametrize('fraction', [0.01, 0.89])
def test_split_leaves_one_origin_on_each_side(fraction):
    training, validation = split_by_origin(frames_of(['a', 'b']), fraction, 0)
    assert len(training) == len(validation) == 1
    with pytest.raises(ValueError, match='1 structure'):
        split_by_origin(frames_of(['a', 'a', 'atom-Si']), fraction, 0)
    nameless = frames_of(['a', 'b'])
    del nameless[1].info['origin']
    with pytest.raises(ValueError, match=r'frame 1 .*origin'):
        split_by_origin(nameless, fraction, 0)


def test_an_origin_stays_on_its_side_when_others_join():
    """Whatever joins later, and in whatever number, what validated once validates, and what trained once trains."""
    first = [f'seed-{number}' for number in range(6)]
    training, validation = split_by_origin(frames_of(first), 0.34, 0)
    sides = {first[i]: 'training' for i in training} | {first[i]: 'validation' for i in validation}
    assert len(validation) == 2
    for n_more in (1, 2, 6, 30):
        everything = [*(f'new-{number}' for number in range(n_more)), *first]
        training, validation = split_by_origin(frames_of(everything), 0.34, 0, fixed=sides)
        back = {everything[i]: 'validation' for i in validation} | {everything[i]: 'training' for i in training}
        assert sides.items() <= back.items()
        assert len(validation) == max(2, round(0.34 * len(everything)))
        assert sorted(training + validation) == list(range(len(everything)))


def test_foundation_names_paths_and_the_way_out_offline(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    monkeypatch.setenv('https_proxy', 'http://127.0.0.1:9')  # nobody listens: a machine without internet
    assert FOUNDATIONS['medium-mpa-0'].licence == 'MIT' and FOUNDATIONS['medium-omat-0'].licence == 'ASL'
    with pytest.raises(FoundationError, match="did you mean 'medium-mpa-0'"):
        load_foundation('medium-mpa0')
    with pytest.raises(FoundationError, match=r'there is no file .*/nowhere/a\.model'):
        load_foundation('nowhere/a.model')
    (tmp_path / 'own.model').write_bytes(b'x')
    assert load_foundation(str(tmp_path / 'own.model')) == tmp_path / 'own.model'
    for name, cached in (('small', '20231210mace128L0_energy_epoch249model'), ('off-small', 'MACE-OFF23_small.model')):
        target = tmp_path / 'mace' / cached
        with pytest.raises(FoundationError, match=f'cannot be downloaded .*save it as {target}'):
            load_foundation(name)
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(b'x')
        assert load_foundation(name) == target
