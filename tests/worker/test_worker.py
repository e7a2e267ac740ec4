"""The worker from the outside: a JSON file in, files and a result out, whatever happens."""

import json
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from h5py import File

from aiida_mlip_autopipe.science.dynamics import NoFramesError
from aiida_mlip_autopipe.science.frames import (
    ManifestError,
    file_sha256,
    read_extxyz,
    read_manifest,
    write_extxyz,
    write_manifest,
)
from aiida_mlip_autopipe.science.potential import PotentialError
from aiida_mlip_autopipe.science.training import TrainingError, TrainingSetError
from aiida_mlip_autopipe.worker.errors import InputError, error_code
from aiida_mlip_autopipe.worker.inputs import read_input
from aiida_mlip_autopipe.worker.job import run_job
from aiida_mlip_autopipe.worker.stages import STAGES
from tests.support.labels import labelled_silicon
from tests.support.potentials import tiny_potential as tiny_potential_of

MD = {'n_steps': 6, 'sample_interval': 2, 'timestep_fs': 1.0, 'temperatures_K': [300, 600], 'n_processes': 1}
SAMPLE = {'n_to_select': 3, 'descriptor': {'n_max': 2, 'l_max': 1, 'r_cut': 4.0}}


def write_input(folder, stage, parameters, files, arguments=None):
    """Write an input file and return its path."""
    content = {'schema_version': 1, 'stage': stage, 'job': '12345678', 'parameters': parameters, 'files': files,
               'arguments': arguments or {}}  # fmt: skip
    (folder / 'input.json').write_text(json.dumps(content))
    return folder / 'input.json'


def start(folder, stage, *content):
    """Write an input file and start the worker on it."""
    path = write_input(folder, stage, *content)
    command = [sys.executable, '-m', 'aiida_mlip_autopipe.worker', stage, path.name]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(folder, stage, *content):
    """Run the worker to its end; return exit status, result and what it wrote to stderr."""
    process = start(folder, stage, *content)
    output, messages = process.communicate()
    assert output == ''
    return process.returncode, json.loads((folder / 'result.json').read_text()), messages


@pytest.fixture
def here():
    """Return a function that runs a stage in this process and returns its result."""
    before = signal.getsignal(signal.SIGTERM)

    def function(folder, stage, *content):
        run_job(stage, write_input(folder, stage, *content))
        return json.loads((folder / 'result.json').read_text())

    yield function
    signal.signal(signal.SIGTERM, before)


def failure(result):
    """Return code and message of a result that must be an error."""
    assert result['status'] == 'error' and result['outputs'] == {}
    return result['error']['code'], result['error']['message']


@pytest.fixture
def md_files(tiny_potential, tmp_path):
    """Write two seeds; return the files of an MD job."""
    seeds = [bulk('Si', cubic=True), bulk('Si')]
    for i, atoms in enumerate(seeds):
        atoms.info = {'frame_id': f'seed-{i:08x}', 'origin': f'seed-{i:08x}', 'config_type': 'seed'}
    write_extxyz(tmp_path / 'seeds.xyz', seeds)
    return {'potential': str(tiny_potential), 'seeds': 'seeds.xyz'}


def test_md_from_the_command_line(md_files, tmp_path):
    status, result, messages = run(tmp_path, 'md', MD | {'n_processes': 2}, md_files)
    assert status == 0 and result['status'] == 'ok' and result['error'] is None, messages
    assert result['outputs']['n_frames'] == 12 and result['outputs']['n_replicas'] == 4
    assert result['outputs']['guards_tripped'] == 0 and result['outputs']['device'] in ('cpu', 'cuda')
    assert result['versions']['mace-torch'] and result['wall_s'] > 0
    assert 'Warning' not in messages
    assert json.loads((tmp_path / 'progress.json').read_text())['replicas_done'] == 4
    assert read_manifest(tmp_path)['md_job'] == '12345678'


