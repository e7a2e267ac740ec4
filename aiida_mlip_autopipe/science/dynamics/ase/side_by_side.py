"""The engine ``ase``: replicas side by side as processes, one thread each.

On a CPU one thread for each replica is fastest for cells of some hundred atoms; each process loads the potential once
and serves one replica after the other.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ase.data import chemical_symbols

from aiida_mlip_autopipe.science.dynamics.ase.trajectory import run_dynamics
from aiida_mlip_autopipe.science.dynamics.recorder import Recorder, ReplicaEnd
from aiida_mlip_autopipe.science.dynamics.replicas import Replica, ReplicaPlan
from aiida_mlip_autopipe.science.dynamics.stopping import Stop
from aiida_mlip_autopipe.science.potential.load import check_elements, load_calculator

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator

__all__ = ['CORES_GIVEN', 'Task', 'granted_cores', 'run_side_by_side']

POLL_SECONDS = 0.5
CORES_GIVEN = ('SLURM_CPUS_ON_NODE', 'NCPUS', 'NSLOTS', 'LSB_DJOB_NUMPROC')
"""Where Slurm, PBS, SGE and LSF say how many cores of a node a job was given; not all of them hold it to that."""


def granted_cores() -> int:
    """Return how many cores this job may use."""
    given = next((int(os.environ[name]) for name in CORES_GIVEN if os.environ.get(name, '').isdigit()), None)
    usable = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    return min(usable, given or usable)


@dataclass(frozen=True)
class Task:
    """What all replicas of a job share; sent once to each process.

    Attributes
    ----------
    potential, committee : Path, tuple of Path
        The MACE ``.model`` file that drives the dynamics, and further ones that are asked for their forces.
    plan : ReplicaPlan
        Seeds and parameters.
    folder : Path
        Folder of the job.
    engine : str
        Name of the engine and of its potentials.
    device : str
        ``cpu`` or ``cuda``.
    stop : Stop
        When the job must end.
    """

    potential: Path
    committee: tuple[Path, ...]
    plan: ReplicaPlan
    folder: Path
    engine: str
    device: str
    stop: Stop

    def calculators(self) -> list[Calculator]:
        """Load the potentials; raise `PotentialError` if one is unusable or does not know the seeds' elements."""
        calculators: list[Calculator] = []
        for path in (self.potential, *self.committee):
            calculator = load_calculator(path, self.plan.parameters.dtype, self.device)
            check_elements([chemical_symbols[z] for z in calculator.z_table.zs], self.plan.seeds, path)
            calculators.append(calculator)
        return calculators

    def run(self, replica: Replica, calculators: list[Calculator], on_frame: Callable[[int], None]) -> ReplicaEnd:
        """Run one replica and return how it ended."""
        recorder = Recorder(self.plan, replica, self.folder, self.engine, on_frame)
        try:
            return run_dynamics(recorder, calculators[0], self.plan.parameters, self.stop, calculators[1:])
        finally:
            recorder.close()


def run_side_by_side(
    task: Task,
    replicas: Sequence[Replica],
    n_processes: int,
    on_frame: Callable[[int], None],
    on_end: Callable[[ReplicaEnd], None],
) -> None:
    """Run replicas, as many at a time as there are processes; one process is this one.

    Parameters
    ----------
    task : Task
        What they share.
    replicas : sequence of Replica
        Which ones.
    n_processes : int
        At most so many.
    on_frame, on_end : callable
        Told of each frame (the index of its replica) and of each replica that ended (as `Recorder.end` says).

    Raises
    ------
    PotentialError
        If a potential is unusable.
    concurrent.futures.process.BrokenProcessPool
        If a process was killed.
    """
    n_processes = min(n_processes, len(replicas))
    if n_processes == 1:
        _run_here(task, replicas, on_frame, on_end)
    else:
        _run_in_processes(task, replicas, n_processes, on_frame, on_end)


def _run_here(task: Task, replicas: Sequence[Replica], on_frame: Callable, on_end: Callable) -> None:
    with _one_thread():
        calculators = task.calculators()
        for replica in replicas:
            if task.stop.now():
                return
            on_end(task.run(replica, calculators, on_frame))


@contextmanager
def _one_thread() -> Iterator[None]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _run_in_processes(
    task: Task, replicas: Sequence[Replica], n_processes: int, on_frame: Callable, on_end: Callable
) -> None:
    context = multiprocessing.get_context('spawn')  # fork and torch's threads do not go together
    ticks = context.Queue()
    pool = ProcessPoolExecutor(n_processes, mp_context=context, initializer=_start_process, initargs=(task, ticks))
    others = multiprocessing.active_children()
    try:
        with _environment(OMP_NUM_THREADS='1', MKL_NUM_THREADS='1', OPENBLAS_NUM_THREADS='1'):
            futures = [pool.submit(_run_in_process, replica) for replica in replicas]
        processes = [process for process in multiprocessing.active_children() if process not in others]
        _collect(futures, processes, ticks, on_frame, on_end)
    except BaseException:
        task.stop.request()  # the others leave a checkpoint
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _collect(
    futures: list[Future], processes: Sequence[BaseProcess], ticks: Any, on_frame: Callable, on_end: Callable
) -> None:
    """Wait for all replicas, passing on what they report; the first error ends the job, or the end of a process.

    The pool sees the end of the process that it started last only after another one has ended its replica.
    """
    waiting = set(futures)
    while waiting:
        done, waiting = wait(waiting, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
        for replica in _drain(ticks):
            on_frame(replica)
        for result in (future.result() for future in done):
            if result is not None:
                on_end(result)
        if waiting and connection.wait([process.sentinel for process in processes], timeout=0):
            raise BrokenProcessPool('a process ended before its replicas did')


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


def _start_process(task: Task, ticks: Any) -> None:
    import torch

    _process_state.update(task=task, ticks=ticks, busy=False, signalled=False)
    signal.signal(signal.SIGTERM, _end_soon)
    threading.Thread(target=_end_alone, args=(multiprocessing.parent_process(),), daemon=True).start()
    torch.set_num_threads(1)


def _end_soon(*_signal: object) -> None:
    """Leave a checkpoint, then end: a scheduler signals all processes of a job, a broken pool those that are left."""
    _process_state['task'].stop.request()
    _process_state['signalled'] = True


def _end_alone(parent: BaseProcess) -> None:
    """End this process where its parent cannot: it was killed, or the queues between them are broken."""
    while parent.is_alive():
        if _process_state['signalled'] and not _process_state['busy']:
            parent.join(10 * POLL_SECONDS)  # for the result to reach a parent that lives
            os._exit(0)
        parent.join(POLL_SECONDS)
    os._exit(1)


def _run_in_process(replica: Replica) -> ReplicaEnd | None:
    task, ticks = _process_state['task'], _process_state['ticks']
    if task.stop.now():
        return None
    _process_state['busy'] = True
    try:
        if 'calculators' not in _process_state:  # here and not at the start: from here an error reaches the parent
            _process_state['calculators'] = task.calculators()
        return task.run(replica, _process_state['calculators'], ticks.put)
    finally:
        _process_state['busy'] = False
