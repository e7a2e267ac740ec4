"""Where the errors are: one number for all frames, and the same for each element, temperature, pressure and origin.

Energies are compared per atom; forces and stresses by component. The softening of a potential, forces that are too
small far from equilibrium, shows as a slope of predicted against reference forces below one (B. Deng et al.,
arXiv:2405.07105); least squares through the origin, as both are zero together.
"""

from __future__ import annotations

from functools import partial

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
    return _errors_of_frames(predictions, everything, _trajectories(predictions))


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
    grouped = partial(_by_group, predictions, _trajectories(predictions))
    return {
        'by_element': _by_element(predictions),
        'by_temperature': grouped(_temperatures(predictions)),
        'by_pressure': grouped([_number(value) for value in predictions['pressure_GPa']]),
        'by_origin': grouped(_names(predictions['origin'])),
        'by_config_type': grouped(_names(predictions['config_type'])),
        'by_split': grouped(_names(predictions['split'])),
    }


def _errors_of_frames(predictions: dict[str, np.ndarray], chosen: np.ndarray, trajectories: np.ndarray) -> Errors:
    """Return all errors of some frames, a mask of shape (n,); ``trajectories`` has a number for each frame."""
    n_atoms = predictions['n_atoms']
    energy = ((predictions['energy'] - predictions['REF_energy']) / n_atoms)[chosen] * 1e3
    labelled = chosen & np.isfinite(predictions['REF_stress']).all(axis=1)
    stress = (predictions['stress'] - predictions['REF_stress'])[labelled] / units.GPa
    return {
        'n_frames': int(chosen.sum()),
        'n_atoms': int(n_atoms[chosen].sum()),
        'energy_rmse_meV': _rmse(energy),
        'energy_rmse_standard_error_meV': _standard_error(energy**2, np.ones(len(energy)), trajectories[chosen]),
        'energy_mae_meV': _mae(energy),
        **_force_errors(predictions, np.repeat(chosen, n_atoms)),
        'force_rmse_standard_error_meV_A': _standard_error(
            1e6 * _squares_of_forces(predictions)[chosen], 3 * n_atoms[chosen], trajectories[chosen]
        ),
        'stress_rmse_GPa': _rmse(stress) if stress.size else None,
        'stress_rmse_standard_error_GPa': _standard_error(
            (stress**2).sum(axis=1), np.full(len(stress), 6), trajectories[labelled]
        ),
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


def _standard_error(squares: np.ndarray, numbers: np.ndarray, trajectories: np.ndarray) -> float | None:
    """Return the jackknife's standard error of a root mean square; None where one trajectory tells of no spread.

    One trajectory after the other is left out, as its frames are alike.

    Parameters
    ----------
    squares, numbers : ndarray, shape (n,)
        Sum of the squared errors of each frame, and how many they are.
    trajectories : ndarray, shape (n,)
        The trajectory that each frame belongs to.
    """
    _, group = np.unique(trajectories, return_inverse=True)
    n_groups = int(group.max(initial=-1)) + 1
    if n_groups < 2:
        return None
    square, number = (np.bincount(group, weights=values) for values in (squares, numbers))
    without_one = np.sqrt((square.sum() - square) / (number.sum() - number))
    return float(np.sqrt((n_groups - 1) * without_one.var()))


def _squares_of_forces(predictions: dict[str, np.ndarray]) -> np.ndarray:
    """Return the sum of the squared errors of the forces of each frame, in (eV/Å)²."""
    squares = ((predictions['forces'] - predictions['REF_forces']) ** 2).sum(axis=1)
    return np.add.reduceat(squares, np.cumsum([0, *predictions['n_atoms'][:-1]]))


def _trajectories(predictions: dict[str, np.ndarray]) -> np.ndarray:
    """Return a number for each frame, the same for frames of one origin and temperature; frames without are alone."""
    keys: dict[tuple[str, str], int] = {}
    pairs = zip(_names(predictions['origin']), _temperatures(predictions), strict=True)
    return np.array(
        [-1 - number if UNKNOWN in pair else keys.setdefault(pair, len(keys)) for number, pair in enumerate(pairs)]
    )


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


def _by_group(predictions: dict[str, np.ndarray], trajectories: np.ndarray, names: list[str]) -> dict[str, Errors]:
    if set(names) == {UNKNOWN}:
        return {}
    column = np.array(names)
    return {
        name: _errors_of_frames(predictions, column == name, trajectories) for name in sorted(set(names), key=_order)
    }


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
