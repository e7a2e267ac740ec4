"""After a training, the weights of the last layer in closed form: what is linear needs no steps.

The change of the weights minimises the squared errors of energies per atom, forces and stresses on the training set,
each in units of what it was, with a prior of zero mean. How wide the prior is, the validation set decides, and whether
the change is kept: the product of its three errors must fall. A free atom has no features, and so the energy that it
had; networks that are built otherwise are left alone, and so are fine-tunings: a foundation knows more than the set.

Source: ridge regression, A. E. Hoerl and R. W. Kennard, Technometrics 12, 55 (1970).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from aiida_mlip_autopipe.science.evaluation.records import FrameErrors
from aiida_mlip_autopipe.science.parameters import TrainingParameters
from aiida_mlip_autopipe.science.potential.last_layer import Responses, last_weights, responses, save_with
from aiida_mlip_autopipe.science.systems import is_isolated_atom
from aiida_mlip_autopipe.science.training.once import TrainingResult, look_at
from aiida_mlip_autopipe.science.training.sets import Sets

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ['Refit', 'joint_error', 'refitted', 'tell_refit', 'with_refit']

SHARES = np.array([1.0, 4.0, 1.0])
"""Weights of energy, forces and stress in what is minimised."""
PRIORS = (3.0, 10.0, 30.0)
"""Standard deviations of the change of a weight, in units of the root mean square of the weights."""
ATOMS_PER_WEIGHT = 60
"""So many determine a weight well; of a larger training set some frames are taken, evenly."""


class Refit(TypedDict):
    """What the refit brought: the prior, and the errors on the validation set (meV/atom, meV/Å, GPa) after it."""

    kept: bool
    prior: float
    energy_rmse_meV: float
    force_rmse_meV_A: float
    stress_rmse_GPa: float | None


def refitted(
    potential: Path, training: Sequence[Atoms], validation: Sequence[Atoms], target: Path, device: str = 'auto'
) -> float | None:
    """Save a potential with the weights of its last layer fitted anew, and return the prior; None if none helps.

    Parameters
    ----------
    potential : Path
        A MACE ``.model`` file of one head.
    training, validation : sequence of Atoms
        Labelled frames; isolated atoms are left out.
    target : Path
        The file to write.
    device : str
        As of the training.
    """
    seen, unseen = ([atoms for atoms in frames if not is_isolated_atom(atoms)] for frames in (training, validation))
    weights = last_weights(potential)
    fitted = responses(potential, _some(seen, ATOMS_PER_WEIGHT * len(weights)), device)
    judged = responses(potential, unseen, device)
    found = {prior: _fit(fitted, weights, prior) for prior in PRIORS}
    best = min(found, key=lambda prior: float(np.prod(judged.rmse(found[prior]))))
    if not np.prod(judged.rmse(found[best])) < np.prod(judged.rmse(weights)):
        return None
    save_with(potential, found[best], target)
    return best


def _some(frames: Sequence[Atoms], n_atoms: int) -> Sequence[Atoms]:
    """Return frames of about so many atoms, evenly from all of them."""
    return frames[:: max(1, round(sum(map(len, frames)) / n_atoms))]


def _fit(fitted: Responses, weights: np.ndarray, prior: float) -> np.ndarray:
    """Return the weights that minimise the errors under a prior on their change."""
    errors, kinds = fitted.errors(weights), np.unique(fitted.kinds, return_inverse=True)[1]
    squares = np.bincount(kinds, errors**2)
    scales = np.sqrt(SHARES[np.unique(fitted.kinds)] / np.maximum(squares, np.finfo(float).tiny))[kinds]
    design = scales[:, None] * fitted.of_weights
    width = prior * np.sqrt(np.mean(weights**2))
    change = np.linalg.solve(design.T @ design + np.eye(len(weights)) / width**2, design.T @ (scales * errors))
    return weights - change


def with_refit(result: TrainingResult, sets: Sets, parameters: TrainingParameters) -> TrainingResult:
    """Return a training whose potential has the last layer fitted anew, where that is asked for and helps.

    Its errors are those of the potential that is handed over; ``run`` has a `Refit` as ``refit``.
    """
    if not (parameters.refit_last_layer and parameters.has_exact_free_atom):
        return result
    target = result.potential.with_name('refitted.model')
    prior = refitted(result.potential, sets['training'], sets['validation'], target, parameters.device)
    if prior is None:
        return result
    info, metrics = look_at(target, sets, parameters, 'float64')
    errors = metrics['validation']
    kept = joint_error(errors) < joint_error(result.metrics['validation'])
    told = Refit(
        kept=kept,
        prior=prior,
        energy_rmse_meV=errors['energy_rmse_meV'],
        force_rmse_meV_A=errors['force_rmse_meV_A'],
        stress_rmse_GPa=errors['stress_rmse_GPa'],
    )
    result = replace(result, run=result.run | {'refit': told})
    if not kept:
        target.unlink()
        return result
    target.replace(result.potential)
    return replace(result, info=info, metrics=metrics)


def joint_error(errors: FrameErrors) -> float:
    """Return the product of the errors of energy, forces and, where there is one, stress."""
    of_all = (errors['energy_rmse_meV'], errors['force_rmse_meV_A'], errors['stress_rmse_GPa'])
    return prod(one for one in of_all if one is not None)


def tell_refit(run: Mapping[str, Any]) -> str | None:
    """Return in words what the refit of a training brought; None if it was not made, or not kept."""
    told = run.get('refit')
    if told is None or not told['kept']:
        return None
    return 'its last layer was then fitted anew in closed form, which lowered the errors on the validation set'
