"""Replicas: each seed at each temperature and pressure, side by side, one shard each.

A replica is a function of its seed structure, its conditions and its random seed alone: it does not matter in which job
or process it runs, nor what its neighbours do. On a CPU one thread per replica is fastest for cells of some hundred
atoms, so processes run side by side; each loads the potential once and serves one replica after the other.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.data import chemical_symbols

from aiida_mlip_autopipe.science.dynamics.engine_ase import run_dynamics
from aiida_mlip_autopipe.science.frames import ShardWriter, file_sha256, write_manifest
from aiida_mlip_autopipe.science.parameters import DynamicsParameters
from aiida_mlip_autopipe.science.training.potential import (
    check_elements,
    load_calculator,
    resolve_device,
)

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

__all__ = ['NoFramesError', 'Replica', 'plan_replicas', 'run_replicas']

Progress = Callable[[dict[str, Any]], None]
POLL_SECONDS = 0.5


class NoFramesError(ValueError):
    """The molecular dynamics left no frame."""


@dataclass(frozen=True)
class Replica:
    """One trajectory to run: ``index`` names its shard, ``seed_index`` its starting structure."""

    index: int
    seed_index: int
    temperature_K: float
    pressure_GPa: float | None
    random_seed: int


def plan_replicas(seeds: Sequence[Atoms], parameters: DynamicsParameters) -> list[Replica]:
    """Return the replicas of all jobs: the product of seeds, temperatures and (npt) pressures."""
    pressures = parameters.pressures_GPa if parameters.ensemble == 'npt' else [None]
    grid = itertools.product(range(len(seeds)), parameters.temperatures_K, pressures)
    return [
        Replica(index, seed_index, temperature_K, pressure_GPa, _random_seed(parameters.random_seed, index))
        for index, (seed_index, temperature_K, pressure_GPa) in enumerate(grid)
    ]


def _random_seed(random_seed: int, index: int) -> int:
    return int(np.random.SeedSequence((random_seed, index)).generate_state(1)[0])


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
) -> dict[str, Any]:
    """Run the replicas of one job, write their shards and the manifest, and return the manifest.

    Parameters
    ----------
    potential : Path
        A MACE ``.model`` file.
    seeds : sequence of Atoms
        Starting structures with ``frame_id`` (and ``origin``) in ``info``.
    parameters : DynamicsParameters
        Grid, integrator, guards.
    folder : Path
        Receives ``shards/`` and, last, ``manifest.json``.
    md_job : str
        Name of the job, the first part of each ``frame_id``.
    job_index, n_jobs : int
        This job takes ``replicas[job_index::n_jobs]``.
    progress : callable, optional
        Called with ``frames``, ``frames_total``, ``replicas_done``, ``replicas_total``, ``guards_tripped``.

    Raises
    ------
    PotentialError
        If the potential is unusable or does not know an element of the seeds.
    NoFramesError
        If no replica lived long enough for a frame.
    ValueError
        If there is no seed or no replica for this job, or npt meets a seed that is not periodic.
    """
    _check_seeds(seeds, parameters)
    replicas = plan_replicas(seeds, parameters)[job_index::n_jobs]
    if not 0 <= job_index < n_jobs or not replicas:
        raise ValueError(f'job_index {job_index} of n_jobs {n_jobs} has no replica to run: lower n_jobs')
    folder = Path(folder)
    device = resolve_device(parameters.device)
    task = _Task(Path(potential).absolute(), tuple(seeds), parameters, folder.absolute(), device)
    report = _Report(len(replicas), parameters.n_steps // parameters.sample_interval, progress)
    n_processes = min(_n_processes(parameters, device), len(replicas))
    run = _run_here if n_processes == 1 else _run_side_by_side
    shards = run(task, replicas, n_processes, report)
    manifest = {
        'schema_version': 1,
        'md_job': md_job,
        'job_index': job_index,
        'n_jobs': n_jobs,
        'n_frames': sum(shard['n_frames'] for shard in shards),
        'shards': shards,
    }
    if manifest['n_frames'] == 0:
        raise NoFramesError(
            f'none of the {len(replicas)} replicas left a frame; guards: {_guards(shards)}. The '
            'potential is unfit for these conditions: lower the temperatures or timestep_fs, or '
            'sample more often'
        )
    write_manifest(folder, manifest)
    return manifest


def _check_seeds(seeds: Sequence[Atoms], parameters: DynamicsParameters) -> None:
    if not seeds:
        raise ValueError('there is no seed structure to start from: give at least one')
    for index, atoms in enumerate(seeds):
        if 'frame_id' not in atoms.info:
            raise ValueError(f"seed {index} has no info['frame_id']: name it")
        if parameters.ensemble == 'npt' and not (atoms.pbc.all() and atoms.cell.rank == 3):
            raise ValueError(
                f'seed {index} ({atoms.info["frame_id"]}) is not periodic in three directions: ensemble '
                "'npt' needs that; use 'nvt'"
            )


def _n_processes(parameters: DynamicsParameters, device: str) -> int:
    """Return how many replicas run side by side; a GPU is shared only if that is asked for."""
    if parameters.n_processes:
        return parameters.n_processes
    return 1 if device == 'cuda' else len(os.sched_getaffinity(0))


def _guards(shards: list[dict[str, Any]]) -> str:
    names = Counter(shard['guard']['name'] for shard in shards if shard['guard'])
    return ', '.join(f'{name} ({count})' for name, count in sorted(names.items())) or 'none'


# ------------------------------------------------------------------------------------------------------- one replica


@dataclass(frozen=True)
class _Task:
    """What all replicas of a job share; sent once to each process."""

    potential: Path
    seeds: tuple[Atoms, ...]
    parameters: DynamicsParameters
    folder: Path
    device: str

    def calculator(self) -> Calculator:
        """Load the potential; raise `PotentialError` if it is unusable or does not know the seeds' elements."""
        calculator = load_calculator(self.potential, self.parameters.dtype, self.device)
        check_elements([chemical_symbols[z] for z in calculator.z_table.zs], self.seeds, self.potential)
        return calculator

    def run(self, replica: Replica, calculator: Calculator, on_frame: Callable[[int], None]) -> dict[str, Any]:
        """Run one replica and return its entry in the manifest."""
        seed = self.seeds[replica.seed_index]
        relative = f'shards/r{replica.index:03d}.h5'
        writer = ShardWriter(self.folder / relative, seed.numbers, seed.pbc, self.parameters.timestep_fs)

        def sink(
            step: int, positions: np.ndarray, cell: np.ndarray, energy: float, temperature: float, max_force: float
        ) -> None:
            writer.append(step, positions, cell, energy, temperature, max_force)
            on_frame(replica.index)

        try:
            guard = run_dynamics(
                seed,
                calculator,
                self.parameters,
                temperature_K=replica.temperature_K,
                pressure_GPa=replica.pressure_GPa,
                random_seed=replica.random_seed,
                sink=sink,
            )
            if guard is not None:
                writer.truncate(writer.n_frames - self.parameters.guards.n_drop)
        finally:
            writer.close()
        path = self.folder / relative
        seed_id = str(seed.info['frame_id'])
        return {
            'path': relative,
            'replica': replica.index,
            'seed_id': seed_id,
            'origin': str(seed.info.get('origin', seed_id)),
            'temperature_K': replica.temperature_K,
            'pressure_GPa': replica.pressure_GPa,
            'random_seed': replica.random_seed,
            'n_atoms': len(seed),
            'n_frames': writer.n_frames,
            'bytes': path.stat().st_size,
            'sha256': file_sha256(path),
            'guard': guard,
        }


