"""Errors of a potential on labelled frames.

Energies are compared per atom; forces and stresses by component, all frames together. Isolated atoms fix the reference
energies and are left out. A stress is compared where a frame fills its cell and has one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ase.data import chemical_symbols

from aiida_mlip_autopipe.science.committee import disagreement
from aiida_mlip_autopipe.science.evaluation.breakdown import breakdown, overall
from aiida_mlip_autopipe.science.evaluation.calibration import calibrate
from aiida_mlip_autopipe.science.evaluation.records import Breakdown, FrameErrors
from aiida_mlip_autopipe.science.parameters import EvaluationParameters
from aiida_mlip_autopipe.science.potential.load import check_elements, load_calculator
from aiida_mlip_autopipe.science.systems import fills_its_cell, is_isolated_atom

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ['Evaluation', 'evaluate']


@dataclass(frozen=True)
class Evaluation:
    """What a potential predicts and how wrong it is.

    Attributes
    ----------
    metrics : dict
        Errors over all frames, see :func:`~aiida_mlip_autopipe.science.evaluation.breakdown.overall`; and
        ``calibration``: the disagreement of the committee beside the largest force error of each frame, see
        :func:`~aiida_mlip_autopipe.science.evaluation.calibration.calibrate`; None without a committee.
    predictions : dict of ndarray
        ``energy`` (n,) in eV, ``forces`` (n_atoms, 3) in eV/Å, ``stress`` (n, 6) in eV/Å³ (Voigt, ASE's sign), the
        labels likewise as ``REF_energy``, ``REF_forces``, ``REF_stress`` (NaN where missing). Of each frame
        ``n_atoms``, ``disagreement`` (the committee's largest on the force on an atom, in eV/Å; NaN without one),
        ``frame_id``, ``origin``, ``config_type``, ``split`` ('' where missing), ``temperature_K``,
        ``temperature_end_K`` and ``pressure_GPa`` (NaN where missing), all (n,); ``numbers`` (n_atoms,).
    """

    metrics: FrameErrors
    predictions: dict[str, np.ndarray]

    @property
    def breakdown(self) -> Breakdown:
        """Return the errors by element, temperature, pressure, origin, kind of frame and part of the data."""
        return breakdown(self.predictions)


def evaluate(
    potential: Path, frames: Sequence[Atoms], parameters: EvaluationParameters, committee: Sequence[Path] = ()
) -> Evaluation:
    """Predict the labels of frames and compare.

    Parameters
    ----------
    potential : Path
        A MACE ``.model`` file.
    frames : sequence of Atoms
        With ``REF_energy`` in info, ``REF_forces`` in arrays and, without vacuum, ``REF_stress`` in info.
    parameters : EvaluationParameters
        Precision and device.
    committee : sequence of Path
        Further potentials, whose disagreement is to be compared with the errors.

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
    predictions |= _descriptions(frames)
    others = [_predict(Path(member), frames, parameters)['forces'] for member in committee]
    predictions['disagreement'] = _disagreements(predictions, others)
    predictions['REF_energy'] = np.array([float(atoms.info['REF_energy']) for atoms in frames])
    predictions['REF_forces'] = np.concatenate([atoms.arrays['REF_forces'] for atoms in frames])
    predictions['REF_stress'] = np.array([_label_stress(atoms) for atoms in frames])
    errors = np.linalg.norm(predictions['forces'] - predictions['REF_forces'], axis=1)
    calibration = calibrate(predictions['disagreement'], _largest(errors, predictions)) if others else None
    return Evaluation({**overall(predictions), 'calibration': calibration}, predictions)


def _predict(potential: Path, frames: Sequence[Atoms], parameters: EvaluationParameters) -> dict[str, np.ndarray]:
    calculator = load_calculator(potential, parameters.dtype, parameters.device)
    check_elements([chemical_symbols[z] for z in calculator.z_table.zs], frames, potential)
    energies, forces, stresses = [], [], []
    for atoms in frames:
        calculator.calculate(atoms)
        energies.append(float(calculator.results['energy']))
        forces.append(np.asarray(calculator.results['forces'], dtype=float))
        stress = np.asarray(calculator.results['stress'], dtype=float)
        stresses.append(stress if fills_its_cell(atoms) else np.full(6, np.nan))
    return {'energy': np.array(energies), 'forces': np.concatenate(forces), 'stress': np.array(stresses)}


def _descriptions(frames: Sequence[Atoms]) -> dict[str, np.ndarray]:
    """Return what the frames say of themselves."""
    texts = {
        name: np.array([str(atoms.info.get(name, '')) for atoms in frames])
        for name in ('frame_id', 'origin', 'config_type', 'split')
    }
    conditions = {
        name: np.array([float(atoms.info.get(name, np.nan)) for atoms in frames])
        for name in ('temperature_K', 'temperature_end_K', 'pressure_GPa')
    }
    return {
        'n_atoms': np.array([len(atoms) for atoms in frames]),
        'numbers': np.concatenate([atoms.numbers for atoms in frames]),
        **texts,
        **conditions,
    }


def _disagreements(predictions: dict[str, np.ndarray], others: Sequence[np.ndarray]) -> np.ndarray:
    if not others:
        return np.full(len(predictions['n_atoms']), np.nan)
    return _largest(disagreement(np.array([predictions['forces'], *others])), predictions)


def _largest(of_atoms: np.ndarray, predictions: dict[str, np.ndarray]) -> np.ndarray:
    """Return the largest value among the atoms of each frame."""
    return np.maximum.reduceat(of_atoms, np.cumsum([0, *predictions['n_atoms'][:-1]]))


def _label_stress(atoms: Atoms) -> np.ndarray:
    if not fills_its_cell(atoms) or 'REF_stress' not in atoms.info:
        return np.full(6, np.nan)
    return np.asarray(atoms.info['REF_stress'], dtype=float)
