"""Run the replicas of a job with one of the engines, and write the manifest of what they left."""

from __future__ import annotations

import errno
import logging
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

from aiida_mlip_autopipe.science.dynamics.ase.side_by_side import Task, granted_cores, run_side_by_side
from aiida_mlip_autopipe.science.dynamics.guards import GENTLER_SEEDS, seeds_own_energy
from aiida_mlip_autopipe.science.dynamics.recorder import Record, Recorder, ReplicaEnd
from aiida_mlip_autopipe.science.dynamics.recovery import describe_frames, take_over
from aiida_mlip_autopipe.science.dynamics.replicas import Replica, ReplicaPlan
from aiida_mlip_autopipe.science.dynamics.stopping import Stop
from aiida_mlip_autopipe.science.frames import MANIFEST, Manifest, ManifestError, file_sha256, write_manifest
from aiida_mlip_autopipe.science.parameters import DynamicsParameters
from aiida_mlip_autopipe.science.potential.load import resolve_device
from aiida_mlip_autopipe.science.registry import ENSEMBLES

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ['NoFramesError', 'choose_engine', 'run_replicas']

log = logging.getLogger(__name__)

Progress = Callable[[Mapping[str, object]], None]
RESERVE_BYTES = 4_000_000
VANISHED = (errno.ENOENT, errno.ESTALE)


class NoFramesError(ValueError):
    """The molecular dynamics left no frame."""


def run_replicas(
    potential: Path,
    seeds: Sequence[Atoms],
    parameters: DynamicsParameters,
    folder: Path,
    *,
    md_job: str,
    job_index: int = 0,
    n_jobs: int = 1,
    progress: Progress | None = None,
    committee: Sequence[Path] = (),
    parent: Path | None = None,
    stop: Stop | None = None,
    batch_divisor: int = 1,
    collect_only: bool = False,
) -> Manifest:
    """Run the replicas of one job, write their shards and the manifest, and return the manifest.

    Whatever ends the run, the manifest tells of the frames that are there.

    Parameters
    ----------
    potential, committee : Path, sequence of Path
        MACE ``.model`` files: the one that drives the dynamics, and further ones, asked for the forces of each frame.
    seeds : sequence of Atoms
        Starting structures with ``frame_id`` (and ``origin``) in ``info``.
    parameters : DynamicsParameters
        Grid, engine, guards.
    folder : Path
        Receives ``shards/``, ``checkpoints/`` and, last, ``manifest.json``.
    md_job, job_index, n_jobs : str, int, int
        The first part of each ``frame_id``; this job takes ``replicas[job_index::n_jobs]``.
    progress : callable, optional
        Called with ``frames``, ``frames_total``, ``replicas_done``, ``replicas_total``, ``guards_tripped``.
    parent, stop : Path, Stop, optional
        The folder of an interrupted job of the same replicas, which this one goes on from; when to end before all is
        done: the manifest then says ``complete: false``.
    batch_divisor, collect_only : int, bool
        Run so many times fewer replicas at once than usual; run nothing, and only tell what is there.

    Raises
    ------
    PotentialError, ValueError
        If a potential, a seed or a parameter is unfit, or there is no replica for this job.
    NoFramesError
        If all replicas ended and none left a frame.
    ManifestError, OSError
        If the folder, or files in it, vanished meanwhile; if the disk is full, among others.
    """
    plan = ReplicaPlan(seeds, parameters)
    replicas, device = plan.share(job_index, n_jobs), resolve_device(parameters.device)
    engine = choose_engine(parameters, device)
    name = _with_potentials(engine, potential, committee)
    paths = Path(potential).absolute(), tuple(map(Path, committee))
    task = Task(*paths, plan, Path(folder).absolute(), name, device, stop or Stop())
    facts = {'md_job': md_job, 'job_index': job_index, 'n_jobs': n_jobs, 'engine': engine, 'device': device}
    job = _Job(task, replicas, facts, parent, collect_only)
    job.run(progress, batch_divisor)
    return job.finish()