class _Report:
    """Counts what happens and tells ``progress``; a replica that ended counts with the frames it kept."""

    def __init__(self, n_replicas: int, frames_each: int, progress: Progress | None) -> None:
        self._progress = progress
        self._n_replicas = n_replicas
        self._frames_total = n_replicas * frames_each
        self._frames: Counter[int] = Counter()
        self._guards: dict[int, bool] = {}

    def frame(self, replica: int) -> None:
        if replica not in self._guards:
            self._frames[replica] += 1
            self._tell()

    def ended(self, shard: dict[str, Any]) -> None:
        self._frames[shard['replica']] = shard['n_frames']
        self._guards[shard['replica']] = shard['guard'] is not None
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


# ------------------------------------------------------------------------------------------------------ side by side


def _run_here(task: _Task, replicas: list[Replica], n_processes: int, report: _Report) -> list[dict[str, Any]]:
    shards = []
    with _one_thread():
        calculator = task.calculator()
        for replica in replicas:
            shards.append(task.run(replica, calculator, report.frame))
            report.ended(shards[-1])
    return shards


@contextmanager
def _one_thread() -> Iterator[None]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _run_side_by_side(task: _Task, replicas: list[Replica], n_processes: int, report: _Report) -> list[dict[str, Any]]:
    context = multiprocessing.get_context('spawn')  # fork and torch's threads do not go together
    ticks = context.Queue()
    pool = ProcessPoolExecutor(n_processes, mp_context=context, initializer=_start_process, initargs=(task, ticks))
    try:
        with _environment(OMP_NUM_THREADS='1', MKL_NUM_THREADS='1', OPENBLAS_NUM_THREADS='1'):
            futures = [pool.submit(_run_in_process, replica) for replica in replicas]
        shards = _collect(futures, ticks, report)
    except BaseException:
        for process in list((pool._processes or {}).values()):  # the executor has no public way to stop what runs
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return shards


def _collect(futures: list[Future], ticks: Any, report: _Report) -> list[dict[str, Any]]:
    """Wait for all replicas, passing on what they report; the first error ends the job."""
    waiting = set(futures)
    while waiting:
        done, waiting = wait(waiting, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
        for replica in _drain(ticks):
            report.frame(replica)
        for future in done:
            report.ended(future.result())
    return [future.result() for future in futures]


def _drain(ticks: Any) -> Iterator[int]:
    with suppress(queue.Empty):
        while True:
            yield ticks.get_nowait()


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Set environment variables for the processes started inside: a library reads them when it is imported."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


_process_state: dict[str, Any] = {}


def _start_process(task: _Task, ticks: Any) -> None:
    import torch

    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    _process_state.update(task=task, ticks=ticks)


def _end_with_parent() -> None:
    """A killed parent cannot stop its processes, and they would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run_in_process(replica: Replica) -> dict[str, Any]:
    task, ticks = _process_state['task'], _process_state['ticks']
    if 'calculator' not in _process_state:  # here and not at the start: from here an error reaches the parent
        _process_state['calculator'] = task.calculator()
    return task.run(replica, _process_state['calculator'], ticks.put)
