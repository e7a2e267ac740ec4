"""Record the finished run that the tests of report, bundle and commands read: ``tests/data/finished_run.aiida``.

``python -m tests.record_run``; to be run again when a stage comes to leave something else in the graph. A real run on
two atoms, some minutes, in a profile of its own that is removed at the end.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.potentials import tiny_potential

DATA = Path(__file__).parent / 'data'
INPUT, ARCHIVE = DATA / 'finished_run.yaml', DATA / 'finished_run.aiida'


def call(*arguments: str | Path) -> None:
    """Call a command of this environment."""
    name, *others = map(str, arguments)
    subprocess.run([str(Path(sys.executable).with_name(name)), *others], check=True)


def write_archive() -> None:
    """Write the run of the default profile with all that led to it, but without what the daemon logged."""
    from aiida import load_profile, orm
    from aiida.tools.archive import create_archive

    load_profile()
    query = orm.QueryBuilder().append(orm.WorkChainNode, filters={'attributes.process_label': 'AutoPipeWorkChain'})
    create_archive(query.one(), filename=ARCHIVE, overwrite=True, include_logs=False)


def main() -> None:
    """Make the profile, run the pipeline, write the archive."""
    with tempfile.TemporaryDirectory(prefix='recorded-') as name:
        folder = Path(name)
        os.environ['AIIDA_PATH'] = name
        tiny_potential(folder)
        shutil.copy(INPUT, folder)
        try:
            call('mlip-autopipe', 'init', '--yes', '--worker', Path(sys.executable).with_name('mlip-autopipe-worker'))
            call('mlip-autopipe', 'run', folder / INPUT.name, '--output', folder / 'results')
        finally:
            call('verdi', 'daemon', 'stop')
        write_archive()


if __name__ == '__main__':
    main()
