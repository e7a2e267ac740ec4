"""The daemon with the ZeroMQ broker, as the other modules use it."""

from __future__ import annotations

import pytest
from aiida.orm import Int, load_code
from aiida.plugins import CalculationFactory

pytestmark = pytest.mark.usefixtures('daemon')


@pytest.mark.timeout(120)
def test_a_job_runs_in_the_daemon(daemon, submit_and_wait, localhost):
    """A submitted job is run by a daemon worker."""
    from aiida.orm import InstalledCode

    assert daemon.is_daemon_running
    InstalledCode(label='bash', computer=localhost, filepath_executable='/bin/bash').store()
    inputs = {'x': Int(3), 'y': Int(4), 'code': load_code('bash@localhost')}
    node = submit_and_wait(CalculationFactory('core.arithmetic.add'), timeout=90, **inputs)
    assert node.is_finished_ok
    assert node.outputs.sum == 7
