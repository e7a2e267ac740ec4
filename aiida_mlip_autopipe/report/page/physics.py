"""The physics checks: each figure of the potential beside that of DFT, and whether it is near enough."""

from __future__ import annotations

from aiida.orm import CalcJobNode, load_node

from aiida_mlip_autopipe.provenance.calls import jobs_with_figures
from aiida_mlip_autopipe.provenance.rounds import RunRecord
from aiida_mlip_autopipe.report.page.blocks import Image, Section, Table, Text, number
from aiida_mlip_autopipe.science.evaluation.records import COMPARED, CheckOutcome

__all__ = ['physics']

VERDICTS = {True: 'passed', False: 'failed', None: 'no verdict'}


def physics(record: RunRecord) -> Section:
    """Return the tables of the checks, and their figures."""
    checks = record.output('physics')
    if checks is None:
        asked = record.configuration['physics']['checks']
        told = f'Requested, not done yet: {", ".join(asked)}.' if asked else 'No physics check was requested.'
        return Section('physics', 'Physics checks', [Text(told)])
    done: dict[str, CheckOutcome] = checks['checks']
    rows = [
        [
            name,
            row['name'],
            *(number(row[key]) for key in COMPARED),
            row['unit'],
            VERDICTS[row['passed']],
        ]
        for name, check in done.items()
        for row in check['rows']
    ]
    columns = ['check', 'property', 'potential', 'DFT', 'difference', 'tolerance', 'unit', 'verdict']
    notes = [Text(f'{name}: {check["note"]}', 'note') for name, check in done.items() if check.get('note')]
    table = Table('Potential compared with DFT', columns, rows, n_names=2)
    return Section('physics', 'Physics checks', [_in_short(done), table, *notes, *_figures(record)])


def _in_short(done: dict[str, CheckOutcome]) -> Text:
    """Return how many checks passed, and which failed or could not be judged."""
    named = {verdict: [name for name, check in done.items() if check['passed'] is verdict] for verdict in VERDICTS}
    told = [f'{len(named[True])} of {len(done)} checks passed']
    told += [f'failed: {", ".join(named[False])}'] if named[False] else []
    told += [f'no verdict: {", ".join(named[None])}'] if named[None] else []
    kind = 'warning' if named[False] else 'plain' if named[None] else 'good'
    return Text('; '.join(told) + '.', kind)


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
