"""What a run leaves in a folder for those who do not use AiiDA, and its errors as a table."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from rich.table import Table

from aiida_mlip_autopipe.science.evaluation import REASONS_TO_STOP

from .launch import DUMP_EXTRA

if TYPE_CHECKING:
    from aiida.orm import WorkChainNode

    from aiida_mlip_autopipe.provenance.progress import RunProgress

__all__ = ['error_tables', 'tell_why_it_stopped', 'write_results']

FILES = {'potential': 'potential.model', 'dataset': 'dataset.extxyz', 'test_set': 'test_set.extxyz'}
COLUMNS = (
    ('energy_rmse_meV', 'energy (meV/atom)', '{:.2f}'),
    ('force_rmse_meV_A', 'forces (meV/Å)', '{:.1f}'),
    ('stress_rmse_GPa', 'stress (GPa)', '{:.3f}'),
)


def write_results(run: WorkChainNode, progress: RunProgress, folder: Path) -> list[Path]:
    """Write what the run has reached; a run that failed may have reached a part.

    Returns
    -------
    list of Path
        ``potential.model``, the other potentials of its committee (``member_1.model`` ...), ``dataset.extxyz``,
        ``test_set.extxyz``, ``exec_config_dump.yaml``, ``selection_r1`` ..., ``summary.json``: those there are.
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
    path = folder / 'summary.json'
    path.write_text(json.dumps(_summary(run, progress), indent=2) + '\n', encoding='utf-8')
    return [*written, path]


def _write_figures(run: int, folder: Path) -> list[Path]:
    """Write what shows how each round's frames were selected: a folder with figures and their data for each."""
    from aiida.orm import CalcJobNode, load_node

    from aiida_mlip_autopipe.provenance.calls import sampling_jobs

    written = []
    for stage, pk in sampling_jobs(run).items():
        repository = cast(CalcJobNode, load_node(pk)).outputs.retrieved.base.repository
        target = folder / f'selection_{stage.removeprefix("explore_")}'
        target.mkdir(exist_ok=True)
        for name in repository.list_object_names('figures'):
            (target / name).write_bytes(repository.get_object_content(f'figures/{name}', 'rb'))
        written.append(target)
    return written


def _summary(run: WorkChainNode, progress: RunProgress) -> dict[str, Any]:
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


def error_tables(summary: dict[str, Any]) -> list[Table]:
    """Return the errors on the test set and, where there were rounds, those where each potential explored."""
    rounds = summary['rounds']
    potentials = ['surrogate', *(f'round {one["round"]}' for one in rounds)]
    tests = [summary['surrogate'], *(one['test'] for one in rounds)]
    tables = [_table('Errors on the test set (RMSE)', zip(potentials, tests, strict=True))]
    if rounds:
        found = zip(potentials[:-1], [one['labels'] for one in rounds], strict=True)
        tables.append(_table('Errors on the frames it found, not yet trained on (RMSE)', found))
    return tables


def _table(title: str, rows: Iterable[tuple[str, dict[str, Any]]]) -> Table:
    table = Table(title=title, title_justify='left', box=None, pad_edge=False)
    table.add_column('potential')
    for _, column, _ in COLUMNS:
        table.add_column(column, justify='right')
    for name, metrics in rows:
        table.add_row(name, *(_cell(metrics.get(key), text) for key, _, text in COLUMNS))
    return table


def _cell(value: float | None, text: str) -> str:
    return '-' if value is None else text.format(value)


def tell_why_it_stopped(summary: dict[str, Any]) -> str:
    """Return why there is no further round, in words, and what is still above its tolerance."""
    stopped = summary['stopped']
    told = (
        f'after {len(summary["rounds"])} round(s) and {stopped["n_labels"]} labels: {REASONS_TO_STOP[stopped["why"]]}'
    )
    above = [
        f'{title} {_cell(stopped["above_tolerance"][key]["is"], text)} > {stopped["above_tolerance"][key]["wanted"]:g}'
        for key, title, text in COLUMNS
        if key in stopped['above_tolerance']
    ]
    return f'{told}; above the tolerance: {", ".join(above)}' if above else told
