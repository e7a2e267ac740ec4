"""What failed, what it cost, and by what it can be known again: versions, checksums, fingerprint, licence."""

from __future__ import annotations

from collections import Counter
from typing import Any

from aiida_mlip_autopipe.data import PotentialData
from aiida_mlip_autopipe.provenance.cost import run_cost
from aiida_mlip_autopipe.provenance.failures import Ending, all_failures
from aiida_mlip_autopipe.provenance.rounds import RunRecord
from aiida_mlip_autopipe.report.page.blocks import Section, Table, Text, number, title_of

__all__ = ['cost', 'failed', 'identity']

#: Failures that are listed one by one, at most.
MAX_LISTED = 200


def failed(record: RunRecord) -> Section:
    """Return what went wrong, what the run did about it, and the way out."""
    found = all_failures(record.run.pk)
    if not found:
        return Section('failures', 'Failures', [Text('No failures.', 'good')])
    counts = Counter(one.ending for one in found)
    told = ', '.join(f'{count} {ending}' for ending, count in counts.items())
    rows = [
        [
            f'{one.process} <{one.pk}>',
            one.stage,
            one.subject or '–',
            number(one.exit_status, '{:d}'),
            one.message,
            one.ending.value,
            one.way_out or one.action or '–',
        ]
        for one in found[:MAX_LISTED]
    ]
    columns = ['process', 'stage', 'subject', 'exit', 'message', 'outcome', 'solution']
    title = 'All failures' + (f' (the first {MAX_LISTED} of {len(found)})' if len(found) > MAX_LISTED else '')
    kind = 'warning' if counts[Ending.UNRESOLVED] else 'plain'
    return Section('failures', 'Failures', [Text(f'Failures: {told}.', kind), Table(title, columns, rows, n_names=7)])


def cost(record: RunRecord) -> Section:
    """Return what each stage has cost: time, core hours, GPU hours if any, storage."""
    spent = run_cost(record.run.pk)
    has_gpu = any(stage.gpu_hours for stage in spent.stages)
    rows = [
        [
            stage.name,
            _duration(stage.elapsed_s),
            number(stage.core_hours, '{:.3f}'),
            *([number(stage.gpu_hours, '{:.3f}')] * has_gpu),
            str(stage.n_jobs),
            str(stage.n_cached),
            number(stage.repository_bytes / 1e6, '{:.2f}'),
            number(stage.frames_bytes / 1e6, '{:.2f}'),
        ]
        for stage in (*spent.stages, spent.total)
    ]
    columns = ['stage', 'wall time', 'core hours', *(['GPU hours'] * has_gpu)]
    columns += ['jobs', 'from the cache', 'files (MB)', 'frames (MB)']
    note = (
        f'Core {"and GPU " * has_gpu}hours: wall time times the resources requested by the jobs; results from the '
        'cache cost nothing. The wall time of a stage includes waiting. Frames stay on the computer of the dynamics.'
    )
    return Section('cost', 'Cost', [Table('Stages', columns, rows), Text(note, 'note')])


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02d}:{rest:02d}' if hours else f'{minutes}:{rest:02d}'


def identity(record: RunRecord) -> Section:
    """Return what identifies the potentials, the labels and the programs."""
    blocks: list[Any] = [_potentials(record), _labels(record)]
    blocks.append(Table('Programs', ['program', 'version'], sorted(record.versions.items()), n_names=2))
    run = record.run
    told = f'Run <{run.pk}>, UUID {run.uuid}, started {run.ctime:%Y-%m-%d %H:%M} UTC.'
    return Section('identity', 'Versions, checksums and licences', [Text(told), *blocks])


def _potentials(record: RunRecord) -> Table:
    potentials: dict[str, PotentialData] = {}
    if record.surrogate is not None:
        potentials['surrogate (given)'] = record.surrogate
    for trained in record.trained:
        for name, node in trained.potentials.items():
            potentials[f'{title_of(trained.stage)}' + ('' if name == 'potential' else f', {name}')] = node
    rows = []
    for name, node in potentials.items():
        known = node.base.attributes.all
        licence, origin = str(known.get('licence', '–')), str(known.get('origin', '–'))
        trained_on = number(known.get('n_training'), '{:d}')
        rows.append([f'{name} <{node.pk}>', origin, licence, node.sha256, trained_on])
    return Table('Potentials', ['potential', 'origin', 'licence', 'sha256', 'trained on'], rows, n_names=4)


def _labels(record: RunRecord) -> Table:
    rows = [
        [name, str(node.label_fingerprint), str(node.n_frames)]
        for name in ('dataset', 'test_set')
        if (node := record.output(name)) is not None
    ]
    rows += [[what, value, ''] for what, value in record.labeller.rows()]
    return Table('Labels', ['quantity', 'fingerprint or value', 'frames'], rows, n_names=2)
