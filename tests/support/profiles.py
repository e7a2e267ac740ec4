"""Real parts for the tests that need AiiDA: profiles on SQLite or PostgreSQL, the daemon, Slurm, pw.x, the worker.

A module that needs no daemon uses the profile that is loaded for the whole session and runs its processes in the test's
own interpreter. A module that needs the daemon asks for the fixture ``daemon``: its tests then live in a profile of
their own, with a broker, and the daemon is stopped after the module.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partialmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiida.tools.pytest_fixtures import (  # fixtures of the same names; without the one that loads a profile always
    aiida_config_factory,
    aiida_profile_factory,
    config_psql_dos,
    postgres_cluster,
)

if TYPE_CHECKING:
    from aiida.orm import WorkChainNode

__all__ = ['aiida_config_factory', 'aiida_profile_factory', 'config_psql_dos', 'postgres_cluster']

RUNNER_POLL_S = 0.4
PSEUDO_FOLDER = Path('/usr/share/espresso/pseudo')
PSEUDO_CUTOFFS_RY = {'Si': ('Si.pbe-rrkj.UPF', 16.0, 64.0)}


@pytest.fixture(scope='session')
def aiida_config(fast_folder: Path, aiida_config_factory: Callable[..., Any]) -> Iterator[Any]:
    """Load a temporary AiiDA configuration for the session; AIIDA_PATH points at it."""
    from aiida.manage.manager import Manager

    with aiida_config_factory(fast_folder) as config, pytest.MonkeyPatch.context() as patch:
        config.set_option('daemon.timeout', 30)
        config.set_option('runner.poll.interval', 1)
        config.store()
        # The broker of a daemon that has just been started, where much else runs, is ready later than AiiDA waits.
        patch.setattr('aiida.brokers.zeromq.broker.BROKER_READY_TIMEOUT', 60.0)
        # A runner of a test profile looks for its processes without a pause, and takes the core that they need.
        patch.setattr(Manager, 'create_runner', partialmethod(Manager.create_runner, poll_interval=RUNNER_POLL_S))
        yield config


@pytest.fixture(scope='session')
def profile_factory(
    request: pytest.FixtureRequest, aiida_config: Any, aiida_profile_factory: Callable[..., Any], fast_folder: Path
) -> Callable[..., contextlib.AbstractContextManager[Any]]:
    """Return a factory of profiles on the chosen database: ``profile_factory(broker_backend=None)``."""
    backend = request.config.getoption('--db-backend')
    if backend == 'psql':
        from tests.support.postgres import prepare_postgres

        server = fast_folder / 'postgres'
        server.mkdir()
        prepare_postgres(server)

    @contextlib.contextmanager
    def factory(broker_backend: str | None = None) -> Iterator[Any]:
        storage_config = request.getfixturevalue(f'config_{backend}_dos')()
        with aiida_profile_factory(
            aiida_config,
            storage_backend=f'core.{backend}_dos',
            storage_config=storage_config,
            broker_backend=broker_backend,
        ) as profile:
            # The daemon of a test profile asks for its processes without a pause: a core of work for each worker.
            profile.is_test_profile = broker_backend is None
            aiida_config.store()
            yield profile

    return factory


@pytest.fixture(scope='session')
def config_sqlite_dos(fast_folder: Path) -> Callable[[], dict[str, str]]:
    """Return a factory of storage configurations for SQLite."""
    return lambda: {'filepath': tempfile.mkdtemp(prefix='sqlite-', dir=fast_folder)}


@pytest.fixture(scope='session')
def aiida_profile(profile_factory: Callable[..., Any]) -> Iterator[Any]:
    """Load the profile of the session: no broker, processes run in the interpreter of the tests."""
    with profile_factory() as profile:
        yield profile


@pytest.fixture(scope='module')
def daemon_profile(aiida_profile: Any, profile_factory: Callable[..., Any]) -> Iterator[Any]:
    """Load a profile with the ZeroMQ broker for the tests of one module."""
    with profile_factory(broker_backend='core.zeromq') as profile:
        yield profile


@pytest.fixture(scope='module')
def daemon(daemon_profile: Any) -> Iterator[Any]:
    """Start the daemon with two workers; return its client."""
    from aiida.engine.daemon.client import DaemonException, get_daemon_client

    client = get_daemon_client(daemon_profile.name)
    client.start_daemon(number_workers=2, timeout=60)
    yield client
    with contextlib.suppress(DaemonException):
        client.stop_daemon(wait=True, timeout=60)


@pytest.fixture
def submit_and_wait(daemon: Any) -> Callable[..., Any]:
    """Return ``submit_and_wait(process_or_builder_or_node, timeout=600, **inputs)``: the node, terminated.

    Unlike AiiDA's ``submit_and_await`` it returns as soon as the process is terminated in whatever state, and its time
    limit suits pw.x and training.
    """
    from aiida.engine import submit
    from aiida.orm import ProcessNode

    def factory(process: Any, timeout: float = 600, **inputs: Any) -> ProcessNode:
        node = process if isinstance(process, ProcessNode) else submit(process, **inputs)
        deadline = time.monotonic() + timeout
        while not node.is_terminated:
            if time.monotonic() > deadline:
                log = Path(daemon.daemon_log_file).read_text(encoding='utf-8')[-20_000:]
                raise TimeoutError(f'{node} is still {node.process_state} after {timeout} s; the daemon says:\n{log}')
            time.sleep(0.2)
        return node

    return factory


@pytest.fixture
def localhost(aiida_profile: Any, fast_folder: Path) -> Any:
    """Return the computer ``localhost`` of the loaded profile: core.local, core.direct, polled without delay."""
    return _load_or_create_computer('localhost', 'core.direct', fast_folder)


@pytest.fixture(scope='module')
def slurm(fast_folder: Path) -> Iterator[Any]:
    """Run a Slurm of one node with a fake GPU; the environment names it, so start the daemon after it.

    A module that uses both says so by a ``daemon_profile`` of its own that asks for ``slurm`` first.
    """
    from tests.support.slurm import slurm_node

    with (
        slurm_node(Path(tempfile.mkdtemp(prefix='slurm-', dir=fast_folder))) as node,
        pytest.MonkeyPatch.context() as environment,
    ):
        environment.setenv('SLURM_CONF', str(node.configuration))
        yield node


@pytest.fixture
def slurm_computer(slurm: Any, aiida_profile: Any, fast_folder: Path) -> Any:
    """Return the computer ``slurm`` of the loaded profile: core.local, core.slurm, polled without delay."""
    return _load_or_create_computer('slurm', 'core.slurm', fast_folder)


def _load_or_create_computer(label: str, scheduler: str, folder: Path) -> Any:
    from aiida.common.exceptions import NotExistent
    from aiida.orm import Computer, load_computer

    try:
        return load_computer(label)
    except NotExistent:
        computer = Computer(
            label=label,
            hostname='localhost',
            transport_type='core.local',
            scheduler_type=scheduler,
            workdir=tempfile.mkdtemp(prefix='work-', dir=folder),
        ).store()
        # A login shell may take long to start, and there is one for each look at a job.
        computer.configure(safe_interval=0, use_login_shell=False)
        computer.set_minimum_job_poll_interval(1.0)
        computer.set_default_mpiprocs_per_machine(1)
        return computer


def _load_or_create_code(
    computer: Any, label: str, executable: Path, prepend_text: str = '', plugin: Any = None
) -> Any:
    from aiida.common.exceptions import NotExistent
    from aiida.orm import InstalledCode, load_code

    try:
        return load_code(f'{label}@{computer.label}')
    except NotExistent:
        return InstalledCode(
            label=label,
            computer=computer,
            filepath_executable=str(executable),
            prepend_text=prepend_text,
            default_calc_job_plugin=plugin,
            with_mpi=False,
        ).store()


def _installed_worker(computer: Any, label: str) -> Any:
    executable = Path(sys.executable).with_name('mlip-autopipe-worker')
    if not executable.is_file():
        raise FileNotFoundError(f'{executable} does not exist: install the package into this environment (make test)')
    return _load_or_create_code(computer, label, executable, prepend_text='export OMP_NUM_THREADS=1')


@pytest.fixture
def worker_code(localhost: Any, warm_worker: Path) -> Any:
    """Return the code ``mlip-worker@localhost``: the worker of this environment, from a server (`warm_worker`)."""
    return _load_or_create_code(localhost, 'mlip-worker', warm_worker, prepend_text='export OMP_NUM_THREADS=1')


@pytest.fixture
def installed_worker_code(localhost: Any) -> Any:
    """Return the code ``mlip-installed-worker@localhost``: the command itself, for jobs that are killed or timed."""
    return _installed_worker(localhost, 'mlip-installed-worker')


@pytest.fixture
def slurm_worker_code(slurm_computer: Any) -> Any:
    """Return the code ``mlip-worker@slurm``: the worker of the running environment."""
    return _installed_worker(slurm_computer, 'mlip-worker')


@pytest.fixture
def pw_code(localhost: Any) -> Any:
    """Return the code ``pw@localhost``: the real pw.x."""
    executable = shutil.which('pw.x')
    if executable is None:
        raise FileNotFoundError('pw.x is not on PATH: install Quantum ESPRESSO (Debian: apt install quantum-espresso)')
    return _load_or_create_code(
        localhost, 'pw', Path(executable), prepend_text='export OMP_NUM_THREADS=1', plugin='quantumespresso.pw'
    )


@pytest.fixture
def pseudo_family(aiida_profile: Any, tmp_path: Path) -> Any:
    """Return the family ``autopipe/pbe``: norm-conserving PBE silicon, at cutoffs for plumbing (16 and 64 Ry)."""
    from aiida.plugins import DataFactory, GroupFactory

    label, group_class = 'autopipe/pbe', GroupFactory('pseudo.family.cutoffs')
    if found := group_class.collection.find({'label': label}):
        return found[0]
    cutoffs = {}
    folder = tmp_path / 'pseudos'
    folder.mkdir()
    for element, (filename, ecutwfc, ecutrho) in PSEUDO_CUTOFFS_RY.items():
        if not (PSEUDO_FOLDER / filename).is_file():
            raise FileNotFoundError(
                f'{PSEUDO_FOLDER / filename} is missing (Debian: apt install quantum-espresso-data)'
            )
        shutil.copy(PSEUDO_FOLDER / filename, folder)
        cutoffs[element] = {'cutoff_wfc': ecutwfc, 'cutoff_rho': ecutrho}
    family = group_class.create_from_folder(folder, label, pseudo_type=DataFactory('pseudo.upf'))
    family.set_cutoffs(cutoffs, 'standard', unit='Ry')
    return family


@pytest.fixture(scope='module')
def finished_run(aiida_profile: Any, profile_factory: Callable[..., Any]) -> Iterator[WorkChainNode]:
    """Return the recorded run (see tests/record_run.py), in a profile of its own for the tests of one module."""
    from aiida import orm
    from aiida.tools.archive import import_archive

    with profile_factory():
        import_archive(Path(__file__).parents[1] / 'data' / 'finished_run.aiida')
        query = orm.QueryBuilder().append(orm.WorkChainNode, filters={'attributes.process_label': 'AutoPipeWorkChain'})
        yield query.one()[0]
