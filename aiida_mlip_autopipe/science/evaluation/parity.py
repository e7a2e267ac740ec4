"""Parity plots: what the potential predicts against the label, for energies, forces and stresses.

On the diagonal the two agree; forces that lie along a flatter line are softened. Of many points some are drawn: always
those of the largest errors, and of the others an even choice, the same each time. The errors in the titles are those of
all points.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import units
from ase.data import chemical_symbols

from aiida_mlip_autopipe.science.drawing import COLOURS, Drawing, short, write_figures
from aiida_mlip_autopipe.science.evaluation.breakdown import overall

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ['parity_data', 'write_parity']

#: At most so many points are drawn, and so many of them for the size of their error.
MAX_POINTS, MAX_WORST = 1500, 100
POINTS: dict[str, Any] = {'marker': 'o', 's': 14, 'alpha': 0.6, 'zorder': 2}
MARKERS = ('o', '^', 's', 'D', 'v', 'P', 'X')


def parity_data(predictions: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return what the parity plots show, ready for JSON.

    Parameters
    ----------
    predictions : mapping of ndarray
        As `Evaluation` has them; stresses of frames without one are NaN.

    Returns
    -------
    dict
        ``parity_energy`` (eV per atom, less ``shift``, the mean of the reference), ``parity_forces`` (eV/Å),
        ``parity_stress`` (GPa): each with ``reference`` and ``predicted``, some of the ``n_points`` there are,
        ``n_frames``, ``rmse`` and ``unit``. What is not finite is left out; what has no point at all is missing.
        Energies have the ``temperature_K`` (None: unknown), forces the ``element`` and the ``slope``, stresses the
        ``component`` (Voigt).
    """
    metrics = overall(dict(predictions))
    data = {
        'parity_energy': _energies(predictions, metrics),
        'parity_forces': _forces(predictions, metrics),
        'parity_stress': _stresses(predictions, metrics),
    }
    return {name: shown for name, shown in data.items() if shown['reference']}


def write_parity(predictions: Mapping[str, np.ndarray], folder: str | Path) -> list[Path]:
    """Draw the parity plots of an evaluation, and write ``figures.json`` beside them; return all paths."""
    return write_figures(parity_data(predictions), DRAWINGS, folder)


def _energies(predictions: Mapping[str, np.ndarray], metrics: Mapping[str, Any]) -> dict[str, Any]:
    reference = predictions['REF_energy'] / predictions['n_atoms']
    shift = float(np.nanmean(reference))
    reference, predicted = reference - shift, predictions['energy'] / predictions['n_atoms'] - shift
    some = _some(predicted - reference)
    temperatures = predictions['temperature_K'][some].tolist()
    return {
        **_pairs(reference, predicted, some),
        'temperature_K': [value if np.isfinite(value) else None for value in temperatures],
        'shift': shift,
        'n_frames': len(predictions['n_atoms']),
        'rmse': _finite(metrics['energy_rmse_meV'] / 1e3),
        'unit': 'eV/atom',
    }


