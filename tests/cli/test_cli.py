"""``mlip-autopipe`` as its user meets it: a real profile of its own, real commands, messages instead of tracebacks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import yaml

BIN = Path(sys.executable).parent
INPUT = """
system: {prototype: diamond, composition: Si}
exploration: {n_steps: 20}
"""


@pytest.fixture(scope='module')
def cli(fast_folder: Path) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """Return a function that runs ``mlip-autopipe`` in an AiiDA configuration of its own."""
    home = fast_folder / 'cli'
    home.mkdir()
    # PATH without this environment: the command must not need an activated one.
    environment = {**os.environ, 'AIIDA_PATH': str(home), 'PATH': '/usr/local/bin:/usr/bin:/bin', 'COLUMNS': '200'}

    def run(*arguments: str | Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        command = [str(BIN / 'mlip-autopipe'), *map(str, arguments)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout)

    yield run
    subprocess.run([str(BIN / 'verdi'), 'daemon', 'stop'], env=environment, capture_output=True, timeout=120)


@pytest.fixture(scope='module')
def profile(cli) -> str:
    """Set up the profile; return what the command said."""
    done = cli('init', '--yes', '--workers', '1')
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_is_fast():
    """The help imports neither AiiDA nor torch."""
    code = (
        'import sys; from aiida_mlip_autopipe.cli import main\n'
        "try: main(['--help'])\n"
        "finally: print({'aiida', 'ase', 'numpy', 'torch'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == 'set()'
    assert all(name in done.stdout for name in ('init', 'doctor', 'expand', 'run', 'submit', 'status', 'lineage'))


def test_a_misspelt_command_names_the_nearest(cli):
    """`rnu` means `run`."""
    done = cli('rnu')
    assert done.returncode == 2
    assert "Did you mean 'run'?" in done.stderr


def test_without_a_profile_the_way_out_is_named(cli, tmp_path):
    """Before `init`, a command says to run it."""
    environment = {**os.environ, 'AIIDA_PATH': str(tmp_path)}
    done = subprocess.run([str(BIN / 'mlip-autopipe'), 'status'], env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert 'mlip-autopipe init' in done.stderr
    assert 'Traceback' not in done.stderr


def test_init_twice_changes_nothing(cli, profile):
    """The first run makes everything, the second finds it in order."""
    assert 'autopipe/pbe' in profile and 'started with 1 workers' in profile
    again = cli('init', '--workers', '1')
    assert again.returncode == 0, again.stderr
    assert 'Nothing to do.' in again.stdout
    assert 'done' not in again.stdout


def test_init_replaces_a_code_whose_executable_is_gone(cli, profile, tmp_path):
    """The dead code is hidden, a new one takes its label."""
    executable = tmp_path / 'mlip-autopipe-worker'
    executable.write_text('#!/bin/sh\n')
    executable.chmod(0o755)
    script = 'from aiida.orm import load_code; code = load_code("mlip-worker@localhost"); code.label = "set-aside"'
    hide = ['python', '-c', f'from aiida import load_profile; load_profile(); {script}']
    subprocess.run([str(BIN / hide[0]), *hide[1:]], env={**os.environ, 'AIIDA_PATH': _home(cli)}, check=True)
    assert cli('init', '--workers', '1', '--worker', executable).returncode == 0
    executable.unlink()
    done = cli('init', '--workers', '1')
    assert done.returncode == 0, done.stderr
    assert 'is gone' in done.stdout and str(BIN / 'mlip-autopipe-worker') in done.stdout


def _home(cli) -> str:
    return next(cell.cell_contents for cell in cli.__closure__ if isinstance(cell.cell_contents, dict))['AIIDA_PATH']


def test_expand_uses_the_cutoffs_of_the_family(cli, profile, tmp_path):
    """The cutoffs come from the installed family, and the dump is an input that expands to itself."""
    source, dump = tmp_path / 'input.yaml', tmp_path / 'dump.yaml'
    source.write_text(INPUT)
    done = cli('expand', source, '-o', dump)
    assert done.returncode == 0, done.stderr
    text = dump.read_text()
    assert 'ecutwfc_Ry: 24.0' in text and 'n_steps: 20' in text and '# user' in text
    again = cli('expand', dump)
    assert [line.split('#')[0].rstrip() for line in again.stdout.splitlines() if line.split('#')[0].strip()] == [
        line.split('#')[0].rstrip() for line in text.splitlines() if line.split('#')[0].strip()
    ]


def test_a_bad_input_is_told_in_words(cli, profile, tmp_path):
    """Exit code 2, a message with the way out, no traceback, nothing submitted."""
    source = tmp_path / 'input.yaml'
    source.write_text('system: {prototype: diamond, composition: Si}\ncodes: {labelling: qe@nowhere}')
    done = cli('submit', source)
    assert done.returncode == 2, done.stdout
    assert 'Traceback' not in done.stderr
    assert all(word in done.stderr for word in ('codes.labelling', 'qe@nowhere', 'mlip-autopipe init')), done.stderr
    assert 'no runs' in cli('status').stdout


@pytest.mark.parametrize('subject', ['123456', 'no-such-frame'])
def test_lineage_of_nothing(cli, profile, subject):
    """What does not exist is named."""
    done = cli('lineage', subject)
    assert done.returncode == 2
    assert subject in done.stderr and 'Traceback' not in done.stderr


def test_doctor_examines_and_shows_again(cli, profile, tmp_path):
    """One job of the daemon: facts, findings, lines for input.yaml; and the same from its PK."""
    options = tmp_path / 'options.yaml'
    options.write_text("prepend_text: 'export OMP_NUM_THREADS=1 CUDA_VISIBLE_DEVICES='")
    done = cli('doctor', 'mlip-worker@localhost', '--options', options, timeout=600)
    assert done.returncode == 0, done.stderr
    no_gpu = 'torch is a CPU build' if torch.version.cuda is None else 'CUDA_VISIBLE_DEVICES is empty'
    for words in (f'{len(os.sched_getaffinity(0))} of {os.cpu_count()}', no_gpu, 'ase on cpu',
                  'written to the disk', 'untrained', 'Si8: ', 'Si64: ', 'atom-steps/s'):  # fmt: skip
        assert words in done.stdout, done.stdout
    pieces = done.stdout.split('For input.yaml:\n')
    for_input = yaml.safe_load(pieces[1])
    assert for_input['codes'] == {'worker': 'mlip-worker@localhost'}
    assert for_input['options']['worker']['prepend_text'] == 'export OMP_NUM_THREADS=1 CUDA_VISIBLE_DEVICES='
    assert 'max_wallclock_seconds' not in for_input['options']['worker']
    job = re.search(r'job (\d+) of', pieces[0])
    again = cli('doctor', '--job', job.group(1))
    assert again.returncode == 0 and again.stdout == done.stdout


def test_doctor_tells_of_a_job_that_ended_badly(cli, profile, tmp_path):
    """A job that was killed has no report: its exit message, and exit status 1."""
    options = tmp_path / 'options.yaml'
    options.write_text("prepend_text: 'exit 1'")
    done = cli('doctor', 'mlip-worker@localhost', '--options', options, timeout=600)
    assert done.returncode == 1 and 'ended without a result file' in done.stdout, done.stderr


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        ([], 'give either a CODE to test'),
        (['mlip-worker@localhost', '--job', '1'], 'give either a CODE to test'),
        (['mlip-worker@nowhere'], "CODE: 'mlip-worker@nowhere' is not a code"),
        (['--job', '999999'], '--job: 999999 is not a node'),
        (['mlip-worker@localhost', '--options', 'OPTIONS'], 'max_wallclock_seconds: '),
        (['mlip-worker@localhost', '--potential', 'OPTIONS'], 'cannot be loaded as a MACE potential'),
    ],
)
def test_doctor_refuses(cli, profile, tmp_path, arguments, words):
    """What is wrong is told before anything is submitted."""
    options = tmp_path / 'options.yaml'
    options.write_text('max_wallclock_seconds: -1')
    done = cli('doctor', *(options if one == 'OPTIONS' else one for one in arguments))
    assert done.returncode == 2 and words in done.stderr, done.stderr
    assert 'Traceback' not in done.stderr
