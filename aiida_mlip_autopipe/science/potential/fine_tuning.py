"""Fine-tuning: the foundation as mace can start from it, the replay with its labels, and one head out of several.

In a multihead fine-tuning one head learns the new labels while another rehearses what the foundation says of a set of
frames, so that it is not forgotten (I. Batatia et al., arXiv:2401.00096). mace could label these frames itself
(``--pseudolabel_replay``), but leaves the weight of energy and forces at zero where a frame had none, and goes on in
silence if the labelling fails. So they are labelled here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms

from aiida_mlip_autopipe.science.frames import write_extxyz
from aiida_mlip_autopipe.science.parameters import TrainingParameters
from aiida_mlip_autopipe.science.potential.load import PotentialError, load_calculator, load_model, quiet
from aiida_mlip_autopipe.science.potential.reference_energies import set_reference_energies
from aiida_mlip_autopipe.science.potential.training_files import FINAL_HEAD

if TYPE_CHECKING:
    from mace.modules import MACE
    from torch import Tensor
    from torch.nn import Module

__all__ = ['label_replay', 'prepare_foundation', 'rehearses', 'save_potential', 'single_head']

PRETRAINED_HEAD = 'pt_head'
"""mace's name for the head that rehearses."""


def prepare_foundation(path: Path, parameters: TrainingParameters, target: Path) -> Path:
    """Save the foundation with one head and in the precision of the training, which mace does not see to; return it.

    Raises
    ------
    PotentialError
        If it is no MACE potential, or has several heads of which none is called 'Default'.
    """
    import torch

    model = single_head(load_model(path), path)
    torch.save(model.to(getattr(torch, parameters.dtype)), target)
    return target


def label_replay(frames: list[Atoms], foundation: Path, parameters: TrainingParameters, target: Path) -> Path:
    """Save frames with what the foundation says of them, whatever labels they had; return the file."""
    calculator = load_calculator(foundation, parameters.dtype, parameters.device)
    labelled = []
    for atoms in frames:
        calculator.calculate(atoms)
        frame = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        frame.info['REF_energy'] = float(calculator.results['energy'])
        frame.arrays['REF_forces'] = np.asarray(calculator.results['forces'], dtype=float)
        if atoms.pbc.all():
            frame.info['REF_stress'] = np.asarray(calculator.results['stress'], dtype=float)
        labelled.append(frame)
    write_extxyz(target, labelled)
    return target


def single_head(model: Module, path: Path) -> Module:
    """Return a model with the one head that was trained on our labels.

    Raises
    ------
    PotentialError
        If there are several heads, and none is called 'Default'.
    """
    heads = list(getattr(model, 'heads', None) or [FINAL_HEAD])
    if len(heads) == 1:
        return model
    if FINAL_HEAD not in heads:
        raise PotentialError(
            f'{path} has the heads {", ".join(heads)}, and none is called {FINAL_HEAD!r}: extract the one to use with '
            'mace_select_head'
        )
    with quiet():
        from mace.tools.scripts_utils import remove_pt_head
        from mace.tools.torch_tools import default_dtype

        with default_dtype(next(model.parameters()).dtype):
            return remove_pt_head(model, FINAL_HEAD)


def rehearses(model: MACE) -> bool:
    """Return whether a model has the head that rehearses."""
    return PRETRAINED_HEAD in model.heads


def save_potential(
    model: Module, weights: dict[str, Tensor], path: Path, target: Path, free_atoms: Mapping[str, float] | None
) -> None:
    """Save the model of a file with other weights and with the one head that was trained on our labels.

    Where it was trained relative to free atoms, their energies (eV) are put into it.

    Raises
    ------
    PotentialError
        If it has several heads, and none is called 'Default'.
    """
    import torch

    model.load_state_dict(weights)
    alone = single_head(model, path)
    if free_atoms is not None:
        set_reference_energies(alone, free_atoms)
    torch.save(alone, target)
