"""The last layer of a MACE potential: what it predicts is linear in these weights, so they can be fitted at once.

The energy of an atom is a sum over readouts, the last step of each a linear map of features. With one of its weights at
one and the others at zero the model gives the energy, the forces and the stress that this weight stands for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.stress import full_3x3_to_voigt_6_stress

from aiida_mlip_autopipe.science.potential.load import load_model, quiet, resolve_device
from aiida_mlip_autopipe.science.systems import fills_its_cell

if TYPE_CHECKING:
    from ase import Atoms
    from torch import Tensor
    from torch.nn import Module

__all__ = ['Responses', 'last_maps', 'last_weights', 'responses', 'save_with']

BATCH_ATOMS = 256


@dataclass(frozen=True)
class Responses:
    """What the last layer makes of labelled frames.

    Attributes
    ----------
    without : ndarray, shape (n_rows,)
        Predictions with all weights at zero: those of the free atoms. Rows are, frame by frame, the energy per atom
        (eV), the force components (eV/Å) and, where the frame fills its cell and has one, the stress (eV/Å³, Voigt).
    of_weights : ndarray, shape (n_rows, n_weights)
        What each weight adds when it is one.
    labels : ndarray, shape (n_rows,)
        The labels.
    kinds : ndarray, shape (n_rows,)
        0 for an energy, 1 for a force, 2 for a stress.
    """

    without: np.ndarray
    of_weights: np.ndarray
    labels: np.ndarray
    kinds: np.ndarray

    def errors(self, weights: np.ndarray) -> np.ndarray:
        """Return prediction less label of each row."""
        return self.without + self.of_weights @ weights - self.labels

    def rmse(self, weights: np.ndarray) -> np.ndarray:
        """Return the root mean square errors of energy, forces and stress; of those that there are."""
        errors = self.errors(weights)
        return np.array([np.sqrt(np.mean(errors[self.kinds == kind] ** 2)) for kind in np.unique(self.kinds)])


def last_weights(potential: Path) -> np.ndarray:
    """Return the weights of the last layer, (n_weights,)."""
    return np.concatenate([_values(weights) for weights in _parameters(load_model(potential))])


def responses(potential: Path, frames: Sequence[Atoms], device: str = 'auto') -> Responses:
    """Return what each weight of the last layer contributes to the energies, forces and stresses of labelled frames.

    Parameters
    ----------
    potential : Path
        A MACE ``.model`` file of one head.
    frames : sequence of Atoms
        With ``REF_energy`` and, without vacuum, ``REF_stress`` in info and ``REF_forces`` in arrays.
    device : str
        As of a training. All is computed in double precision.
    """
    place = resolve_device(device)
    model = load_model(potential).double().to(place).requires_grad_(False)
    parameters = _parameters(model)
    n_weights = sum(one.numel() for one in parameters)
    units = [np.zeros(n_weights), *np.eye(n_weights)]
    found = []
    with _double():
        for part, batch in _batches(model, frames, place):
            columns = []
            for unit in units:
                _put(parameters, unit)
                columns.append(_rows(part, _predicted(model, batch)))
            found.append(np.column_stack(columns))
    rows = np.concatenate(found)
    return Responses(
        without=rows[:, 0],
        of_weights=rows[:, 1:] - rows[:, :1],
        labels=_rows(frames, [_label(atoms) for atoms in frames]),
        kinds=np.concatenate([_kinds(atoms) for atoms in frames]),
    )


def save_with(potential: Path, weights: np.ndarray, target: Path) -> None:
    """Save a potential with other weights of its last layer, in its own precision."""
    import torch

    model = load_model(potential)
    _put(_parameters(model), weights)
    torch.save(model, target)


# ---------------------------------------------------------------------------------------------------------- the model


def last_maps(model: Module) -> list[Any]:
    """Return the linear map that ends each readout."""
    blocks: Any = model.get_submodule('readouts')
    return [block.linear_2 if hasattr(block, 'linear_2') else block.linear for block in blocks]


def _parameters(model: Module) -> list[Tensor]:
    return [one.weight for one in last_maps(model)]


def _values(parameter: Tensor) -> np.ndarray:
    return parameter.detach().cpu().double().numpy().ravel()


def _put(parameters: list[Tensor], weights: np.ndarray) -> None:
    import torch

    first = 0
    with torch.no_grad():
        for parameter in parameters:
            part = weights[first : first + parameter.numel()]
            parameter.copy_(parameter.new_tensor(part).reshape(parameter.shape))
            first += parameter.numel()


@contextmanager
def _double() -> Iterator[None]:
    """Let mace make its data in double precision."""
    with quiet():
        from mace.tools.torch_tools import default_dtype
    import torch

    with default_dtype(torch.float64):
        yield


def _batches(model: Module, frames: Sequence[Atoms], device: str) -> Iterator[tuple[list[Atoms], dict[str, Tensor]]]:
    """Yield frames of some hundred atoms together, and what mace makes of them."""
    with quiet():
        from mace import data
        from mace.tools import AtomicNumberTable
        from mace.tools.torch_geometric.dataloader import Collater

    table = AtomicNumberTable([int(number) for number in model.get_buffer('atomic_numbers')])
    cutoff, heads = float(model.get_buffer('r_max')), list(getattr(model, 'heads', None) or ['Default'])
    part: list[Atoms] = []
    for index, atoms in enumerate(frames):
        part.append(atoms)
        if sum(map(len, part)) >= BATCH_ATOMS or index == len(frames) - 1:
            configurations = [data.config_from_atoms(one, head_name=heads[0]) for one in part]
            made = [data.AtomicData.from_config(one, table, cutoff, heads=heads) for one in configurations]
            yield part, Collater([None], [None])(made).to(device).to_dict()
            part = []


Prediction = tuple[float, np.ndarray, np.ndarray]
"""Energy (eV), forces (eV/Å) and stress (eV/Å³, Voigt) of a frame."""


def _predicted(model: Module, batch: dict[str, Tensor]) -> list[Prediction]:
    said = model(batch, training=False, compute_force=True, compute_stress=True)
    energies, forces, stresses = (said[name].detach().cpu().numpy() for name in ('energy', 'forces', 'stress'))
    ends = batch['ptr'].cpu().numpy()
    return [
        (float(energy), forces[start:end], full_3x3_to_voigt_6_stress(stress))
        for energy, start, end, stress in zip(energies, ends[:-1], ends[1:], stresses, strict=True)
    ]


# ----------------------------------------------------------------------------------------------------------- the rows


def _rows(frames: Sequence[Atoms], said: Sequence[Prediction]) -> np.ndarray:
    rows: list[np.ndarray] = []
    for atoms, (energy, forces, stress) in zip(frames, said, strict=True):
        rows += [np.array([energy / len(atoms)]), forces.ravel(), stress if _has_stress(atoms) else np.empty(0)]
    return np.concatenate(rows)


def _label(atoms: Atoms) -> Prediction:
    return float(atoms.info['REF_energy']), atoms.arrays['REF_forces'], np.asarray(atoms.info.get('REF_stress', []))


def _kinds(atoms: Atoms) -> np.ndarray:
    return np.repeat([0, 1, 2], [1, 3 * len(atoms), 6 if _has_stress(atoms) else 0])


def _has_stress(atoms: Atoms) -> bool:
    return 'REF_stress' in atoms.info and fills_its_cell(atoms)
