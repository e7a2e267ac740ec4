"""Where the errors are: one number for all frames, and the same for each element, temperature, pressure and origin.

Energies are compared per atom; forces and stresses by component. The softening of a potential, forces that are too
small far from equilibrium, shows as a slope of predicted against reference forces below one (B. Deng et al.,
arXiv:2405.07105); least squares through the origin, as both are zero together.
"""

from __future__ import annotations

import numpy as np
from ase import units
from ase.data import chemical_symbols

from aiida_mlip_autopipe.science.evaluation.records import Breakdown, ElementErrors, Errors, ForceErrors

__all__ = ['UNKNOWN', 'breakdown', 'overall']

UNKNOWN = 'unknown'
"""The group of the frames that do not say where they belong."""


def overall(predictions: dict[str, np.ndarray]) -> Errors:
    """Return the errors over all frames.

    Parameters
    ----------
    predictions : dict of ndarray
        As `Evaluation` has them.
    """
    everything = np.ones(len(predictions['n_atoms']), dtype=bool)
    return _errors_of_frames(predictions, everything)


def breakdown(predictions: dict[str, np.ndarray]) -> Breakdown:
    """Return the errors of each group of frames, and the force errors of each element.

    Returns
    -------
    dict
        ``by_element``: symbol -> ``n_frames``, ``n_atoms``, ``force_rmse_meV_A``, ``force_mae_meV_A``,
        ``force_slope``. ``by_temperature`` (K; a ramp as '300..600'), ``by_pressure`` (GPa), ``by_origin``,
        ``by_config_type``, ``by_split``: name -> what `overall` returns. Each frame is in one group: in 'unknown' where
        it does not say in which, so that the squares of all groups add up; where none says, there are no groups.
    """
    return {
        'by_element': _by_element(predictions),
        'by_temperature': _by_group(predictions, _temperatures(predictions)),
        'by_pressure': _by_group(predictions, [_number(value) for value in predictions['pressure_GPa']]),
        'by_origin': _by_group(predictions, _names(predictions['origin'])),
        'by_config_type': _by_group(predictions, _names(predictions['config_type'])),
        'by_split': _by_group(predictions, _names(predictions['split'])),
    }


def _errors_of_frames(predictions: dict[str, np.ndarray], chosen: np.ndarray) -> Errors:
    """Return all errors of some frames, a mask of shape (n,)."""
    n_atoms = predictions['n_atoms']
    energy = ((predictions['energy'] - predictions['REF_energy']) / n_atoms)[chosen] * 1e3
    labelled = chosen & np.isfinite(predictions['REF_stress']).all(axis=1)
    stress = (predictions['stress'] - predictions['REF_stress'])[labelled] / units.GPa
    return {
        'n_frames': int(chosen.sum()),
        'n_atoms': int(n_atoms[chosen].sum()),
        'energy_rmse_meV': _rmse(energy),
        'energy_mae_meV': _mae(energy),
        **_force_errors(predictions, np.repeat(chosen, n_atoms)),
        'force_rmse_standard_error_meV_A': _standard_error(predictions, chosen),
        'stress_rmse_GPa': _rmse(stress) if stress.size else None,
        'stress_mae_GPa': _mae(stress) if stress.size else None,
    }


def _force_errors(predictions: dict[str, np.ndarray], atoms: np.ndarray) -> ForceErrors:
    """Return the force errors of some atoms, a mask of shape (n_atoms,)."""
    predicted, reference = predictions['forces'][atoms], predictions['REF_forces'][atoms]
    differences = (predicted - reference) * 1e3
    squares = float((reference**2).sum())
    return {
        'force_rmse_meV_A': _rmse(differences),
        'force_mae_meV_A': _mae(differences),
        'force_slope': float((predicted * reference).sum()) / squares if squares else None,
    }


def _standard_error(predictions: dict[str, np.ndarray], chosen: np.ndarray) -> float | None:
    """Return the jackknife's standard error of the root mean square over some frames, in meV/Å."""
    n_frames = int(chosen.sum())
    if n_frames < 2:
        return None
    squares = ((predictions['forces'] - predictions['REF_forces']) ** 2).sum(axis=1)
    starts = np.cumsum([0, *predictions['n_atoms'][:-1]])
    of_frame, components = np.add.reduceat(squares, starts)[chosen], 3 * predictions['n_atoms'][chosen]
    without_one = 1e3 * np.sqrt((of_frame.sum() - of_frame) / (components.sum() - components))
    return float(np.sqrt((n_frames - 1) * without_one.var()))


def _by_element(predictions: dict[str, np.ndarray]) -> dict[str, ElementErrors]:
    numbers = predictions['numbers']
    frame_of_atom = np.repeat(np.arange(len(predictions['n_atoms'])), predictions['n_atoms'])
    return {
        chemical_symbols[number]: {
            'n_frames': len(np.unique(frame_of_atom[numbers == number])),
            'n_atoms': int((numbers == number).sum()),
            **_force_errors(predictions, numbers == number),
        }
        for number in np.unique(numbers)
    }


def _by_group(predictions: dict[str, np.ndarray], names: list[str]) -> dict[str, Errors]:
    if set(names) == {UNKNOWN}:
        return {}
    column = np.array(names)
    return {name: _errors_of_frames(predictions, column == name) for name in sorted(set(names), key=_order)}


def _temperatures(predictions: dict[str, np.ndarray]) -> list[str]:
    pairs = zip(predictions['temperature_K'], predictions['temperature_end_K'], strict=True)
    return [f'{_number(first)}..{_number(last)}' if np.isfinite(last) else _number(first) for first, last in pairs]


def _names(column: np.ndarray) -> list[str]:
    return [str(name) or UNKNOWN for name in column]


def _number(value: float) -> str:
    return f'{value:g}' if np.isfinite(value) else UNKNOWN


def _order(name: str) -> tuple[float, str]:
    """Return what sorts numbers by value, before names."""
    try:
        return float(name.split('..')[0]), name
    except ValueError:
        return float('inf'), name


def _rmse(differences: np.ndarray) -> float:
    return float(np.sqrt(np.mean(differences**2)))


def _mae(differences: np.ndarray) -> float:
    return float(np.mean(np.abs(differences)))
