"""What all tests share. What needs AiiDA is in tests/support/profiles.py, and is used by tests/aiida and tests/cli."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

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