class _Job:
    """Replicas that are run or only collected, and the manifest of what they left."""

    def __init__(
        self, task: Task, replicas: Sequence[Replica], facts: dict[str, object], parent: Path | None, collect_only: bool
    ) -> None:
        self._task, self._replicas, self._facts = task, replicas, facts
        self._parent, self._collect_only = parent, collect_only

    def run(self, progress: Progress | None, batch_divisor: int) -> None:
        """Run the replicas that have not ended yet; if an error ends this, tell first what is there."""
        folder = self._task.folder
        reserve = _Reserve(folder / 'reserve', self._task.plan, self._replicas)
        try:
            self._run(progress, batch_divisor)
        except BaseException as error:
            reserve.release()
            with suppress(Exception):  # the first error is the one to tell
                manifest = self._describe()
                if manifest['n_frames']:
                    write_manifest(folder, manifest)
            if _has_vanished(error, folder):
                raise ManifestError(f'files vanished from {folder} while the MD ran there: {error}') from error
            raise
        reserve.release()

    def finish(self) -> Manifest:
        """Write the manifest and return it."""
        manifest, folder = self._describe(), self._task.folder
        if manifest['n_frames'] == 0 and (manifest['complete'] or self._collect_only):
            raise NoFramesError(_why_no_frames(manifest, (self._parent or folder) if self._collect_only else None))
        write_manifest(folder, manifest)
        return manifest

    def _run(self, progress: Progress | None, batch_divisor: int) -> None:
        task, replicas, parameters = self._task, self._replicas, self._task.plan.parameters
        (task.folder / MANIFEST).unlink(missing_ok=True)  # of an earlier attempt
        found = take_over(task.plan, replicas, task.folder, task.engine, self._parent, all_frames=self._collect_only)
        waiting = [replica for replica in replicas if not _has_ended(found.get(replica.index))]
        if waiting and not self._collect_only:
            report = _Report(replicas, parameters.n_steps // parameters.sample_interval, progress, found)
            self._facts |= _run_engine(str(self._facts['engine']), task, waiting, batch_divisor, report)

    def _describe(self) -> Manifest:
        """Close what was cut by this run, and return the manifest."""
        task, replicas = self._task, self._replicas
        if not self._collect_only:
            take_over(task.plan, replicas, task.folder, task.engine)
        found = describe_frames(task.plan, replicas, task.folder, str(self._facts['engine']))
        return cast(Manifest, {**found, **self._facts})


def choose_engine(parameters: DynamicsParameters, device: str) -> str:
    """Return the engine that the parameters ask for, or that suits the device and the ensemble.

    Raises
    ------
    ValueError
        If the engine that is asked for cannot be used here, or not for the ensemble.
    """
    from aiida_mlip_autopipe.science.dynamics.batch.engine import available

    integrators, engine = ENSEMBLES[parameters.ensemble].integrators, parameters.engine
    if engine == 'auto':
        batch = device == 'cuda' and 'torchsim' in integrators and available() is None
        engine = 'torchsim' if batch else 'ase'
    elif engine == 'torchsim' and (problem := available()):
        raise ValueError(
            f"engine is 'torchsim', but {problem}; install the extra torchsim, or use engine 'ase' or 'auto'"
        )
    if engine not in integrators:
        raise ValueError(
            f'engine {engine!r} has no integrator for ensemble {parameters.ensemble!r}; use engine '
            f'{" or ".join(map(repr, integrators))}, or another ensemble'
        )
    return engine


def _run_engine(
    engine: str, task: Task, replicas: Sequence[Replica], batch_divisor: int, report: _Report
) -> Mapping[str, object]:
    """Run replicas with an engine; return what it says of itself."""
    if engine == 'ase':
        n_processes = max(1, _n_processes(task.plan.parameters, task.device) // batch_divisor)
        try:
            run_side_by_side(task, replicas, n_processes, report.frame, report.ended)
        except BrokenProcessPool:
            log.warning('a process of the molecular dynamics was killed; the others left their checkpoints')
        return {'n_processes': n_processes}
    from aiida_mlip_autopipe.science.dynamics.batch.engine import run_batch

    recorders = (Recorder(task.plan, replica, task.folder, task.engine, report.frame) for replica in replicas)
    return run_batch(
        recorders,
        potential=task.potential,
        committee=task.committee,
        parameters=task.plan.parameters,
        device=task.device,
        stop=task.stop,
        batch_divisor=batch_divisor,
        on_end=report.ended,
    )


def _n_processes(parameters: DynamicsParameters, device: str) -> int:
    """Return how many replicas run side by side; a GPU is shared only if that is asked for."""
    if parameters.n_processes:
        return parameters.n_processes
    return 1 if device == 'cuda' else granted_cores()


def _has_ended(record: Record | None) -> bool:
    return record is not None and record.facts['ended'] != 'interrupted'


def _with_potentials(engine: str, potential: Path, committee: Sequence[Path]) -> str:
    """Return the name of an engine with those of its potentials: a replica does not go on with another one."""
    files = [path for path in (potential, *sorted(committee)) if path.is_file()]  # loading it says that one is missing
    return ' '.join([engine, *map(file_sha256, files)])


def _has_vanished(error: BaseException, folder: Path) -> bool:
    """Return whether an error says that a file in the folder is not there; HDF5 does not say which one."""
    if not isinstance(error, OSError) or error.errno not in VANISHED:
        return False
    return error.filename is None or Path(error.filename).is_relative_to(folder)


def _why_no_frames(manifest: Manifest, collected: Path | None) -> str:
    if collected is not None:
        return f'{collected} holds no frame of these replicas: run the MD again'
    names = Counter(replica['guard']['name'] for replica in manifest['replicas'] if replica['guard'])
    guards = ', '.join(f'{name} ({count})' for name, count in sorted(names.items())) or 'none'
    told = f'none of the {len(manifest["replicas"])} replicas left a frame; guards: {guards}.'
    tripped = [replica['guard'] for replica in manifest['replicas'] if replica['guard']]
    own = [words for guard in tripped if (words := seeds_own_energy(guard))]
    if own and len(own) == len(tripped):
        return f'{told} The seeds are too far from a minimum: {own[0]}; {GENTLER_SEEDS}'
    return (
        f'{told} The potential is unfit for these conditions: lower the temperatures or timestep_fs, or sample more '
        'often'
    )


class _Reserve:
    """Disk space kept back: on a full disk a shard can still be closed, and manifest and result be written."""

    def __init__(self, path: Path, plan: ReplicaPlan, replicas: Sequence[Replica]) -> None:
        self._path = path
        shard_bytes = 1e6 * min(plan.parameters.shard_megabytes, plan.cost(replicas).megabytes)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with path.open('wb') as handle:
                os.posix_fallocate(handle.fileno(), 0, RESERVE_BYTES + int(shard_bytes))
        except OSError:
            self.release()
            raise

    def release(self) -> None:
        self._path.unlink(missing_ok=True)


class _Report:
    """Counts what happens and tells ``progress``; a replica that ended counts with the frames it kept."""

    def __init__(
        self, replicas: Sequence[Replica], frames_each: int, progress: Progress | None, found: dict[int, Record]
    ) -> None:
        self._progress = progress
        self._n_replicas = len(replicas)
        self._frames_total = len(replicas) * frames_each
        self._frames: Counter[int] = Counter()
        self._guards: dict[int, bool] = {}
        for index, record in found.items():
            self._frames[index] = sum(part['n_frames'] for part in record.facts['parts'])
            if _has_ended(record):
                self._guards[index] = record.facts['guard'] is not None

    def frame(self, replica: int) -> None:
        if replica not in self._guards:
            self._frames[replica] += 1
            self._tell()

    def ended(self, result: ReplicaEnd) -> None:
        self._frames[result['replica']] = result['n_frames']
        if result['ended'] != 'interrupted':
            self._guards[result['replica']] = result['guard'] is not None
        self._tell()

    def _tell(self) -> None:
        if self._progress is not None:
            self._progress(
                {
                    'frames': self._frames.total(),
                    'frames_total': self._frames_total,
                    'replicas_done': len(self._guards),
                    'replicas_total': self._n_replicas,
                    'guards_tripped': sum(self._guards.values()),
                }
            )
