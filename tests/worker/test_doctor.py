"""What the doctor says of this computer, of computers in trouble, and that no trouble keeps it from saying the rest."""

import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from copy import deepcopy
from pathlib import Path

import pytest

from aiida_mlip_autopipe.science.frames import file_sha256
from aiida_mlip_autopipe.science.parameters import TrainingParameters
from aiida_mlip_autopipe.science.potential import inspect_potential
from aiida_mlip_autopipe.science.potential.load import load_model
from aiida_mlip_autopipe.science.potential.untrained import untrained_potential
from aiida_mlip_autopipe.worker.advice import advise
from aiida_mlip_autopipe.worker.doctor import ProbeError, in_process
from aiida_mlip_autopipe.worker.probes import memory_limits
from tests.support.potentials import tiny_potential as tiny_potential_of

SMALL = {'n_atoms': [8], 'n_steps': 2, 'write_megabytes': 1.5}
WORKER = [sys.executable, '-m', 'aiida_mlip_autopipe.worker', 'doctor', 'input.json']
FILES = {'input.json', 'result.json', 'progress.json'}
NO_GPU = {**os.environ, 'CUDA_VISIBLE_DEVICES': ''}


def start(folder, parameters=SMALL, files=None, arguments=None, **options):
    """Write an input file and start the worker where no GPU is visible."""
    content = {'schema_version': 1, 'stage': 'doctor', 'job': '12345678', 'parameters': parameters,
               'files': files or {}, 'arguments': arguments or {}}  # fmt: skip
    (folder / 'input.json').write_text(json.dumps(content))
    return subprocess.Popen(WORKER, cwd=folder, env=NO_GPU, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def examine(folder, *given, **options):
    """Run the worker to its end; return its result."""
    output, messages = start(folder, *given, **options).communicate()
    assert output == b'', messages
    return json.loads((folder / 'result.json').read_text())


def test_this_computer(tmp_path):
    """On one core, with a potential built for the purpose: all is there, and nothing stays behind."""
    core = min(os.sched_getaffinity(0))
    result = examine(
        tmp_path,
        SMALL | {'n_atoms': [8, 60]},
        None,
        {'scheduler': 'core.slurm'},
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    report = result['outputs']
    assert result['status'] == 'ok' and report['failed'] == {}
    assert report['packages']['python'] == sys.version.split()[0]
    assert report['packages']['mace-torch'] == result['versions']['mace-torch']
    assert report['cpu']['cores'] == 1 and report['cpu']['cores_of_node'] == os.cpu_count()
    assert 0 < report['memory']['limit_GiB'] <= report['memory']['total_GiB']
    assert report['gpu']['cards'] == [] and report['gpu']['reason']
    assert report['engine']['engine'] == 'ase' and report['engine']['device'] == 'cpu'
    assert report['potential']['kind'] == 'untrained' and report['potential']['elements'] == ['Si']
    assert report['disk']['written_MB'] == 1.5 and report['disk']['write_MB_per_s'] > 0
    small, large = report['md_steps']
    assert [(step['formula'], step['n_atoms']) for step in (small, large)] == [('Si8', 8), ('Si64', 64)]
    for step in (small, large):
        assert step['atom_steps_per_s'] == pytest.approx(1000 * step['n_atoms'] / step['ms_per_step'], rel=0.01)
        assert (step['n_steps'], step['dtype'], step['device']) == (2, 'float32', 'cpu')
        assert step['process_memory_MiB'] > 100
    assert large['ms_per_step'] > small['ms_per_step']
    findings = '\n'.join(report['findings'])
    assert "'#SBATCH --gres=gpu:1'" in findings
    if os.cpu_count() > 1:
        assert f'the job has 1 core of {os.cpu_count()}' in findings
        assert report['suggestion']['options']['worker']['resources']['num_cores_per_mpiproc'] == os.cpu_count()
    assert {path.name for path in tmp_path.iterdir()} == FILES
    progress = json.loads((tmp_path / 'progress.json').read_text())
    assert progress['probes_total'] == 9 and progress['probe'] == 'md_step_60'


def test_the_given_potential_is_timed(tmp_path):
    """What it is stands in the report; one without silicon is timed on its first element."""
    path = tiny_potential_of(tmp_path, ['Cu', 'Ge'])
    report = examine(tmp_path, SMALL | {'dtype': 'float64'}, {'potential': path.name})['outputs']
    assert report['failed'] == {} and report['potential']['kind'] == 'given'
    assert report['potential']['sha256'] == file_sha256(path) and 'path' not in report['potential']
    assert [(step['formula'], step['dtype']) for step in report['md_steps']] == [('Cu8', 'float64')]
    assert {path.name for path in tmp_path.iterdir()} == FILES | {path.name}


def test_what_fails_is_told_and_the_rest_goes_on(tmp_path):
    """No potential, no GPU where one is demanded, a folder that refuses the file: a message each, and all else."""
    (tmp_path / 'noise.model').write_bytes(b'noise')
    limit = 1_000_000
    result = examine(
        tmp_path,
        SMALL | {'device': 'cuda'},
        {'potential': 'noise.model'},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    report = result['outputs']
    assert result['status'] == 'ok' and set(report['failed']) == {'disk', 'engine', 'potential'}
    assert 'PotentialError' in report['failed']['potential'] and 'noise.model' in report['failed']['potential']
    assert 'File too large' in report['failed']['disk'] and "device is 'cuda'" in report['failed']['engine']
    assert report['md_steps'] == [] and {'packages', 'cpu', 'memory', 'gpu'} <= set(report)
    assert all(any(message in finding for finding in report['findings']) for message in report['failed'].values())
    assert {path.name for path in tmp_path.iterdir()} == FILES | {'noise.model'}


def test_no_time_for_any_probe(tmp_path):
    """The limit of the parameters holds, and a report without a single fact still has findings."""
    report = examine(tmp_path, SMALL | {'max_probe_seconds': 0.01})['outputs']
    assert set(report['failed']) == {'packages', 'cpu', 'memory', 'disk', 'gpu', 'engine', 'potential'}
    assert set(report['failed'].values()) == {'no answer within 0.01 s'}
    assert len(report['findings']) == 7 and report['md_steps'] == [] and report['suggestion'] == {}


@pytest.mark.parametrize(
    ('parameters', 'files', 'words'),
    [
        ({'n_steps': 0}, {}, 'n_steps'),
        ({'n_atoms': []}, {}, 'n_atoms'),
        ({'gpu': True}, {}, 'gpu'),
        ({}, {'potential': 5}, 'files.potential is 5'),
    ],
)
def test_a_wrong_input_ends_it(tmp_path, parameters, files, words):
    result = examine(tmp_path, parameters, files)
    assert result['error']['code'] == 'INVALID_INPUT' and words in result['error']['message']


@pytest.mark.parametrize(
    ('probe', 'limit_s', 'words'),
    [
        ((int, 'x'), 60, "ValueError: invalid literal for int() with base 10: 'x'"),
        ((os.abort,), 60, 'the process was ended by the signal SIGABRT'),
        ((os._exit, 3), 60, 'the process ended with status 3 and no answer'),
        ((time.sleep, 600), 2, 'no answer within 2 s'),
    ],
)
def test_however_a_probe_ends(probe, limit_s, words):
    """It raises, crashes, leaves or hangs: a message, and no process stays."""
    with pytest.raises(ProbeError) as caught:
        in_process(*probe, limit_s=limit_s)
    assert str(caught.value) == words
    assert multiprocessing.active_children() == []


def test_a_stopped_doctor_stops_its_probe(tmp_path):
    process = start(tmp_path, SMALL | {'n_steps': 10_000})
    while 'md_step' not in _read(tmp_path / 'progress.json'):
        assert process.poll() is None
        time.sleep(0.1)
    children = subprocess.run(['ps', '-o', 'pid=', '--ppid', str(process.pid)], capture_output=True, text=True)
    pids = [int(pid) for pid in children.stdout.split()]
    process.terminate()
    process.communicate()
    assert process.returncode == 128 + signal.SIGTERM and not (tmp_path / 'result.json').exists()
    assert pids and not any(Path(f'/proc/{pid}/exe').exists() for pid in pids)


def _read(path):
    return path.read_text() if path.exists() else ''


def test_the_limits_of_memory(tmp_path):
    """Of each control group from the job's own to the root, in both versions; ``max`` and no file are none."""
    root, membership = tmp_path / 'cgroup', tmp_path / 'membership'
    for group, name, text in (('jobs/job_7', 'memory.max', '4096'), ('jobs', 'memory.max', 'max'),
                              ('.', 'memory.max', '8192'), ('memory/jobs', 'memory.limit_in_bytes', '2048'),
                              ('memory', 'memory.limit_in_bytes', '16384')):  # fmt: skip
        (root / group).mkdir(parents=True, exist_ok=True)
        (root / group / name).write_text(f'{text}\n')
    membership.write_text('0::/jobs/job_7\n')
    assert list(memory_limits(membership, root)) == [4096, 8192]
    membership.write_text('9:cpu,cpuacct:/jobs/job_7\n4:memory:/jobs/job_7\n')
    assert list(memory_limits(membership, root)) == [2048, 16384]
    assert list(memory_limits(tmp_path / 'none', root)) == []


def test_a_limit_by_the_shell_is_seen():
    """`ulimit -v`, by which AiiDA holds jobs without a queue to their memory."""
    script = (
        'from aiida_mlip_autopipe.worker.probes import memory; print(memory()["limit_GiB"], memory()["limited_by"])'
    )
    command = ['bash', '-c', 'ulimit -v 1048576; exec "$@"', 'bash', sys.executable, '-c', script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == '1.0 ulimit -v\n'


def test_untrained_potentials_repeat(tmp_path):
    """A seed gives the weights; they are those of no other seed, and torch's own generator is left alone."""
    import torch

    state = torch.random.get_rng_state()
    weights = []
    for name, seed in (('a', 1), ('b', 1), ('c', 2)):
        path = untrained_potential(tmp_path / name, ['Si', 'O'], TrainingParameters(num_channels=4), seed)
        weights.append(torch.cat([p.flatten() for p in load_model(path).parameters()]))
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert torch.equal(state, torch.random.get_rng_state())
    assert inspect_potential(path)['elements'] == ['O', 'Si']


GPU_NODE = {
    'packages': {'python': '3.12.4', 'torch-sim-atomistic': '0.6.2'},
    'cpu': {'cores': 4, 'cores_of_node': 64, 'load': 2.0},
    'memory': {'total_GiB': 512.0, 'limit_GiB': 32.0, 'limited_by': 'control group'},
    'gpu': {
        'cards': [{'name': 'NVIDIA A100', 'memory_GiB': 79.2, 'compute_capability': '8.0'}],
        'torch_built_for': 'CUDA 12.8',
        'driver': '570.86',
        'given_by_scheduler': '0',
        'reason': None,
    },
    'engine': {'engine': 'torchsim', 'device': 'cuda', 'reason': 'a GPU and torch-sim'},
    'disk': {'write_MB_per_s': 900.0, 'written_MB': 64.0, 'free_GB': 5000.0},
    'md_steps': [{'process_memory_MiB': 2048}],
    'failed': {},
}
NO_CARD = {'cards': [], 'reason': 'torch finds no device', 'given_by_scheduler': None}
CPU_TORCH = {'torch_built_for': None, 'reason': 'torch is a CPU build'}
NO_TORCH_SIM = {'torch-sim-atomistic': 'not installed'}
ASE_ON_GPU = {'engine': 'ase', 'reason': 'a GPU, but torch-sim-atomistic 0.3.0 is installed here'}
ASE_ON_CPU = {'engine': 'ase', 'device': 'cpu'}


def advice(scheduler='core.slurm', **changes):
    """Return findings and suggestion for the GPU node with some facts changed."""
    report = deepcopy(GPU_NODE)
    for part, facts in changes.items():
        report[part] |= facts
    found = advise(report, scheduler)
    return '\n'.join(found['findings']), found['suggestion']


def test_nothing_to_change_on_a_good_node():
    assert advice() == ('', {})


@pytest.mark.parametrize(
    ('scheduler', 'changes', 'words'),
    [
        (
            'core.slurm',
            {'gpu': NO_CARD},
            "If the computer has GPUs, request one with custom_scheduler_commands: '#SBATCH",
        ),
        ('core.pbspro', {'gpu': NO_CARD}, "'#PBS -l ngpus=1'"),
        ('core.direct', {'gpu': NO_CARD}, 'torch finds no device. The dynamics runs on the CPU cores'),
        ('core.slurm', {'gpu': NO_CARD | {'given_by_scheduler': '0'}}, 'CUDA_VISIBLE_DEVICES is 0), but it cannot be'),
        (
            'core.slurm',
            {'gpu': NO_CARD | CPU_TORCH},
            'no GPU is used: torch is a CPU build. Install a CUDA build',
        ),
        (
            'core.slurm',
            {'gpu': NO_CARD | CPU_TORCH | {'driver': None}},
            "gpu:1', and install a CUDA build of torch",
        ),
        ('core.direct', {'engine': ASE_ON_GPU}, '0.3.0 is installed here: replicas on a GPU run one after the other'),
        ('core.direct', {'engine': ASE_ON_GPU}, 'pip install --upgrade torch-sim-atomistic'),
        (
            'core.slurm',
            {'engine': ASE_ON_GPU, 'packages': {'python': '3.11.9'}},
            'Python 3.12 or newer, but this is 3.11.9',
        ),
        ('core.slurm', {'gpu': NO_CARD, 'engine': ASE_ON_CPU, 'packages': NO_TORCH_SIM}, 'torch-sim is not installed'),
        ('core.slurm', {'disk': {'write_MB_per_s': 3.5}}, 'is written at 3.5 MB/s, less than 20'),
        ('core.slurm', {'disk': {'free_GB': 2.0}}, '2 GB are free'),
        ('core.slurm', {'cpu': {'load': 80.5}}, 'a load of 80.5 on 64 cores'),
        ('core.slurm', {'failed': {'engine': 'OSError: gone'}}, 'engine: could not be tested: OSError: gone'),
    ],
)
def test_findings(scheduler, changes, words):
    findings, suggestion = advice(scheduler, **changes)
    assert words in findings
    assert ('num_cores_per_mpiproc' in findings) == ('options' in suggestion)


def test_torch_sim_is_not_missed_where_no_gpu_can_be():
    """Without a queue and a driver."""
    findings, _ = advice('core.direct', gpu=NO_CARD | {'driver': None}, engine=ASE_ON_CPU, packages=NO_TORCH_SIM)
    assert 'torch-sim' not in findings


def test_cores_and_memory_without_a_gpu():
    """Fewer cores than the node has; less memory than the replicas need."""
    findings, suggestion = advice(gpu=NO_CARD)
    assert 'the job has 4 cores of 64' in findings
    assert suggestion['options']['worker']['resources']['num_cores_per_mpiproc'] == 64
    assert 'exploration' not in suggestion

    findings, suggestion = advice('core.lsf', gpu=NO_CARD, memory={'limit_GiB': 6.0})
    assert 'only 3 of 4 cores' in findings and 'options' not in suggestion
    assert suggestion['exploration'] == {'n_processes': 3}
