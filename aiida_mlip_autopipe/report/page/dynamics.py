"""The molecular dynamics, replica by replica: temperature and energy against the step, and what the guards stopped."""

from __future__ import annotations

from typing import Any

import numpy as np

from aiida_mlip_autopipe.provenance.rounds import Explored, RunRecord
from aiida_mlip_autopipe.report.page.blocks import Section, Table, Text, Widget, encoded, number, title_of
from aiida_mlip_autopipe.science.frames import ReplicaEntry

__all__ = ['conditions', 'dynamics', 'frames_data', 'plane', 'replicas_data']

COLUMNS = (
    'folder', 'replica', 'step', 'temperature_K', 'energy_eV', 'n_atoms', 'max_force_eV_A', 'disagreement_eV_A',
    'cluster', 'represented_by', 'rank',
)  # fmt: skip
#: Replicas that are listed one by one, at most.
MAX_LISTED = 60


def dynamics(record: RunRecord) -> Section:
    """Return the series of all replicas, a table of them, and one of the guards that stopped some."""
    if not record.explored:
        return Section('dynamics', 'Molecular dynamics', [Text('There are no frames from molecular dynamics yet.')])
    blocks: list[Any] = []
    if any(one.frames for one in record.explored):
        data = [_exploration_data(one) for one in record.explored]
        blocks.append(Widget('dynamics', {'explorations': data}))
    else:
        note = (
            'The temperatures and energies of the frames were not retrieved; only the summaries of the jobs are shown.'
        )
        blocks.append(Text(note, 'note'))
    return Section('dynamics', 'Molecular dynamics', [*blocks, _guards(record), _replicas(record)])


def frames_data(one: Explored) -> dict[str, Any]:
    """Return the frames of an exploration as the page takes them: a column for each quantity, and ``x``, ``y``.

    The first two principal components are ``x`` and ``y``; of a single one, y is 0.
    """
    if not one.frames:
        return {}
    columns = {name: encoded(one.frames[name]) for name in COLUMNS}
    x, y = plane(one.frames['components'])
    return {**columns, 'x': encoded(x), 'y': encoded(y)}


def plane(components: np.ndarray) -> np.ndarray:
    """Return the first two components (2, n); a single one lies on the axis."""
    return np.array([components[:, axis] if components.shape[1] > axis else 0 * components[:, 0] for axis in (0, 1)])


def replicas_data(one: Explored) -> list[dict[str, Any]]:
    """Return, for each MD job, its PK, its name and its replicas by number: conditions, seed, how they ended."""
    return [
        {
            'pk': job.pk,
            'md_job': job.manifest['md_job'],
            'replicas': {
                str(replica['replica']): {
                    'conditions': conditions(replica),
                    'temperature_K': replica['temperature_K'],
                    'origin': replica['origin'],
                    'seed_id': replica['seed_id'],
                    'ended': replica['ended'],
                    'guard': replica['guard'],
                }
                for replica in job.manifest['replicas']
            },
        }
        for job in one.jobs
    ]


def conditions(replica: ReplicaEntry) -> str:
    """Return the set temperature and pressure of a replica in words: '300 to 900 K, 2 GPa'."""
    end, pressure = replica['temperature_end_K'], replica['pressure_GPa']
    temperature = f'{replica["temperature_K"]:g}' + (f' to {end:g}' if end is not None else '') + ' K'
    return temperature if pressure is None else f'{temperature}, {pressure:g} GPa'


def _exploration_data(one: Explored) -> dict[str, Any]:
    n_frames = one.report.get('n_frames', sum(job.manifest['n_frames'] for job in one.jobs))
    return {
        'title': title_of(one.stage),
        'n_frames': n_frames,
        'n_shown': len(one.frames['step']) if one.frames else 0,
        'frames': frames_data(one),
        'jobs': replicas_data(one),
    }


def _guards(record: RunRecord) -> Any:
    rows = [
        [
            title_of(one.stage),
            f'{job.manifest["md_job"]} <{job.pk}>',
            str(replica['replica']),
            conditions(replica),
            guard['name'],
            str(guard['step']),
            number(guard['value']),
            number(guard['bound']),
        ]
        for one in record.explored
        for job in one.jobs
        for replica in job.manifest['replicas']
        if (guard := replica['guard'])
    ]
    if not rows:
        return Text('No guard stopped a replica.', 'good')
    columns = ['exploration', 'MD job', 'replica', 'conditions', 'guard', 'step', 'value', 'bound']
    return Table('Replicas stopped by a guard', columns, rows, n_names=5)


def _replicas(record: RunRecord) -> Table:
    rows = []
    for one in record.explored:
        for job in one.jobs:
            rows += [
                [
                    title_of(one.stage),
                    f'{job.manifest["md_job"]} <{job.pk}>',
                    str(replica['replica']),
                    replica['seed_id'],
                    conditions(replica),
                    replica['ended'],
                    str(replica['n_steps']),
                    str(replica['n_frames']),
                ]
                for replica in job.manifest['replicas']
            ]
    title = 'Replicas' if len(rows) <= MAX_LISTED else f'Replicas (the first {MAX_LISTED} of {len(rows)})'
    columns = ['exploration', 'MD job', 'replica', 'seed', 'conditions', 'ended', 'steps', 'frames']
    return Table(title, columns, rows[:MAX_LISTED], n_names=6, folded=True)