def _forces(predictions: Mapping[str, np.ndarray], metrics: Mapping[str, Any]) -> dict[str, Any]:
    reference, predicted = predictions['REF_forces'].ravel(), predictions['forces'].ravel()
    some = _some(predicted - reference)
    return {
        **_pairs(reference, predicted, some),
        'element': [chemical_symbols[number] for number in predictions['numbers'][some // 3]],
        'slope': _finite(metrics['force_slope']),
        'n_frames': len(predictions['n_atoms']),
        'rmse': _finite(metrics['force_rmse_meV_A'] / 1e3),
        'unit': 'eV/Å',
    }


def _stresses(predictions: Mapping[str, np.ndarray], metrics: Mapping[str, Any]) -> dict[str, Any]:
    labelled = np.isfinite(predictions['REF_stress']).all(axis=1)
    reference, predicted = (predictions[name][labelled].ravel() / units.GPa for name in ('REF_stress', 'stress'))
    some = _some(predicted - reference)
    components = np.array(['xx', 'yy', 'zz', 'yz', 'xz', 'xy'])
    return {
        **_pairs(reference, predicted, some),
        'component': components[some % 6].tolist(),
        'n_frames': int(labelled.sum()),
        'rmse': _finite(metrics['stress_rmse_GPa']),
        'unit': 'GPa',
    }


def _some(errors: np.ndarray) -> np.ndarray:
    """Return the indices of at most `MAX_POINTS` finite values: the worst, and evenly spaced ones."""
    finite = np.flatnonzero(np.isfinite(errors))
    if len(finite) <= MAX_POINTS:
        return finite
    order = finite[np.argsort(-np.abs(errors[finite]), kind='stable')]
    others = np.sort(order[MAX_WORST:])
    spaced = others[np.linspace(0, len(others) - 1, MAX_POINTS - MAX_WORST).round().astype(int)]
    return np.sort(np.concatenate([order[:MAX_WORST], spaced]))


def _pairs(reference: np.ndarray, predicted: np.ndarray, some: np.ndarray) -> dict[str, Any]:
    return {'reference': short(reference[some]), 'predicted': short(predicted[some]), 'n_points': len(reference)}


def _finite(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None


# ----------------------------------------------------------------------------------------------------------- drawing


def _draw_energies(axes: Axes, shown: Mapping[str, Any]) -> None:
    reference, predicted = np.array(shown['reference']), np.array(shown['predicted'])
    temperatures = np.array([np.nan if value is None else value for value in shown['temperature_K']])
    known = np.isfinite(temperatures)
    if not known.all():
        _points(axes, reference[~known], predicted[~known], color='#888888', marker='x', label='no temperature')
        axes.legend()
    if known.any():
        drawn = _points(axes, reference[known], predicted[known], c=temperatures[known], cmap='viridis')
        axes.figure.colorbar(drawn, label='temperature (K)')
    _frame(axes, shown, 'energy', _rmse(shown, 1e3, 'meV/atom'))


def _draw_forces(axes: Axes, shown: Mapping[str, Any]) -> None:
    _draw_classes(axes, shown, shown['element'])
    slope = '' if shown['slope'] is None else f', slope {shown["slope"]:.3f}'
    _frame(axes, shown, 'force component', _rmse(shown, 1e3, 'meV/Å') + slope)


def _draw_stresses(axes: Axes, shown: Mapping[str, Any]) -> None:
    _draw_classes(axes, shown, shown['component'])
    _frame(axes, shown, 'stress component', _rmse(shown, 1, 'GPa'))


def _rmse(shown: Mapping[str, Any], factor: float, unit: str) -> str:
    error = 'not finite' if shown['rmse'] is None else f'{factor * shown["rmse"]:.3g} {unit}'
    return f'all {shown["n_frames"]} frames: RMSE {error}'


def _draw_classes(axes: Axes, shown: Mapping[str, Any], classes: list[str]) -> None:
    """Draw points in the colour and with the marker of their class."""
    reference, predicted, column = np.array(shown['reference']), np.array(shown['predicted']), np.array(classes)
    for number, name in enumerate(dict.fromkeys(classes)):
        these = column == name
        marker = MARKERS[(number + number // len(COLOURS)) % len(MARKERS)]
        colour = COLOURS[number % len(COLOURS)]
        _points(axes, reference[these], predicted[these], color=colour, marker=marker, label=name)
    axes.legend(ncols=2)


def _points(axes: Axes, reference: np.ndarray, predicted: np.ndarray, **style: Any) -> Any:
    style = {**POINTS, **style}
    if style['marker'] != 'x':
        style['edgecolors'] = 'none'
    return axes.scatter(reference, predicted, **style)


def _frame(axes: Axes, shown: Mapping[str, Any], what: str, error: str) -> None:
    """Draw the diagonal, the labels and the title."""
    low = min(*shown['reference'], *shown['predicted'])
    high = max(*shown['reference'], *shown['predicted'])
    margin = 0.04 * (high - low) or 1e-3
    limits = (low - margin, high + margin)
    axes.plot(limits, limits, color='black', linewidth=0.8, zorder=1)
    axes.set(xlim=limits, ylim=limits, aspect='equal', title=error)
    shift = f' {-shown["shift"]:+.4f}' if 'shift' in shown else ''
    axes.set(xlabel=f'{what}, DFT{shift} ({shown["unit"]})', ylabel=f'{what}, potential{shift} ({shown["unit"]})')
    n_drawn = len(shown['reference'])
    if n_drawn < shown['n_points']:
        note = f'{n_drawn} of {shown["n_points"]} points'
        axes.text(0.98, 0.02, note, ha='right', fontsize='small', transform=axes.transAxes)


DRAWINGS: dict[str, Drawing] = {
    'parity_energy': _draw_energies,
    'parity_forces': _draw_forces,
    'parity_stress': _draw_stresses,
}
