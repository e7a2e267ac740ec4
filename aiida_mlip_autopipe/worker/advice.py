"""What the facts about a computer mean: findings in words, and a suggestion in the words of ``input.yaml``."""

from __future__ import annotations

from typing import TypedDict

from aiida_mlip_autopipe.worker.probes import NOT_INSTALLED, Cpu, Facts

__all__ = ['Advice', 'advise']

# How a job asks for one GPU.
GPU_REQUESTS = {
    'core.slurm': '#SBATCH --gres=gpu:1',
    'core.pbspro': '#PBS -l ngpus=1',
    'core.torque': '#PBS -l nodes=1:gpus=1',
    'core.sge': '#$ -l gpu=1',
    'core.lsf': '#BSUB -gpu num=1',
}
# Whose resources have num_cores_per_mpiproc.
COUNT_CORES = ('core.slurm', 'core.pbspro', 'core.torque')
DIRECT = ('', 'core.direct')
SLOW_WRITE_MB_PER_S = 20
LITTLE_DISK_GB = 10
TORCH_SIM, TORCH_SIM_PYTHON = 'torch-sim-atomistic', (3, 12)


class Suggestion(TypedDict, total=False):
    """Sections of ``input.yaml``."""

    options: dict[str, dict[str, object]]
    exploration: dict[str, int]


class Advice(TypedDict):
    """What to change in words, and what to add to ``input.yaml``, maybe nothing."""

    findings: list[str]
    suggestion: Suggestion


def advise(report: Facts, scheduler: str) -> Advice:
    """Return what the facts mean.

    Parameters
    ----------
    report : dict
        What the probes said; those that failed are missing.
    scheduler : str
        Entry point of the scheduler plugin, such as ``core.slurm``; empty if it is not known.
    """
    findings = [f'{name}: could not be tested: {message}' for name, message in report['failed'].items()]
    suggestion: Suggestion = {}
    has_gpu = bool(report.get('gpu', {}).get('cards'))
    findings += _about_load(report.get('cpu'))
    findings += _about_gpu(report, scheduler) + _about_torch_sim(report, scheduler)
    if not has_gpu:
        findings += _about_cores(report.get('cpu'), scheduler, suggestion)
        findings += _about_memory(report, suggestion)
    return {'findings': findings + _about_disk(report.get('disk')), 'suggestion': suggestion}


def _about_load(cpu: Cpu | None) -> list[str]:
    if cpu is None or cpu['load'] <= cpu['cores_of_node']:
        return []
    return [
        f'the node was busy, with a load of {cpu["load"]:g} on {_count(cpu["cores_of_node"], "core")}: times are long'
    ]


def _about_gpu(report: Facts, scheduler: str) -> list[str]:
    gpu = report.get('gpu')
    if gpu is None or gpu['cards']:
        return []
    if gpu['driver'] and not gpu['torch_built_for']:
        return [f'no GPU is used: {gpu["reason"]}. Install a CUDA build of torch']
    if gpu['given_by_scheduler']:
        return [
            f'the job was given a GPU (CUDA_VISIBLE_DEVICES is {gpu["given_by_scheduler"]}), but it cannot be used: '
            f'{gpu["reason"]}'
        ]
    finding = f'no GPU is visible: {gpu["reason"]}'
    if scheduler in DIRECT:
        return [f'{finding}. The dynamics runs on the CPU cores']
    request = GPU_REQUESTS.get(scheduler)
    words = f"custom_scheduler_commands: '{request}'" if request else 'custom_scheduler_commands'
    finding += f'. If the computer has GPUs, request one with {words}'
    return [finding + ('' if gpu['torch_built_for'] else ', and install a CUDA build of torch')]


def _about_torch_sim(report: Facts, scheduler: str) -> list[str]:
    """Say what is missing for batches, where there is a GPU or may be one."""
    versions, engine, gpu = report.get('packages'), report.get('engine'), report.get('gpu', {})
    if versions is None or (engine and engine['engine'] == 'torchsim'):
        return []
    if engine and engine['device'] == 'cuda':
        reason = engine['reason']
    elif versions[TORCH_SIM] != NOT_INSTALLED or (scheduler in DIRECT and not gpu.get('driver')):
        return []
    else:
        reason = 'torch-sim is not installed'
    finding = f'{reason}: replicas on a GPU run one after the other instead of in one batch'
    python = tuple(int(part) for part in versions['python'].split('.')[:2])
    if python < TORCH_SIM_PYTHON:
        wanted = '.'.join(map(str, TORCH_SIM_PYTHON))
        return [
            f'{finding}. It needs Python {wanted} or newer, but this is {versions["python"]}: make a new environment'
        ]
    return [f'{finding}. In the environment of the worker: pip install --upgrade {TORCH_SIM}']


def _about_cores(cpu: Cpu | None, scheduler: str, suggestion: Suggestion) -> list[str]:
    if cpu is None:
        return []
    findings = []
    owned, node = cpu['cores'], cpu['cores_of_node']
    if owned < node:
        finding = f'the job has {_count(owned, "core")} of {node}; replicas run in parallel, one per core'
        if scheduler in COUNT_CORES:
            finding += ': request more with num_cores_per_mpiproc'
            resources = {'num_machines': 1, 'num_mpiprocs_per_machine': 1, 'num_cores_per_mpiproc': node}
            suggestion['options'] = {'worker': {'resources': resources}}
        findings.append(finding)
    return findings


def _about_memory(report: Facts, suggestion: Suggestion) -> list[str]:
    """Say how many replicas side by side the memory holds, if it is fewer than the cores."""
    memory, cpu, steps = report.get('memory'), report.get('cpu'), report['md_steps']
    if memory is None or cpu is None or not steps:
        return []
    each = max(step['process_memory_MiB'] for step in steps) / 1024
    fitting = max(1, int(memory['limit_GiB'] / each))
    if fitting >= cpu['cores']:
        return []
    suggestion['exploration'] = {'n_processes': fitting}
    return [
        f'the job has {memory["limit_GiB"]:g} GiB of memory, and a replica needs {each:.1f} GiB: only {fitting} of '
        f'{_count(cpu["cores"], "core")} can run one; request more with max_memory_kb or set exploration.n_processes '
        f'to {fitting}'
    ]


def _about_disk(disk: dict[str, float] | None) -> list[str]:
    if disk is None:
        return []
    findings = []
    if disk['write_MB_per_s'] < SLOW_WRITE_MB_PER_S:
        findings.append(
            f'the job folder is written at {disk["write_MB_per_s"]:g} MB/s, less than {SLOW_WRITE_MB_PER_S}: use a '
            'faster file system as the work directory of the computer, or raise exploration.sample_interval'
        )
    if disk['free_GB'] < LITTLE_DISK_GB:
        findings.append(
            f'{disk["free_GB"]:g} GB are free in the folder of the job, less than {LITTLE_DISK_GB}: the frames of long '
            'explorations are stored there; free disk space, or choose another work directory'
        )
    return findings


def _count(number: int, noun: str) -> str:
    return f'{number} {noun}' if number == 1 else f'{number} {noun}s'
