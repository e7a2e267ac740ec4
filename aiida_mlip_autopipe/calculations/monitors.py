"""What is watched while a job runs: an MD job whose replicas all break is not worth its time.

AiiDA calls a monitor when it asks the scheduler for the job. What it knows of the job is the ``progress.json`` that the
worker rewrites.
"""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from aiida import orm
from aiida.engine import calcfunction
from aiida.transports import Transport

from aiida_mlip_autopipe.worker.files import PROGRESS_FILE

__all__ = ['ALL_BROKE', 'ENTRY_POINT', 'all_replicas_broke', 'read_progress', 'watch_replicas']

ENTRY_POINT = 'mlip_autopipe.all_replicas_broke'
ALL_BROKE = 'Every replica that ended was stopped by a guard'
POLL_INTERVAL_S = 30


def all_replicas_broke(node: orm.CalcJobNode, transport: Transport, min_broken: int = 8) -> str | None:
    """Return why an MD job is to be killed, if all its replicas that have ended so far were stopped by guards.

    A job that has no replica left to run is about to end by itself and is left alone.

    Parameters
    ----------
    node : CalcJobNode
        The running job.
    transport : Transport
        Open, to its computer.
    min_broken : int
        So many replicas must have ended before a verdict.
    """
    said = read_progress(node, transport)
    done, total = said.get('replicas_done', 0), said.get('replicas_total', 0)
    if not max(min_broken, 1) <= done < total or said.get('guards_tripped', 0) < done:
        return None
    return f'{ALL_BROKE}: {done} of {done}; the remaining {total - done} would only waste time'


def read_progress(node: orm.CalcJobNode, transport: Transport) -> dict[str, Any]:
    """Return what the worker of a running job wrote last; empty if nothing yet."""
    folder = node.get_remote_workdir()
    if folder is None:
        return {}
    with TemporaryDirectory() as name:
        copy = Path(name) / PROGRESS_FILE
        try:
            transport.getfile(f'{folder}/{PROGRESS_FILE}', str(copy))
            return json.loads(copy.read_text())
        except (OSError, ValueError):
            return {}


@calcfunction
def watch_replicas(min_broken: orm.Int) -> orm.Dict:
    """Return what AiiDA is told to watch an MD job with; made here, so that it has a creator.

    :param min_broken: so many replicas must have ended before a verdict.
    """
    return orm.Dict(
        {
            'entry_point': ENTRY_POINT,
            'kwargs': {'min_broken': min_broken.value},
            'minimum_poll_interval': POLL_INTERVAL_S,
        }
    )
