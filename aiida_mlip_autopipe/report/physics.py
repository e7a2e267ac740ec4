"""The physics checks: each figure of the potential beside that of DFT, and whether it is near enough."""

from __future__ import annotations

from typing import Any

from aiida.orm import CalcJobNode, load_node

from aiida_mlip_autopipe.provenance.calls import jobs_with_figures
from aiida_mlip_autopipe.provenance.rounds import RunRecord

from .blocks import Image, Section, Table, Text, number

__all__ = ['physics']

VERDICTS = {True: 'passed', False: 'failed', None: ''}


def physics(record: RunRecord) -> Section:
    """Return the tables of the checks, and their figures."""
    checks = record.output('physics')
    if checks is None:
        asked = record.configuration['physics']['checks']
        told = f'Asked for, not done yet: {", ".join(asked)}.' if asked else 'No physics check was asked for.'
        return Section('physics', 'Physics checks', [Text(told)])
    done: dict[str, Any] = checks['checks']
    rows = [
        [
            name,
            row['name'],
            *(number(row[key]) for key in ('value', 'reference', 'difference', 'tolerance')),
            row['unit'],
            VERDICTS[row['passed']],
        ]
        for name, check in done.items()
        for row in check['rows']
    ]
    n_failed = sum(check['passed'] is False for check in done.values())
    told = f'{n_failed} of {len(done)} checks failed.' if n_failed else f'All {len(done)} checks passed.'
    columns = ['check', 'property', 'potential', 'DFT', 'difference', 'tolerance', 'unit', 'verdict']
    notes = [Text(f'{name}: {check["note"]}', 'note') for name, check in done.items() if check.get('note')]
    table = Table('Potential beside DFT', columns, rows, n_names=2)
    return Section(
        'physics', 'Physics checks', [Text(told, 'warning' if n_failed else 'good'), table, *notes, *_figures(record)]
    )


def _figures(record: RunRecord) -> list[Image]:
    pk = jobs_with_figures(record.run.pk).get('physics')
    if pk is None:
        return []
    job = load_node(pk)
    assert isinstance(job, CalcJobNode)
    repository = job.outputs.retrieved.base.repository
    return [
        Image(repository.get_object_content(f'figures/{name}', 'rb'), name.removesuffix('.svg').replace('_', ' '))
        for name in repository.list_object_names('figures')
        if name.endswith('.svg')
    ]
