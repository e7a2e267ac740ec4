"""Rounds and learning curve: how the errors fell, what limits the potential, what labels may bring, and the baselines.

The band is that of `fit_learning_curve`, asked for several numbers of further labels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from aiida_mlip_autopipe.provenance.rounds import RunRecord
from aiida_mlip_autopipe.report.page.blocks import LOG_AXIS, Chart, Section, Table, Text, number, title_of
from aiida_mlip_autopipe.report.page.verdict import ERRORS, judgements, tolerances
from aiida_mlip_autopipe.science.drawing import COLOURS
from aiida_mlip_autopipe.science.evaluation.learning_curve import fit_learning_curve
from aiida_mlip_autopipe.science.evaluation.records import ErrorKey, Errors
from aiida_mlip_autopipe.science.training.limits import can_forecast, tell_limit

__all__ = ['learning', 'learning_points']

BLUE, VERMILION, GREEN, ORANGE, *_ = COLOURS
N_MORE, N_STEPS = 50, 25
SERIES = {'test': ('test set', BLUE, 'circle'), 'hot': ('hotter test set', VERMILION, 'square')}
BASELINES = (('', 'selected', BLUE), ('_random', 'random', '#888888'), ('_farthest', 'farthest', ORANGE))


def learning(record: RunRecord) -> Section:
    """Return the errors of each round, the learning curve and the selections beside their baselines."""
    judged = judgements(record)
    if not judged:
        return Section('learning', 'Rounds and learning curve', [Text('No potential has been evaluated yet.')])
    blocks: list[Any] = [_error_chart(record, key) for key in ERRORS]
    blocks += [_table(record), *_curve(record), *_baseline(record)]
    return Section('learning', 'Rounds and learning curve', blocks)


def learning_points(record: RunRecord) -> list[tuple[int, float, float]]:
    """Return, of each potential that was trained here: labels it was trained on, force error, its standard error."""
    by_round = {one.stage.round: one for one in record.trained}
    points = []
    for one in judgements(record):
        trained = by_round.get(one.stage.round)
        test = one.on('test')
        spread = None if test is None else test['force_rmse_standard_error_meV_A']
        if trained is not None and test is not None and spread is not None:
            points.append((trained.n_labels, test['force_rmse_meV_A'], spread))
    return points


def _error_chart(record: RunRecord, key: ErrorKey) -> Chart:
    name, unit, _, _ = ERRORS[key]
    judged = judgements(record)
    names = [title_of(one.stage) for one in judged]
    data: list[dict[str, Any]] = []
    for split, (title, colour, symbol) in SERIES.items():
        values = [None if (errors := one.on(split)) is None else errors[key] for one in judged]
        if any(value is not None for value in values):
            data.append(_line(names, values, title, colour, symbol))
            if key == 'force_rmse_meV_A':
                spread = [one.metrics['by_split'][split]['force_rmse_standard_error_meV_A'] for one in judged]
                data[-1]['error_y'] = {'type': 'data', 'array': [value or 0 for value in spread], 'thickness': 1}
    found = [one for one in record.evaluated if one.stage.judges_labels]
    if found:
        # What a round found is judged by the potential that found it: the one before.
        before = names[: len(found)]
        data.append(_line(before, [one.metrics[key] for one in found], 'new labels', GREEN, 'diamond', 'dot'))
    limit = tolerances(record)[key]
    if limit is not None:
        data.append(
            {**_line([names[0], names[-1]], [limit, limit], 'tolerance', '#444444', None, 'dash'), 'mode': 'lines'}
        )
    layout = {
        'yaxis': {'rangemode': 'tozero', 'title': {'text': f'RMSE ({unit})'}},
        'xaxis': {'type': 'category'},
    }
    alt = f'Root mean square error of {name} of each potential'
    return Chart(f'errors_{name}', f'Error of {name}', alt, data, layout, width='third')


def _line(x: Any, y: Any, name: str, colour: str, symbol: str | None, dash: str = 'solid') -> dict[str, Any]:
    marker = {'color': colour, 'symbol': symbol, 'size': 9} if symbol else {}
    line = {'color': colour, 'dash': dash}
    return {'type': 'scatter', 'mode': 'lines+markers', 'x': x, 'y': y, 'name': name, 'line': line, 'marker': marker}


def _table(record: RunRecord) -> Table:
    rows = []
    for one in record.evaluated:
        splits: dict[str, Errors] = {'new labels': one.metrics} if one.stage.judges_labels else one.metrics['by_split']
        for split, metrics in sorted(splits.items(), reverse=True):
            values = [number(metrics[key], form) for key, (_, _, form, _) in ERRORS.items()]
            slope = number(metrics['force_slope'], '{:.3f}')
            rows.append([title_of(one.stage), split, *values, slope, str(metrics['n_frames'])])
    columns = ['potential or labels', 'evaluated on']
    columns += [f'{name} ({unit})' for name, unit, _, _ in ERRORS.values()]
    return Table(
        'All errors (RMSE); new labels are predicted before training on them',
        [*columns, 'force slope', 'frames'],
        rows,
        n_names=2,
    )


def _curve(record: RunRecord) -> list[Any]:
    points = learning_points(record)
    if len({n for n, _, _ in points}) < 2 or min(error for _, error, _ in points) <= 0:
        return [Text('A learning curve needs two potentials of this run trained on different numbers of labels.')]
    n_labels, errors, spreads = zip(*points, strict=True)
    ahead = [
        fit
        for n_more in np.linspace(0, N_MORE, N_STEPS).round().astype(int).tolist()
        if (fit := fit_learning_curve(n_labels, errors, spreads, n_more)) is not None
    ]
    fit = ahead[-1]
    beyond = [fit['n_labels'] + one['n_more'] for one in ahead]
    line = np.geomspace(min(n_labels), beyond[-1], 60)
    power = fit['floor'] + (fit['now'] - fit['floor']) * (line / fit['n_labels']) ** -fit['exponent']
    band = {
        'type': 'scatter', 'mode': 'lines', 'fill': 'toself', 'hoverinfo': 'skip', 'name': 'likely (68 %)',
        'x': [*beyond, *reversed(beyond)], 'line': {'width': 0}, 'fillcolor': 'rgba(0,114,178,0.2)',
        'y': [*(one['high'] for one in ahead), *(one['low'] for one in reversed(ahead))],
    }  # fmt: skip
    law = {
        'type': 'scatter', 'mode': 'lines', 'x': line.tolist(), 'y': power.tolist(), 'name': 'power law and floor',
        'line': {'color': BLUE, 'dash': 'dash'},
    }  # fmt: skip
    measured = {
        'type': 'scatter', 'mode': 'markers', 'x': n_labels, 'y': errors, 'name': 'test set',
        'error_y': {'type': 'data', 'array': spreads}, 'marker': {'color': BLUE, 'size': 10},
    }  # fmt: skip
    layout = {
        'xaxis': {**LOG_AXIS, 'title': {'text': 'labelled structures in the training'}},
        'yaxis': {**LOG_AXIS, 'title': {'text': 'force RMSE (meV/Å)'}},
    }
    told = (
        f'The error above {fit["floor"]:.0f} meV/Å scales as N^(-{fit["exponent"]:.2f} ± {fit["exponent_std"]:.2f}) '
        'with the number of labels N.'
    )
    last = record.trained[-1].metrics
    if can_forecast(last['run']['limited_by'], sum(one.stage.round > 0 for one in record.trained)):
        told += (
            f' The next {N_MORE} labels are expected to change the force error by {-fit["gain_percent"]:.0f} % '
            f'({-fit["gain_low_percent"]:.0f} to {-fit["gain_high_percent"]:.0f}), to {fit["expected"]:.0f} meV/Å '
            f'({fit["low"]:.0f} to {fit["high"]:.0f}).'
        )
    limit = tell_limit(last)
    told += f' {limit[0].upper()}{limit[1:]}.'
    alt = 'Force error against the number of labels, with a power law and the uncertainty of its extrapolation'
    return [Chart('learning_curve', 'Learning curve', alt, [band, law, measured], layout, 'wide'), Text(told)]


def _baseline(record: RunRecord) -> list[Any]:
    """Return how the selections cover their frames, beside as many frames drawn at random and farthest-point ones."""
    rounds = [one for one in record.explored if set(one.report['n_by_reason']) - {'random'}]
    if not rounds:
        return []
    names = [title_of(one.stage) for one in rounds]
    shown = (
        ('covering_radius', 'Covering radius (smaller is better)', 'distance (reduced space)'),
        ('coverage', 'Coverage (larger is better)', 'share of the occupied bins'),
    )
    charts = [
        Chart(
            key,
            title,
            f'{title}: selected, random and farthest frames, round by round',
            [
                {
                    'type': 'bar', 'name': title_of_baseline, 'x': names, 'marker': {'color': colour},
                    'y': [one.report[f'{key}{suffix}'] for one in rounds],
                }
                for suffix, title_of_baseline, colour in BASELINES
            ],
            {'yaxis': {'title': {'text': unit}}, 'barmode': 'group'},
        )
        for key, title, unit in shown
    ]  # fmt: skip
    note = (
        'Baselines: the same number of frames of the same exploration, drawn at random or by farthest-point traversal. '
        'This compares the selections only; no potential was trained on the baseline selections.'
    )
    return [*charts, Text(note, 'note')]