def test_an_error_from_the_command_line(md_files, tmp_path):
    (tmp_path / 'noise.model').write_bytes(b'noise')
    status, result, messages = run(tmp_path, 'md', MD, md_files | {'potential': 'noise.model'})
    assert status == 1 and 'Traceback' in messages
    code, message = failure(result)
    assert code == 'POTENTIAL_UNUSABLE' and 'noise.model' in message


def test_md_jobs_then_sample(here, md_files, tmp_path):
    for index in range(2):
        folder = tmp_path / f'md_{index}'
        folder.mkdir()
        shutil.copy(tmp_path / 'seeds.xyz', folder)
        assert here(folder, 'md', MD, md_files, {'job_index': index, 'n_jobs': 2})['outputs']['n_frames'] == 6
        assert read_manifest(folder)['job_index'] == index
    result = here(tmp_path, 'sample', SAMPLE, {'folders': ['md_0', 'md_1']})
    assert result['status'] == 'ok'
    candidates = read_extxyz(tmp_path / 'candidates.extxyz')
    selection = json.loads((tmp_path / 'selection.json').read_text())
    assert len(candidates) == 3
    assert [atoms.info['frame_id'] for atoms in candidates] == selection['frame_id']
    assert all(atoms.info['md_job'] == '12345678' for atoms in candidates)
    with np.load(tmp_path / 'frames.npz') as frames:
        assert len(frames['step']) == 12 and np.isfinite(frames['components']).all()

    (tmp_path / 'md_1/shards/r001.0.h5').unlink()
    code, message = failure(here(tmp_path, 'sample', SAMPLE, {'folders': ['md_0', 'md_1']}))
    assert code == 'SCRATCH_MISSING' and 'r001.0.h5' in message
    code, message = failure(here(tmp_path, 'sample', SAMPLE, {'folders': ['md_0', 'md_9']}))
    assert code == 'SCRATCH_MISSING' and 'md_9' in message


def test_sample_by_the_features_of_a_potential(here, md_files, tmp_path):
    """Its file is needed; a broken frame is counted and left out; an element that it does not know is named."""
    n_frames = here(tmp_path, 'md', MD, md_files)['outputs']['n_frames']
    parameters = {'n_to_select': 3, 'descriptor': 'mace'}
    files = {'folders': ['.'], 'potential': md_files['potential']}
    code, message = failure(here(tmp_path, 'sample', parameters, {'folders': ['.']}))
    assert code == 'INVALID_INPUT' and 'files.potential is None' in message

    spoil_first_frame(tmp_path)
    result = here(tmp_path, 'sample', parameters, files)
    assert result['status'] == 'ok', result['error']
    assert list(result['outputs']['frames_masked'].values()) == [1]
    assert result['outputs']['n_finite'] == n_frames - 1
    progress = json.loads((tmp_path / 'progress.json').read_text())
    assert progress['frames_described'] == progress['frames_total'] == n_frames
    assert progress['frames_masked'] == result['outputs']['frames_masked']

    other = tiny_potential_of(tmp_path, ['C'])
    code, message = failure(here(tmp_path, 'sample', parameters, files | {'potential': other.name}))
    assert code == 'POTENTIAL_UNUSABLE' and 'knows C, but not Si' in message


def spoil_first_frame(folder):
    """Make the first frame of the first shard unusable and say so in the manifest."""
    manifest = read_manifest(folder)
    shard = manifest['shards'][0]
    with File(folder / shard['path'], 'r+') as file:
        file['particles/all/position/value'][0, 0, 0] = np.nan
    shard |= {'sha256': file_sha256(folder / shard['path']), 'bytes': (folder / shard['path']).stat().st_size}
    write_manifest(folder, manifest)


