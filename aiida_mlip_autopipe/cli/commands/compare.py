"""``mlip-autopipe compare``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape
from rich.table import Table

from aiida_mlip_autopipe.cli.commands.status import RUN, load_run
from aiida_mlip_autopipe.cli.console import console, load_profile, tell_errors
from aiida_mlip_autopipe.pipeline.stages import Stage

if TYPE_CHECKING:
    from aiida_mlip_autopipe.provenance.comparison import Comparison, Difference

__all__ = ['command']


@click.command('compare')
@click.argument('first', metavar='PK', type=RUN)
@click.argument('second', metavar='PK', type=RUN)
@click.option('--json', 'as_json', is_flag=True, help='Print JSON instead of tables.')
@click.pass_obj
def command(profile_name: str | None, first: int, second: int, as_json: bool) -> None:
    """Compare two runs: inputs, errors, labels, cost.

    Only the differences of the configurations are shown. Errors are comparable only if they refer to the same
    frames with labels of the same level of theory; each row says whether this is the case.

    \b
    mlip-autopipe compare 1234 5678
    mlip-autopipe compare 1234 5678 --json > compare.json
    """
    with tell_errors():
        load_profile(profile_name)
        from aiida_mlip_autopipe.provenance.comparison import compare

        found = compare(load_run(first), load_run(second))
        if as_json:
            click.echo(json.dumps(asdict(found), indent=2))
            return
        for block in _blocks(found):
            console.print(block)
            console.print()


def _blocks(found: Comparison) -> Iterator[Table | str]:
    titles = (f'run {found.first}', f'run {found.second}')
    same = 'the configurations are identical' if not found.configuration else ''
    if found.inputs or found.configuration:
        yield _differences_table('Inputs that differ', titles, [*found.inputs, *found.configuration])
    else:
        same = 'the inputs are identical'
    if same:
        yield same
    if found.errors:
        yield _errors_table(titles, found)
        yield _tell_comparability(found)
    if found.physics:
        yield _differences_table('Physics: potential / DFT, differences only', titles, found.physics)
    if found.labels:
        yield _labels_table(titles, found)
        yield _tell_fingerprints(found)
    yield _cost_table(titles, found)


def _differences_table(title: str, titles: Sequence[str], differences: Sequence[Difference]) -> Table:
    table = Table(title=title, title_justify='left', box=None, pad_edge=False)
    table.add_column('')
    for name in titles:
        table.add_column(name, overflow='fold')
    for one in differences:
        table.add_row(one.name, escape(_in_words(one.first)), escape(_in_words(one.second)))
    return table


def _in_words(value: Any) -> str:
    from aiida_mlip_autopipe.cli.results import cell

    if isinstance(value, dict) and 'reference' in value:
        value, reference = (cell(value[key], '{:.4g}') for key in ('value', 'reference'))
        return f'{value} / {reference}'
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _errors_table(titles: Sequence[str], found: Comparison) -> Table:
    from aiida_mlip_autopipe.cli.results import ERROR_COLUMNS, cell

    table = Table(title='Errors (RMSE), of ' + ' | '.join(titles), title_justify='left', box=None, pad_edge=False)
    for title in ('evaluation', 'on', 'frames'):
        table.add_column(title, no_wrap=True)
    for _, title, _ in ERROR_COLUMNS:
        table.add_column(title, justify='right', no_wrap=True)
    table.add_column('same frames')
    for row in found.errors:
        stage = Stage.parse(row.stage)
        both = [row.first or {}, row.second or {}]
        cells = [' | '.join(cell(one.get(key), text) for one in both) for key, _, text in ERROR_COLUMNS]
        numbers = ' | '.join(cell(one.get('n_frames'), '{}') for one in both)
        verdict = '' if row.first is None or row.second is None else 'yes' if row.comparable else '[bold red]no[/]'
        table.add_row(stage.subject if stage else row.stage, row.frames, numbers, *cells, verdict)
    return table


def _tell_comparability(found: Comparison) -> str:
    if found.same_test_set is None:
        return 'One of the runs has not evaluated a potential on its test set yet.'
    if found.same_test_set:
        return 'Both have the same test frames with labels of the same level of theory: their errors can be compared.'
    return (
        '[bold red]The test sets differ[/]: the errors refer to different frames (or levels of theory) and must not be '
        'compared. Evaluate both potentials on one test set: `mlip_autopipe.evaluate` in docs/howto/without_cli.'
    )


def _labels_table(titles: Sequence[str], found: Comparison) -> Table:
    from aiida_mlip_autopipe.cli.results import cell

    table = Table(title='Labels', title_justify='left', box=None, pad_edge=False)
    table.add_column('stage')
    for title in (*titles, 'frames in both'):
        table.add_column(title, justify='right')
    for row in found.labels:
        table.add_row(row.stage, *(cell(number, '{}') for number in (row.first, row.second)), str(row.n_shared))
    sums = [sum(getattr(row, name) or 0 for row in found.labels) for name in ('first', 'second', 'n_shared')]
    table.add_row('total', *map(str, sums), style='bold')
    return table


def _tell_fingerprints(found: Comparison) -> str:
    first, second = (', '.join(map(str, levels)) or 'none' for levels in found.label_fingerprints)
    if first == second:
        return f'label fingerprint of both: {first}'
    return (
        f'[bold red]The labels have different levels of theory[/]: fingerprints {first} and {second}; do not mix them '
        'in a training set.'
    )


def _cost_table(titles: Sequence[str], found: Comparison) -> Table:
    from aiida_mlip_autopipe.cli.commands.cost import in_bytes, in_hours, in_time

    table = Table(title='Cost', title_justify='left', box=None, pad_edge=False)
    table.add_column('')
    for title in titles:
        table.add_column(title, justify='right')
    totals = [one.total for one in found.cost]
    rows = {
        'core hours': [in_hours(one.core_hours) for one in totals],
        'GPU hours': [in_hours(one.gpu_hours) for one in totals],
        'time': [in_time(one.elapsed_s) for one in totals],
        'jobs': [f'{one.n_jobs}' for one in totals],
        'from the cache': [f'{one.n_cached}' for one in totals],
        'nodes': [f'{one.n_nodes}' for one in totals],
        'files': [in_bytes(one.repository_bytes) for one in totals],
        'frames on the computer': [in_bytes(one.frames_bytes) for one in totals],
    }
    for name, cells in rows.items():
        table.add_row(name, *(cell or '-' for cell in cells))
    return table
