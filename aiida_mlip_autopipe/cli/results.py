"""What a run leaves in a folder for those who do not use AiiDA, and its errors as a table."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, cast

from rich.table import Table

from aiida_mlip_autopipe.cli.launch import DUMP_EXTRA
from aiida_mlip_autopipe.pipeline.stages import Kind, Stage
from aiida_mlip_autopipe.science.evaluation import REASONS_TO_STOP, tell_missed
from aiida_mlip_autopipe.science.evaluation.records import COMPARED, ERROR_WORDS, ErrorKey, Errors, Physics
from aiida_mlip_autopipe.science.evaluation.rises import tell_risen
from aiida_mlip_autopipe.science.systems.consequences import NO_STRESS
from aiida_mlip_autopipe.science.training.limits import can_forecast, tell_limit

if TYPE_CHECKING:
    from aiida.orm import WorkChainNode

    from aiida_mlip_autopipe.calculations.functions.summarise import Judgement, Summary
    from aiida_mlip_autopipe.provenance.progress import RunProgress

__all__ = [
    'ERROR_COLUMNS',
    'cell',
    'error_table',
    'error_tables',
    'physics_table',
    'tell_what_is_next',
    'tell_what_rose',
    'tell_why_it_stopped',
    'write_results',
]

FILES = {'potential': 'potential.model', 'dataset': 'dataset.extxyz', 'test_set': 'test_set.extxyz'}
FIGURES_OF = {Kind.EXPLORE: 'selection', Kind.EVALUATE: 'evaluation'}
VERDICTS = {True: '[green]passed[/]', False: '[bold red]failed[/]', None: 'no verdict'}
STRESS_ERROR: ErrorKey = 'stress_rmse_GPa'
ERROR_COLUMNS = tuple((key, f'{name} ({unit})', form) for key, (name, unit, form) in ERROR_WORDS.items())


def write_results(run: WorkChainNode, progress: RunProgress, folder: Path) -> list[Path]:
    """Write what the run has reached; a run that failed may have reached a part.

    Returns
    -------
    list of Path
        ``potential.model``, the other potentials of its committee (``member_1.model`` ...), ``dataset.extxyz``,
        ``test_set.extxyz``, ``exec_config_dump.yaml``, ``selection_r1`` ..., ``evaluation_r1`` ...,
        ``potential.json``, ``summary.json``, ``physics.json``: those there are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    files = {name: run.outputs[link] for link, name in FILES.items() if link in run.outputs}
    if 'committee' in run.outputs:
        files |= {f'{member}.model': potential for member, potential in run.outputs.committee.items()}
    for name, node in files.items():
        path = folder / name
        path.write_bytes(node.get_content(mode='rb'))
        written.append(path)
    dump = run.base.extras.get(DUMP_EXTRA, None)
    if dump is not None:
        path = folder / 'exec_config_dump.yaml'
        path.write_text(dump, encoding='utf-8')
        written.append(path)
    written += _write_figures(progress.pk, folder)
    tables: dict[str, object] = {'summary.json': _summary(run, progress)}
    if 'potential' in run.outputs and run.is_terminated:
        from aiida_mlip_autopipe.report.card import card_of
        from aiida_mlip_autopipe.report.reached import what_it_reached

        tables['potential.json'] = card_of(run, what_it_reached(run))
    if 'physics' in run.outputs:
        tables['physics.json'] = run.outputs.physics.get_dict()
    for name, table in tables.items():
        path = folder / name
        path.write_text(json.dumps(table, indent=2) + '\n', encoding='utf-8')
        written.append(path)
    return written


def _write_figures(run: int, folder: Path) -> list[Path]:
    """Write how each round's frames were selected, and how each potential was judged: folders of figures and data."""
    from aiida.orm import CalcJobNode, load_node

    from aiida_mlip_autopipe.provenance.calls import jobs_with_figures

    written = []
    for stage, pk in jobs_with_figures(run).items():
        repository = cast(CalcJobNode, load_node(pk)).outputs.retrieved.base.repository
        target = folder / _folder_of(stage)
        target.mkdir(exist_ok=True)
        for name in repository.list_object_names('figures'):
            (target / name).write_bytes(repository.get_object_content(f'figures/{name}', 'rb'))
        written.append(target)
    return written


def _folder_of(link: str) -> str:
    """Return the folder for the figures of a stage: 'selection_r1', 'evaluation_surrogate'."""
    stage = Stage.parse(link)
    return f'{FIGURES_OF[stage.kind]}_{stage.subject}' if stage is not None and stage.kind in FIGURES_OF else link


