"""The stages of the worker: from the files of a job to its files and numbers.

Each takes a `Job` and a callable for progress, and returns the plain numbers that go into ``result.json``.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping

from aiida_mlip_autopipe.science.parameters import (
    DynamicsParameters,
    EvaluationParameters,
    PhysicsParameters,
    SamplingParameters,
    TrainingParameters,
)
from aiida_mlip_autopipe.worker.files import write_json
from aiida_mlip_autopipe.worker.inputs import Job

__all__ = ['STAGES']

Tell = Callable[[Mapping[str, object]], None]


def _md(job: Job, tell: Tell) -> Mapping[str, object]:
    """Molecular dynamics: writes ``shards/``, ``checkpoints/`` and ``manifest.json``."""
    from aiida_mlip_autopipe.science.dynamics import Stop, run_replicas
    from aiida_mlip_autopipe.science.frames import read_extxyz

    stop = Stop(job.arguments.get('wallclock_s'))
    signal.signal(signal.SIGTERM, stop.request)
    manifest = run_replicas(
        job.path('potential'),
        read_extxyz(job.path('seeds')),
        job.validated(DynamicsParameters),
        job.folder,
        md_job=job.name,
        job_index=job.integer('job_index', 0),
        n_jobs=job.integer('n_jobs', 1),
        progress=tell,
        committee=job.paths('committee') if 'committee' in job.files else (),
        parent=job.path('parent') if 'parent' in job.files else None,
        stop=stop,
        batch_divisor=job.integer('batch_divisor', 1),
        collect_only=bool(job.arguments.get('collect_only', False)),
    )
    replicas = manifest['replicas']
    return {
        **{name: value for name, value in manifest.items() if name not in ('schema_version', 'shards', 'replicas')},
        'n_replicas': len(replicas),
        'n_steps': sum(replica['n_steps'] for replica in replicas),
        'guards_tripped': sum(replica['guard'] is not None for replica in replicas),
    }


def _sample(job: Job, tell: Tell) -> Mapping[str, object]:
    """DIRECT: writes ``candidates.extxyz``, if there are any, ``selection.json``, ``frames.npz`` and ``figures/``."""
    import numpy as np

    from aiida_mlip_autopipe.science.dynamics import NoFramesError
    from aiida_mlip_autopipe.science.frames import read_extxyz, read_manifest, write_extxyz
    from aiida_mlip_autopipe.science.sampling import select_candidates
    from aiida_mlip_autopipe.science.sampling.figures import write_figures

    folders, parameters = job.paths('folders'), job.validated(SamplingParameters)
    potential = job.path('potential') if parameters.descriptor.kind == 'mace' else None
    known = [atoms for path in job.paths('known') for atoms in read_extxyz(path)] if 'known' in job.files else []
    if not any(read_manifest(folder, verify=False)['n_frames'] for folder in folders):
        raise NoFramesError(f'the {len(folders)} MD folders contain no frame: every replica was stopped by a guard')
    selection = select_candidates(folders, parameters, tell, potential, known, scratch=job.folder)
    if selection.candidates:
        write_extxyz(job.folder / 'candidates.extxyz', selection.candidates)
    write_json(job.folder / 'selection.json', {name: column.tolist() for name, column in selection.table.items()})
    np.savez_compressed(job.folder / 'frames.npz', **selection.frames)  # type: ignore[arg-type]
    write_figures(selection.figures, job.folder / 'figures')
    return dict(selection.report)


def _train(job: Job, tell: Tell) -> Mapping[str, object]:
    """Training: writes ``potential.model`` and ``history.json``."""
    from aiida_mlip_autopipe.science.training import train

    given = {name: job.path(name) for name in ('foundation', 'replay', 'parent') if name in job.files}
    result = train(
        job.path('training'),
        job.path('validation'),
        job.validated(TrainingParameters),
        job.folder,
        progress=tell,
        previous=job.path('previous_potential') if 'previous_potential' in job.files else None,
        **given,
    )
    write_json(job.folder / 'history.json', result.history)
    return {'metrics': result.metrics, 'potential': result.info, 'run': result.run}


def _evaluate(job: Job, tell: Tell) -> Mapping[str, object]:
    """Evaluation: writes ``predictions.npz`` and ``figures/``."""
    import numpy as np

    from aiida_mlip_autopipe.science.evaluation import evaluate, write_parity
    from aiida_mlip_autopipe.science.frames import read_extxyz

    _one_thread_of_torch()
    frames = read_extxyz(job.path('frames'))
    committee = job.paths('committee') if 'committee' in job.files else ()
    evaluation = evaluate(job.path('potential'), frames, job.validated(EvaluationParameters), committee)
    np.savez_compressed(job.folder / 'predictions.npz', **evaluation.predictions)  # type: ignore[arg-type]
    write_parity(evaluation.predictions, job.folder / 'figures')
    tell({'frames': len(frames), 'frames_total': len(frames)})
    return {'metrics': {**evaluation.metrics, **evaluation.breakdown}}


def _physics(job: Job, tell: Tell) -> Mapping[str, object]:
    """Physics checks: writes ``figures/``."""
    from aiida_mlip_autopipe.science.evaluation.physics import check_physics, write_physics_figures
    from aiida_mlip_autopipe.science.frames import read_extxyz

    _one_thread_of_torch()
    outcome = check_physics(
        job.path('potential'), read_extxyz(job.path('frames')), job.validated(PhysicsParameters), tell
    )
    write_physics_figures(outcome['figures'], job.folder / 'figures')
    return {'passed': outcome['passed'], 'checks': outcome['checks']}


def _one_thread_of_torch() -> None:
    """Give torch one thread where nobody said how many: on small frames more of them take three times the CPU time."""
    import torch

    if 'OMP_NUM_THREADS' not in os.environ:
        torch.set_num_threads(1)


def _verify(job: Job, tell: Tell) -> Mapping[str, object]:
    """Whether copies of frames are what the MD jobs wrote."""
    from aiida_mlip_autopipe.worker.verify import verify_folders

    return verify_folders(job, tell)


def _doctor(job: Job, tell: Tell) -> Mapping[str, object]:
    """What this computer offers; writes nothing that stays."""
    from aiida_mlip_autopipe.worker.doctor import examine

    return examine(job, tell)


STAGES: dict[str, Callable[[Job, Tell], Mapping[str, object]]] = {
    'md': _md,
    'sample': _sample,
    'train': _train,
    'evaluate': _evaluate,
    'physics': _physics,
    'verify': _verify,
    'doctor': _doctor,
}
