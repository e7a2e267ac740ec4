"""How much of what was explored the selections cover: explained variance, and covering radius against the budget."""

from __future__ import annotations

from typing import Any

from aiida_mlip_autopipe.provenance.rounds import Explored, RunRecord
from aiida_mlip_autopipe.report.page.blocks import LOG_AXIS, Chart, Section, Table, Text, number, title_of
from aiida_mlip_autopipe.science.drawing import COLOURS

__all__ = ['selection']

BLUE, VERMILION, GREEN, ORANGE, *_ = COLOURS
GREY = '#888888'
LEAST_EIGENVALUE = 1e-3


def selection(record: RunRecord) -> Section:
    """Return the figures of all selections, side by side."""
    selected = [one for one in record.explored if one.report]
    if not selected:
        return Section('selection', 'Selection', [Text('There is no selection yet.')])
    blocks: list[Any] = [_table(selected)]
    drawn = [one for one in selected if one.figures]
    if drawn:
        blocks += [_explained_variance(drawn)]
        blocks += [_radius(one) for one in drawn if one.figures['radius_by_budget']['selected']]
    return Section('selection', 'Selection', blocks)


def _table(selected: list[Explored]) -> Table:
    rows = []
    for one in selected:
        report = one.report
        reasons = ', '.join(f'{count} {reason}' for reason, count in report['n_by_reason'].items())
        rows.append(
            [
                title_of(one.stage),
                reasons or '–',
                str(report['n_frames']),
                str(report['n_selected']),
                str(report['n_components']),
                number(100 * report['explained_variance_kept'], '{:.1f}'),
                number(report['coverage'], '{:.3f}'),
                number(report['covering_radius'], '{:.3g}'),
                str(report['n_not_new'] + report['n_certain']),
            ]
        )
    columns = ['selection', 'reasons', 'frames', 'selected', 'components', 'variance kept (%)', 'coverage']
    return Table('Selections', [*columns, 'covering radius', 'not new or not uncertain'], rows, n_names=2)


def _explained_variance(drawn: list[Explored]) -> Chart:
    data = []
    for index, one in enumerate(drawn):
        shown = one.figures['explained_variance']
        values = [value for value in shown['eigenvalues'] if value > LEAST_EIGENVALUE]
        name = f'{title_of(one.stage)}: {shown["n_components"]} kept, {100 * shown["kept"]:.1f} %'
        colour = COLOURS[index % len(COLOURS)]
        data.append(
            {
                'type': 'scatter', 'mode': 'lines+markers', 'name': name, 'y': values,
                'x': list(range(1, len(values) + 1)), 'marker': {'size': 5, 'color': colour}, 'line': {'color': colour},
            }
        )  # fmt: skip
    threshold = drawn[0].figures['explained_variance']['min_eigenvalue']
    longest = max(len(trace['x']) for trace in data)
    data.append(
        {
            'type': 'scatter', 'mode': 'lines', 'name': f'kept above {threshold:g}', 'x': [1, max(2, longest)],
            'y': [threshold, threshold], 'line': {'color': '#444444', 'dash': 'dash'},
        }
    )  # fmt: skip
    layout = {
        'xaxis': {'title': {'text': 'principal component'}},
        'yaxis': {**LOG_AXIS, 'dtick': 1, 'title': {'text': 'eigenvalue'}},
    }
    alt = 'Eigenvalues of the principal components of each selection, with the threshold for keeping them'
    return Chart('explained_variance', 'Explained variance', alt, data, layout)


def _radius(one: Explored) -> Chart:
    shown = one.figures['radius_by_budget']
    curves = (
        ('random', 'random (mean)', GREY, 'dot'),
        ('farthest', 'farthest-point traversal', ORANGE, 'dash'),
        ('selected', 'this selection', BLUE, 'solid'),
    )
    data: list[dict[str, Any]] = [
        {
            'type': 'scatter', 'mode': 'lines', 'name': title, 'x': shown['budgets'][: len(shown[name])],
            'y': shown[name], 'line': {'color': colour, 'dash': dash, 'width': 2.5},
        }
        for name, title, colour, dash in curves
    ]  # fmt: skip
    data.append(
        {
            'type': 'scatter', 'mode': 'markers', 'name': f'budget: {shown["n_selected"]} frames',
            'x': [shown['n_selected']], 'y': [shown['selected'][-1]], 'marker': {'color': BLUE, 'size': 11},
        }
    )  # fmt: skip
    if shown['radius_of_known'] is not None:
        data.append(
            {
                'type': 'scatter', 'mode': 'lines', 'name': 'labelled frames only',
                'line': {'color': GREEN, 'dash': 'dashdot'}, 'x': [shown['budgets'][0], shown['budgets'][-1]],
                'y': [shown['radius_of_known']] * 2,
            }
        )  # fmt: skip
    title = title_of(one.stage)
    layout = {
        'xaxis': {**LOG_AXIS, 'title': {'text': 'selected frames'}},
        'yaxis': {'rangemode': 'tozero', 'title': {'text': 'covering radius'}},
    }
    alt = f'Covering radius against the number of selected frames, {title}: this selection, random and farthest'
    return Chart(f'radius_{one.stage}', f'Covering radius against budget, {title}', alt, data, layout)