def _summary(run: WorkChainNode, progress: RunProgress) -> dict[str, object]:
    """Return the run's own summary with what it cost."""
    summary = run.outputs.summary.get_dict() if 'summary' in run.outputs else {}
    return {
        **summary,
        'run': {
            'pk': run.pk,
            'uuid': run.uuid,
            'state': progress.state,
            'exit_status': run.exit_status,
            'exit_message': run.exit_message,
        },
        'wall_s': round(progress.seconds, 1),
        'calculations': progress.n_processes,
        'calculations_reused': progress.n_reused,
        'stages': [
            {'name': stage.name, 'state': stage.state, 'seconds': round(stage.seconds, 1)} for stage in progress.stages
        ],
    }


def error_tables(summary: Summary) -> list[Table]:
    """Return the errors on both test sets and, where there were rounds, on what each potential found."""
    rounds = summary['rounds']
    names = ['surrogate', *(f'round {one["round"]}' for one in rounds)]
    judged: list[Judgement] = [summary['surrogate'], *rounds]
    tables = [error_table('Errors on the test set (RMSE)', zip(names, (one['test'] for one in judged), strict=True))]
    if hot := [(name, errors) for name, one in zip(names, judged, strict=True) if (errors := one['hot']) is not None]:
        tables.append(error_table('Errors on the hotter test set, beyond the temperatures of the rounds (RMSE)', hot))
    if rounds:
        found = zip(names[:-1], [one['labels'] for one in rounds], strict=True)
        tables.append(error_table('Errors on new labels, before training on them (RMSE)', found))
    return tables


def error_table(title: str, rows: Iterable[tuple[str, Errors]], of_what: str = 'potential') -> Table:
    """Return errors as a table, a row for each potential or each set of frames."""
    table = Table(title=title, title_justify='left', box=None, pad_edge=False)
    table.add_column(of_what)
    for _, column, _ in ERROR_COLUMNS:
        table.add_column(column, justify='right')
    stressed = False
    for name, metrics in rows:
        table.add_row(name, *(cell(metrics.get(key), text) for key, _, text in ERROR_COLUMNS))
        stressed |= metrics.get(STRESS_ERROR) is not None
    if table.row_count and not stressed:
        table.caption = NO_STRESS
    return table


def physics_table(checks: Physics) -> Table:
    """Return what the physics checks compared: each figure beside that of DFT, and whether it is near enough."""
    table = Table(title='Physics', title_justify='left', box=None, pad_edge=False)
    for column in ('check', '', 'potential', 'DFT', 'difference', 'tolerance', 'unit', ''):
        table.add_column(column, justify='left' if column in ('check', '', 'unit') else 'right')
    for name, check in checks['checks'].items():
        for row in check['rows']:
            numbers = [cell(row[key], '{:.4g}') for key in COMPARED]
            table.add_row(name, row['name'], *numbers, row['unit'], VERDICTS[row['passed']])
    notes = [f'{name}: {check["note"]}' for name, check in checks['checks'].items() if check['note']]
    table.caption, table.caption_justify = '\n'.join(notes) or None, 'left'
    return table


def cell(value: float | None, text: str) -> str:
    """Return a number as a cell of a table; a dash for none."""
    return '-' if value is None else text.format(value)


def tell_why_it_stopped(summary: Summary) -> str:
    """Return why there is no further round, in words, and what is still above its tolerance."""
    stopped = summary['stopped']
    empty = ', '.join(map(str, stopped.get('empty_rounds', [])))
    rounds = f'{stopped.get("n_rounds", len(summary["rounds"]))} round(s)'
    told = (
        f'after {rounds}{f" (nothing new in {empty})" if empty else ""} and {stopped["n_labels"]} labels: '
        f'{REASONS_TO_STOP[stopped["why"]]}'
    )
    above = tell_missed(stopped['above_tolerance'])
    return f'{told}; not clearly below the tolerance: {above}' if above else told


def tell_what_rose(summary: Summary) -> list[str]:
    """Return of each round in which errors rose which did and why, in words."""
    return [f'round {one["round"]}: {tell_risen(risen)}' for one in summary['rounds'] if (risen := one.get('risen'))]


def tell_what_is_next(summary: Summary) -> str | None:
    """Return what limits the last potential, and what further labels are likely to be worth where they do."""
    rounds, curve = summary['rounds'], summary['learning_curve']
    if not rounds:
        return None
    told = tell_limit(rounds[-1]['training'])
    if curve is None or not can_forecast(rounds[-1]['training']['run']['limited_by'], len(rounds)):
        return told
    return (
        f'{told}; the next {curve["n_more"]} labels are expected to change the force error by '
        f'{-curve["gain_percent"]:.0f} % ({-curve["gain_low_percent"]:.0f} to {-curve["gain_high_percent"]:.0f}), '
        f'to {curve["expected"]:.0f} meV/Å ({curve["low"]:.0f} to {curve["high"]:.0f})'
    )
