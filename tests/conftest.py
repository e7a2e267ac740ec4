"""What all tests share. What needs AiiDA is in tests/support/profiles.py, and is used by tests/aiida and tests/cli."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

# On import, AiiDA looks for `verdi` on PATH to start its daemon: the one of this environment, activated or not.
os.environ['PATH'] = os.pathsep.join([str(Path(sys.executable).parent), os.environ['PATH']])

# Tests that run side by side are told of a terminal of 80 columns: the commands are to write as into a file.
os.environ.pop('COLUMNS', None)

pytest_plugins = ['tests.support.profiles'] if find_spec('aiida') else []

TMPFS_BYTES_NEEDED = 2 * 1024**3


#: What a test is marked with for a fixture that it asks for, be it through another fixture.
MARKERS_OF_FIXTURES = {
    'cli': 'slow',
    'daemon': 'daemon',
    'installed_worker_code': 'slow',
    'profile': 'daemon',
    'pw_code': 'pw',
    'slurm': 'slow',
    'worker_code': 'slow',
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the choice of the database."""
    parser.addoption('--db-backend', choices=['sqlite', 'psql'], default='sqlite', help='database of the AiiDA profile')


def pytest_report_header() -> str | None:
    """Say what is not collected here, and where it runs."""
    if find_spec('torch_sim'):
        return None
    return 'torch-sim is not in this environment: the tests of that engine run with `make test-torchsim`'


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by what they use, so that `-m 'not daemon'` needs no list of names."""
    for item in items:
        for fixture in MARKERS_OF_FIXTURES.keys() & set(getattr(item, 'fixturenames', ())):
            item.add_marker(MARKERS_OF_FIXTURES[fixture])
        if 'torchsim' in item.nodeid:
            item.add_marker('torchsim')


@pytest.fixture(scope='session')
def fast_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a folder for what syncs to disk at each step, on tmpfs where that is large enough.

    Others may enter it: the server of the tests with PostgreSQL runs as its own user.
    """
    tmpfs = Path('/dev/shm')
    if not tmpfs.is_dir() or shutil.disk_usage(tmpfs).free < TMPFS_BYTES_NEEDED:
        yield tmp_path_factory.mktemp('fast')
        return
    folder = Path(tempfile.mkdtemp(prefix='mlip-autopipe-tests-', dir=tmpfs))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope='session', name='tiny_potential')
def tiny_potential_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of a small untrained MACE potential for silicon."""
    from tests.support.potentials import tiny_potential

    return tiny_potential(tmp_path_factory.mktemp('potential'))


@pytest.fixture(scope='session')
def warm_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a command that does what the worker does, and start the server that it asks."""
    from tests.support import warm_worker as program

    folder = tmp_path_factory.mktemp('warm')
    path = folder / 'socket'
    command, _ = program.install(folder, path)
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    server = subprocess.Popen([sys.executable, '-m', program.__name__, path], env=environment)
    try:
        while not path.exists():
            assert server.poll() is None, 'the server of the warm worker has ended'
            time.sleep(0.1)
        yield command
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def warm_training(warm_worker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the trainings of this process run by the server of the warm worker."""
    from aiida_mlip_autopipe.science.potential import training_command
    from tests.support.warm_worker import PYTHON

    monkeypatch.setattr(training_command, 'sys', SimpleNamespace(executable=str(warm_worker.with_name(PYTHON))))