def test_md_errors_have_their_codes(here, md_files, tmp_path):
    code, message = failure(here(tmp_path, 'md', MD | {'timestep_fs': -1}, md_files))
    assert code == 'INVALID_INPUT' and 'timestep_fs' in message and '-1' in message
    clash = Atoms('Si2', positions=[[0, 0, 0], [0.8, 0, 0]], cell=[6, 6, 6], pbc=True, info={'frame_id': 'seed-x'})
    write_extxyz(tmp_path / 'seeds.xyz', [clash])
    code, message = failure(here(tmp_path, 'md', MD, md_files))
    assert code == 'NO_FRAMES' and 'min_distance_factor' in message


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'schema_version': 7}, 'schema_version 7'),
        ({'stage': 'train'}, "for stage 'train', not 'md'"),
        ({'files': None}, "no mapping 'files'"),
        ({'files': {'seeds': 'a'}}, 'files.potential is None'),
        ({'arguments': {'job_index': 'one'}}, "arguments.job_index is 'one'"),
    ],
)
def test_unfit_input_files_are_explained(tmp_path, change, words):
    content = {'schema_version': 1, 'stage': 'md', 'job': 'a', 'parameters': MD, 'arguments': {},
               'files': {'potential': 'p', 'seeds': 's'}}  # fmt: skip
    path = tmp_path / 'input.json'
    path.write_text(json.dumps(content | change))
    (tmp_path / 's').write_text('1\nProperties=species:S:1:pos:R:3\nSi 0 0 0\n')
    with pytest.raises(ValueError, match=re.escape(words)):
        STAGES['md'](read_input('md', path), print)


def test_an_input_that_is_not_there_or_not_json(tmp_path):
    with pytest.raises(InputError, match='cannot be read'):
        read_input('md', tmp_path / 'input.json')
    (tmp_path / 'input.json').write_text('{"schema')
    with pytest.raises(InputError, match='is not JSON'):
        read_input('md', tmp_path / 'input.json')


def test_train_then_evaluate(here, tiny_potential, tmp_path):
    frames = labelled_silicon(tiny_potential, 6, n_origins=3)
    write_extxyz(tmp_path / 'training.xyz', frames[:5])
    write_extxyz(tmp_path / 'validation.xyz', frames[5:])
    parameters = {'num_channels': 4, 'correlation': 1, 'num_interactions': 1, 'max_ell': 1, 'r_max': 4.0,
                  'n_steps': 1, 'max_continuations': 0}  # fmt: skip
    files = {'training': 'training.xyz', 'validation': 'validation.xyz'}
    outputs = here(tmp_path, 'train', parameters, files)['outputs']
    assert outputs['metrics']['train']['n_frames'] == 4 and outputs['potential']['elements'] == ['Si']
    assert json.loads((tmp_path / 'history.json').read_text())['epoch'] == [0]
    assert json.loads((tmp_path / 'progress.json').read_text())['epoch'] == 1

    files_of_evaluation = {'potential': 'potential.model', 'frames': 'validation.xyz'}
    outputs = here(tmp_path, 'evaluate', {'dtype': 'float32'}, files_of_evaluation)['outputs']
    assert outputs['metrics']['n_frames'] == 2
    with np.load(tmp_path / 'predictions.npz') as predictions:
        assert predictions['forces'].shape == predictions['REF_forces'].shape == (4, 3)

    frames[2].info['REF_energy'] = float('nan')
    write_extxyz(tmp_path / 'training.xyz', frames[:5])
    code, message = failure(here(tmp_path, 'train', parameters, files))
    assert code == 'INVALID_INPUT' and 'frame 2' in message and 'REF_energy' in message


def test_error_codes():
    codes = [error_code(error) for error in (ManifestError(), NoFramesError(), PotentialError(), TrainingError(),
                                             TrainingSetError(), ValueError(), ZeroDivisionError())]  # fmt: skip
    assert codes == ['SCRATCH_MISSING', 'NO_FRAMES', 'POTENTIAL_UNUSABLE', 'TRAINING_FAILED', 'INVALID_INPUT',
                     'INVALID_INPUT', 'UNEXPECTED']  # fmt: skip
