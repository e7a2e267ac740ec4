"""Errors of a potential on labelled frames.

Energies are compared per atom; forces and stresses by component, all frames together. Isolated atoms fix the reference
energies and are left out. A stress is compared where a frame is periodic and has one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import units
from ase.data import chemical_symbols

from aiida_mlip_autopipe.science.parameters import EvaluationParameters
from aiida_mlip_autopipe.science.training.potential import check_elements, load_calculator
from aiida_mlip_autopipe.science.training.split import is_isolated_atom

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ['Evaluation', 'evaluate']


@dataclass(frozen=True)
class Evaluation:
    """What a potential predicts and how wrong it is.

    Attributes
    ----------
    metrics : dict
        ``n_frames``, ``n_atoms``, ``energy_rmse_meV`` and ``energy_mae_meV`` (per atom), ``force_rmse_meV_A``,
        ``force_mae_meV_A``, ``stress_rmse_GPa``, ``stress_mae_GPa`` (None where no frame has a stress).
    predictions : dict of ndarray
        ``energy`` (n,) in eV, ``forces`` (n_atoms, 3) in eV/Å, ``stress`` (n, 6) in eV/Å³ (Voigt, ASE's sign), the
        labels likewise as ``REF_energy``, ``REF_forces``, ``REF_stress`` (NaN where missing), ``n_atoms`` (n,) and
        ``frame_id`` (n,).
    """

    metrics: dict[str, Any]
    predictions: dict[str, np.ndarray]


def evaluate(potential: Path, frames: Sequence[Atoms], parameters: EvaluationParameters) -> Evaluation:
    """Predict the labels of frames and compare.

    Parameters
    ----------
    potential : Path
        A MACE ``.model`` file.
    frames : sequence of Atoms
        With ``REF_energy`` in info, ``REF_forces`` in arrays and, where periodic, ``REF_stress`` in info.
    parameters : EvaluationParameters
        Precision and device.

    Raises
    ------
    PotentialError
        If the potential is unusable or does not know an element.
    ValueError
        If no frame is left without the isolated atoms, or one has no label.
    """
    frames = [atoms for atoms in frames if not is_isolated_atom(atoms)]
    if not frames:
        raise ValueError('there is no frame to evaluate (isolated atoms are left out): give labelled structures')
    for index, atoms in enumerate(frames):
        if 'REF_energy' not in atoms.info or 'REF_forces' not in atoms.arrays:
            raise ValueError(
                f'frame {index} ({atoms.info.get("frame_id", "unnamed")}) has no REF_energy or no '
                'REF_forces: label it first'
            )
    predictions = _predict(Path(potential), frames, parameters)
    predictions['n_atoms'] = np.array([len(atoms) for atoms in frames])
    predictions['frame_id'] = np.array([str(atoms.info.get('frame_id', '')) for atoms in frames])
    predictions['REF_energy'] = np.array([float(atoms.info['REF_energy']) for atoms in frames])
    predictions['REF_forces'] = np.concatenate([atoms.arrays['REF_forces'] for atoms in frames])
    predictions['REF_stress'] = np.array([_label_stress(atoms) for atoms in frames])
    return Evaluation(metrics=_metrics(predictions), predictions=predictions)


def _predict(potential: Path, frames: Sequence[Atoms], parameters: EvaluationParameters) -> dict[str, np.ndarray]:
    calculator = load_calculator(potential, parameters.dtype, parameters.device)
    check_elements([chemical_symbols[z] for z in calculator.z_table.zs], frames, potential)
    energies, forces, stresses = [], [], []
    for atoms in frames:
        calculator.calculate(atoms)
        energies.append(float(calculator.results['energy']))
        forces.append(np.asarray(calculator.results['forces'], dtype=float))
        stress = np.asarray(calculator.results['stress'], dtype=float)
        stresses.append(stress if atoms.pbc.all() else np.full(6, np.nan))
    return {'energy': np.array(energies), 'forces': np.concatenate(forces), 'stress': np.array(stresses)}


def _label_stress(atoms: Atoms) -> np.ndarray:
    if not atoms.pbc.all() or 'REF_stress' not in atoms.info:
        return np.full(6, np.nan)
    return np.asarray(atoms.info['REF_stress'], dtype=float)


def _metrics(predictions: dict[str, np.ndarray]) -> dict[str, Any]:
    n_atoms = predictions['n_atoms']
    energy = (predictions['energy'] - predictions['REF_energy']) / n_atoms * 1e3
    forces = (predictions['forces'] - predictions['REF_forces']) * 1e3
    labelled = np.isfinite(predictions['REF_stress']).all(axis=1)
    stress = (predictions['stress'] - predictions['REF_stress'])[labelled] / units.GPa
    return {
        'n_frames': len(n_atoms),
        'n_atoms': int(n_atoms.sum()),
        'energy_rmse_meV': _rmse(energy),
        'energy_mae_meV': _mae(energy),
        'force_rmse_meV_A': _rmse(forces),
        'force_mae_meV_A': _mae(forces),
        'stress_rmse_GPa': _rmse(stress) if stress.size else None,
        'stress_mae_GPa': _mae(stress) if stress.size else None,
    }


def _rmse(differences: np.ndarray) -> float:
    return float(np.sqrt(np.mean(differences**2)))


def _mae(differences: np.ndarray) -> float:
    return float(np.mean(np.abs(differences)))
