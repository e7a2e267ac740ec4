"""Training: what it refuses, what it gives, and splits that do not leak."""

import json

import numpy as np
import pytest
import torch
from ase.build import bulk

from aiida_mlip_autopipe.science.dynamics import single_point
from aiida_mlip_autopipe.science.frames import write_extxyz
from aiida_mlip_autopipe.science.parameters import TrainingParameters
from aiida_mlip_autopipe.science.training import (
    FOUNDATIONS,
    FoundationError,
    PotentialError,
    TrainingError,
    TrainingSetError,
    inspect_potential,
    load_foundation,
    split_by_origin,
    train,
)
from aiida_mlip_autopipe.science.training.mace_train import _follow, _run
from tests.labels import labelled_silicon

TINY = TrainingParameters(num_channels=4, correlation=1, num_interactions=1, max_ell=1, r_max=4.0, max_num_epochs=2,
                          swa_fraction=0.5, batch_size=50)  # fmt: skip


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
    assert (tmp_path / 'mace/autopipe_stagetwo.model').read_bytes() == result.potential.read_bytes()
    assert np.isfinite(single_point(result.potential, bulk('Si'))['energy'])


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
@pytest.mark.parametrize(('value', 'words'), [(np.nan, 'not finite'), (None, 'has no')])
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
    with pytest.raises(TrainingSetError, match='no frame beside isolated atoms'):
        train(*sets, TINY, tmp_path)
    with pytest.raises(TrainingSetError, match=r'the validation set: .*nowhere\.xyz'):
        write_extxyz(sets[0], labelled)
        train(sets[0], tmp_path / 'nowhere.xyz', TINY, tmp_path)


def test_a_failing_command_is_an_error_with_its_last_words(tmp_path):
    import sys

    command = [sys.executable, '-c', 'print("first"); raise SystemExit("out of luck")']
    with pytest.raises(TrainingError, match=r'exit status 1(.|\n)*first\nout of luck'):
        _run(command, tmp_path, 1, None)


def test_bare_nan_in_the_results_becomes_none_and_half_a_line_waits(tmp_path):
    (tmp_path / 'results').mkdir()
    history = {name: [] for name in ('epoch', 'loss', 'rmse_e_meV', 'rmse_f_meV_A', 'rmse_stress_meV_A3')}
    entry = {'mode': 'eval', 'epoch': 0, 'loss': 1.0, 'rmse_e_per_atom': 0.5, 'rmse_f': float('nan')}
    results = tmp_path / 'results/autopipe_run-0_train.txt'
    results.write_text(json.dumps({'mode': 'opt', 'epoch': 0}) + '\n' + json.dumps(entry) + '\n{"mode": "ev')
    offset = _follow(tmp_path, 0, history, 2, None)
    assert history == {'epoch': [0], 'loss': [1.0], 'rmse_e_meV': [500.0], 'rmse_f_meV_A': [None],
                       'rmse_stress_meV_A3': [None]}  # fmt: skip
    with results.open('a') as handle:
        handle.write('al", "epoch": 1, "loss": 2.0}\n')
    _follow(tmp_path, offset, history, 2, None)
    assert history['epoch'] == [0, 1] and history['loss'] == [1.0, 2.0]


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
