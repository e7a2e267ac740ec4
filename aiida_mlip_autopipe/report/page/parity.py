"""Parity plots of all evaluations, and errors against the disagreement of the committee."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import units

from aiida_mlip_autopipe.provenance.rounds import Evaluated, RunRecord
from aiida_mlip_autopipe.report.page.blocks import LOG_AXIS, Chart, Section, Text, Widget, encoded, number, title_of
from aiida_mlip_autopipe.report.page.verdict import ERRORS
from aiida_mlip_autopipe.science.drawing import COLOURS
from aiida_mlip_autopipe.science.evaluation.records import Calibration, ErrorKey

__all__ = ['calibration', 'parity', 'parity_data']

#: Force components drawn of one evaluation, and of all of them together, at most.
MAX_COMPONENTS, MAX_IN_ALL = 10_000, 150_000


def parity(record: RunRecord) -> Section:
    """Return energies, forces and stresses of each evaluation: predicted against DFT."""
    if not record.evaluated:
        return Section('parity', 'Parity', [Text('No potential has been evaluated yet.')])
    limit = min(MAX_COMPONENTS, MAX_IN_ALL // len(record.evaluated))
    data = {'sets': [parity_data(one, limit) for one in reversed(record.evaluated)]}
    return Section('parity', 'Parity', [Widget('parity', data)])


def parity_data(one: Evaluated, max_components: int = MAX_COMPONENTS) -> dict[str, Any]:
    """Return what the parity plots of an evaluation show.

    Returns
    -------
    dict
        ``title``; ``frames``: ``frame_id``, ``origin``, ``split`` and ``temperature_K`` of each; ``energy`` (eV/atom,
        from the mean of DFT), ``forces`` (eV/Å) and ``stress`` (GPa): ``x`` (DFT), ``y`` (potential), ``frame`` (which
        one), ``n_points`` in all and ``told``: of which frames the error is, and the error, over all points also where
        not all are drawn.
    """
    found = one.predictions
    n_atoms, frames = found['n_atoms'], np.arange(len(found['n_atoms']))
    reference = found['REF_energy'] / n_atoms
    mean = reference.mean()
    of_component = np.repeat(np.repeat(frames, n_atoms), 3)
    forces = (found['REF_forces'].ravel(), found['forces'].ravel(), of_component)
    stress = np.isfinite(found['REF_stress']) & np.isfinite(found['stress'])
    stresses = (found['REF_stress'][stress] / units.GPa, found['stress'][stress] / units.GPa, np.nonzero(stress)[0])
    return {
        'title': _title(one),
        'frames': {
            'frame_id': found['frame_id'].tolist(),
            'origin': found['origin'].tolist(),
            'split': [str(split) or 'new label' for split in found['split']],
            'temperature_K': encoded(found['temperature_K']),
        },
        'energy': _points(one, 'energy_rmse_meV', (reference - mean, found['energy'] / n_atoms - mean, frames), None),
        'forces': _points(one, 'force_rmse_meV_A', forces, max_components),
        'stress': _points(one, 'stress_rmse_GPa', stresses, None),
    }


def _title(one: Evaluated) -> str:
    return f'{title_of(one.stage)}, test set' if one.stage.judges_potential else title_of(one.stage)


def _points(one: Evaluated, key: ErrorKey, points: Any, limit: int | None) -> dict[str, Any]:
    _, unit, form, _ = ERRORS[key]
    n_points = len(points[0])
    kept = np.arange(n_points)
    if limit is not None and n_points > limit:
        kept = np.linspace(0, n_points - 1, limit).round().astype(int)
    x, y, frame = (np.asarray(values)[kept] for values in points)
    n_frames = len(np.unique(points[2]))
    told = f'all {n_frames} frames: RMSE {number(one.metrics[key], form)} {unit}'
    return {'x': encoded(x), 'y': encoded(y), 'frame': encoded(frame), 'n_points': n_points, 'told': told}


def calibration(record: RunRecord) -> Section:
    """Return how the errors went with the disagreement of the committee."""
    asked = [(one, found) for one in record.evaluated if (found := one.metrics.get('calibration'))]
    if not asked:
        note = 'This run has no committee, so there is no disagreement to compare with the errors.'
        if record.configuration['training']['committee_size'] > 1:
            note = 'No committee has been evaluated yet.'
        return Section('calibration', 'Error against disagreement', [Text(note)])
    data: list[dict[str, Any]] = []
    for index, (one, calibrated) in enumerate(asked):
        shown = index >= len(asked) - 2
        data += _calibration_traces(one, calibrated, COLOURS[index % len(COLOURS)], shown)
    layout = {
        'xaxis': {**LOG_AXIS, 'title': {'text': 'committee disagreement (eV/Å)'}},
        'yaxis': {**LOG_AXIS, 'title': {'text': 'largest force error (eV/Å)'}},
    }
    told = (
        'Each point is a frame: the largest committee disagreement on the force on an atom, and the largest '
        'force error. The line is the calibration: its factor (×) converts the disagreement into an expected error. '
        'ρ is the rank correlation. New labels were predicted before training on them.'
    )
    alt = 'Largest force error of each frame against the committee disagreement, with the calibration as a line'
    chart = Chart('calibration', 'Errors and disagreements of individual frames', alt, data, layout, 'wide')
    hint = Text('Click the legend to show or hide.', 'note hint')
    return Section('calibration', 'Error against disagreement', [Text(told), chart, hint])


def _calibration_traces(one: Evaluated, calibrated: Calibration, colour: str, shown: bool) -> list[dict[str, Any]]:
    found = one.predictions
    errors = np.linalg.norm(found['forces'] - found['REF_forces'], axis=1)
    largest = np.maximum.reduceat(errors, np.cumsum([0, *found['n_atoms'][:-1]]))
    disagreement = found['disagreement']
    usable = np.isfinite(disagreement) & (disagreement > 0)
    visible: Any = True if shown else 'legendonly'
    factor, rank = number(calibrated['factor'], '{:.2f}'), number(calibrated['rank_correlation'], '{:.2f}')
    points = {
        'type': 'scatter', 'mode': 'markers', 'name': f'{_title(one)} (× {factor}, ρ {rank})',
        'x': encoded(disagreement[usable]), 'y': encoded(largest[usable]), 'visible': visible,
        'marker': {'color': colour, 'size': 7, 'opacity': 0.75}, 'legendgroup': one.stage.label,
        'text': found['frame_id'][usable].tolist(),
        'hovertemplate': '%{text}<br>disagreement %{x:.3g}, error %{y:.3g} eV/Å<extra></extra>',
    }  # fmt: skip
    if calibrated['factor'] is None or not usable.any():
        return [points]
    ends = np.array([disagreement[usable].min(), disagreement[usable].max()])
    line = {
        'type': 'scatter', 'mode': 'lines', 'showlegend': False, 'hoverinfo': 'skip',
        'x': ends.tolist(), 'y': (calibrated['factor'] * ends).tolist(), 'visible': visible,
        'line': {'color': colour}, 'legendgroup': one.stage.label,
    }  # fmt: skip
    return [points, line]
