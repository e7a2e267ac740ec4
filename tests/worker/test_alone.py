"""The worker without AiiDA: what pyproject.toml lists without an extra is all that its computer must install."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest
from ase.build import bulk
from packaging.requirements import Requirement

from aiida_mlip_autopipe.science.frames import write_extxyz
from tests.support.labels import labelled_silicon

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']

HOOK = """
import sys
REFUSED = {refused}
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition('.')[0] in REFUSED:
            raise ModuleNotFoundError(f'No module named {{name!r}}: the base dependencies do not bring it', name=name)
sys.meta_path.insert(0, Finder)
# What asks whether a module could be imported is told the same.
import importlib.util
_find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *args: None if name in REFUSED else _find_spec(name, *args)
"""

JOBS = """
import json, sys
from pathlib import Path
from aiida_mlip_autopipe.worker.job import run_job
for stage, parameters, files, arguments in json.loads(sys.argv[1]):
    content = {'schema_version': 1, 'stage': stage, 'job': '12345678', 'parameters': parameters, 'files': files}
    Path('input.json').write_text(json.dumps({**content, 'arguments': arguments}))
    run_job(stage, Path('input.json'))
    result = json.loads(Path('result.json').read_text())
    assert result['status'] == 'ok', result['error']
    Path('result.json').rename(f'{stage}.json')
loaded = {'aiida', 'aiida_pseudo', 'aiida_quantumespresso', 'chemiscope', 'plotly'} & set(sys.modules)
assert not loaded, loaded
"""


def normalised(name: str) -> str:
    return re.sub(r'[-_.]+', '-', name).lower()


def distributions_of_the_base() -> set[str]:
    """Return the distributions that the dependencies without an extra bring, and what they bring in turn."""
    found: set[str] = set()
    wanted = [(Requirement(line), '') for line in PROJECT['dependencies']]
    while wanted:
        requirement, of_extra = wanted.pop()
        key = normalised(requirement.name)
        if requirement.marker and not requirement.marker.evaluate({'extra': of_extra}):
            continue
        if key in found and not requirement.extras:
            continue
        try:
            lines = requires(requirement.name) or []
        except PackageNotFoundError:
            continue
        found.add(key)
        for extra in {'', *requirement.extras}:
            wanted += [(Requirement(line), extra) for line in lines]
    return found


@pytest.fixture(scope='module')
def alone(tmp_path_factory) -> dict[str, str]:
    """Return an environment in which Python imports nothing that the base dependencies do not bring."""
    base = distributions_of_the_base()
    assert {'torch', 'mace-torch', 'e3nn', 'llvmlite'} <= base and 'aiida-core' not in base
    kept = {*base, normalised(PROJECT['name']), 'pip', 'setuptools'}
    refused = {
        module
        for module, distributions in packages_distributions().items()
        if not {normalised(name) for name in distributions} & kept and module not in sys.stdlib_module_names
    }
    folder = tmp_path_factory.mktemp('alone')
    (folder / 'sitecustomize.py').write_text(HOOK.format(refused=sorted(refused)))
    return {**os.environ, 'PYTHONPATH': os.pathsep.join([str(folder), str(ROOT)])}


def test_the_worker_needs_the_base_dependencies_only(alone, tiny_potential, tmp_path):
    """Dynamics, sampling, training, evaluation and the examination of the computer, one after the other."""
    seed = bulk('Si', cubic=True)
    seed.info = {'frame_id': 'seed-00000001', 'origin': 'seed-00000001', 'config_type': 'seed'}
    write_extxyz(tmp_path / 'seeds.xyz', [seed])
    labelled = labelled_silicon(tiny_potential, 6, n_origins=3)
    write_extxyz(tmp_path / 'training.xyz', labelled[:5])
    write_extxyz(tmp_path / 'validation.xyz', labelled[5:])
    md = {'n_steps': 6, 'sample_interval': 2, 'timestep_fs': 1.0, 'temperatures_K': [300], 'n_processes': 1}
    small = {'num_channels': 4, 'correlation': 1, 'num_interactions': 1, 'max_ell': 1, 'r_max': 4.0}
    jobs = [
        ('md', md, {'potential': str(tiny_potential), 'seeds': 'seeds.xyz'}, {}),
        ('sample', {'n_to_select': 2, 'descriptor': {'n_max': 2, 'l_max': 1}}, {'folders': ['.']}, {}),
        (
            'train',
            {**small, 'n_steps': 1, 'max_continuations': 0},
            {'training': 'training.xyz', 'validation': 'validation.xyz'},
            {},
        ),
        ('evaluate', {'dtype': 'float32'}, {'potential': 'potential.model', 'frames': 'validation.xyz'}, {}),
        ('doctor', {'n_atoms': [8], 'n_steps': 2, 'write_megabytes': 1.0}, {'potential': 'potential.model'}, {}),
    ]
    command = [sys.executable, '-c', JOBS, json.dumps(jobs)]
    done = subprocess.run(command, cwd=tmp_path, env=alone, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all((tmp_path / f'{stage}.json').is_file() for stage, *_ in jobs)


@pytest.mark.parametrize('command', ['run', 'init', 'report'])
def test_a_command_that_needs_aiida_names_the_extra(alone, command):
    """No traceback where AiiDA is not installed; the help is there."""
    program = [sys.executable, '-c', 'from aiida_mlip_autopipe.cli import main; main()']
    done = subprocess.run([*program, command], env=alone, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith(f'Error: {command} needs AiiDA'), done.stderr
    assert "pip install '.[aiida]'" in done.stderr and 'Traceback' not in done.stderr
    helped = subprocess.run([*program, '--help'], env=alone, capture_output=True, text=True, check=True)
    assert command in helped.stdout


@pytest.mark.parametrize('command', [['select', '--number', '2'], ['describe', '--per-atom', '--output', 'rows.npz']])
def test_frames_are_selected_and_described_without_aiida(alone, tmp_path, command):
    """No profile, and not even AiiDA: files in, files out."""
    write_extxyz(tmp_path / 'frames.extxyz', [bulk('Si', a=a) for a in (5.2, 5.3, 5.4, 5.5)])
    small = ['--r-cut', '3.5', '--n-max', '2', '--l-max', '1']
    program = [sys.executable, '-c', 'from aiida_mlip_autopipe.cli import main; main()', *command, 'frames.extxyz']
    done = subprocess.run([*program, *small], cwd=tmp_path, env=alone, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / ('selected.extxyz' if command[0] == 'select' else 'rows.npz')).is_file()
