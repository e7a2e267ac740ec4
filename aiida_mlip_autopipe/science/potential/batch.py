"""The potential of a batch: MACE as torch-sim runs it, its faster variants, and how many atoms it can take at once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from ase import units
from ase.data import chemical_symbols

from aiida_mlip_autopipe.science.potential.load import PotentialError, load_model, quiet
from aiida_mlip_autopipe.science.registry import ENSEMBLES

if TYPE_CHECKING:
    from mace.calculators.mace_torchsim import MaceTorchSimModel
    from torch import Tensor

    from aiida_mlip_autopipe.science.dynamics.batch.state import Batch
    from aiida_mlip_autopipe.science.parameters import DynamicsParameters

__all__ = [
    'atoms_that_fit',
    'compressibility',
    'elements',
    'evaluate',
    'faster_if_equal',
    'fastest_model',
    'is_out_of_memory',
    'load_batch_model',
    'neighbours',
]

log = logging.getLogger(__name__)

CPU_BATCH_ATOMS = 256
"""On a CPU a larger batch gains nothing."""

MEMORY_SHARE = 0.8
"""Of the free memory of a GPU; the rest is for what grows on the way."""

MAX_PARITY_eV_A = 1e-4
"""Most that the forces of a faster variant may differ from those of the plain potential."""

PROBE_STRAIN = 0.01
"""Change of the volume, as a fraction, by which the stiffness of a structure is measured."""

BULK_MODULI_GPa = (4.0, 1024.0)
UNSTABLE_BULK_MODULUS_GPa = 128.0

ALL_PAIRS_ATOMS = 1000
"""Replicas larger than this get their neighbours from cell lists rather than from all pairs."""


def load_batch_model(
    path: Path, parameters: DynamicsParameters, device: str, *, cuequivariance: bool = False, compile: bool = False
) -> MaceTorchSimModel:
    """Return a potential as a model of torch-sim: it maps a state of many systems to energies, forces and stresses.

    Parameters
    ----------
    path : Path
        A MACE ``.model`` file.
    parameters : DynamicsParameters
        Precision, and the ensemble: stresses are computed only where it needs them.
    device : str
        ``cpu`` or ``cuda``.
    cuequivariance, compile : bool
        The faster variants.

    Raises
    ------
    PotentialError
        If the file is missing, is not a MACE potential, or has several heads and none is the default.
    """
    model = load_model(path)
    heads = list(getattr(model, 'heads', None) or ['Default'])
    if len(heads) > 1 and 'default' not in [head.lower() for head in heads]:
        raise PotentialError(f'{path} has the heads {", ".join(heads)} and none is the default: extract one of them')
    with quiet():
        import torch
        from mace.calculators.mace_torchsim import MaceTorchSimModel

        return MaceTorchSimModel(
            model,
            device=torch.device(device),
            dtype=getattr(torch, parameters.dtype),
            neighbor_list_fn=neighbours,
            compute_stress=ENSEMBLES[parameters.ensemble].needs_stress,
            enable_cueq=cuequivariance,
            compile_mode='default' if compile else None,
        )


def fastest_model(
    path: Path, parameters: DynamicsParameters, device: str, first: Batch
) -> tuple[MaceTorchSimModel, dict[str, bool | float | None]]:
    """Return the potential with the options that were asked for, or without them if they change the forces.

    Parameters
    ----------
    path, parameters, device
        As for `load_batch_model`.
    first : Batch
        The first frames, whose forces are compared.

    Returns
    -------
    model
        Model of torch-sim.
    dict
        ``cuequivariance`` and ``compile`` (whether they are used) and ``parity_eV_A``: the largest difference of a
        force component; None where there was nothing to compare.

    Raises
    ------
    ValueError
        If cuEquivariance is asked for and not installed.
    """
    options = {'cuequivariance': parameters.cuequivariance, 'compile': parameters.compile}
    if parameters.cuequivariance and find_spec('cuequivariance_torch') is None:
        raise ValueError(
            'cuequivariance is true, but the package cuequivariance-torch is not installed here: install it on this '
            'computer, or set cuequivariance to false'
        )
    plain = load_batch_model(path, parameters, device)
    if not any(options.values()):
        return plain, {**options, 'parity_eV_A': None}
    name = ' and '.join(name for name, wanted in options.items() if wanted)
    fast, parity = faster_if_equal(plain, lambda: load_batch_model(path, parameters, device, **options), first, name)
    used = options if fast is not None else dict.fromkeys(options, False)
    return fast or plain, {**used, 'parity_eV_A': parity}


def faster_if_equal(
    plain: MaceTorchSimModel, make_fast: Callable[[], MaceTorchSimModel], first: Batch, name: str
) -> tuple[MaceTorchSimModel | None, float | None]:
    """Return the faster variant of a potential and the largest difference of a force component, in eV/Å.

    The variant is None, and a warning says why, where the forces differ too much or it cannot be run; in the latter
    case there is no difference either.
    """
    parity = None
    try:
        fast = make_fast()
        parity = float((evaluate(fast, first)['forces'] - evaluate(plain, first)['forces']).abs().max())
        if parity <= MAX_PARITY_eV_A:  # not if it is not a number
            return fast, parity
        problem = f'the forces of the first frame differ by {parity:.1e} eV/Å (bound {MAX_PARITY_eV_A:g})'
    except Exception as error:  # compilers and converters raise whatever they like
        if is_out_of_memory(error):
            raise
        problem = f'it cannot be run: {type(error).__name__}: {error}'
    log.warning('%s is switched off: %s', name, problem)
    return None, parity


def elements(model: MaceTorchSimModel) -> list[str]:
    """Return the elements that a model knows."""
    return [chemical_symbols[int(number)] for number in model.z_table.zs]


def evaluate(model: MaceTorchSimModel, batch: Batch) -> dict[str, Tensor]:
    """Return energies (eV), forces (eV/Å) and, where the model has them, stresses (eV/Å³), as float64."""
    import torch
    import torch_sim

    positions, cell = batch.wrapped()
    state = torch_sim.SimState(
        positions=positions.to(model.dtype),
        masses=batch.masses.to(model.dtype),
        cell=cell.mT.to(model.dtype),
        pbc=list(batch.pbc),
        atomic_numbers=batch.numbers,
        system_idx=batch.owner,
    )
    output = model(state)
    return {name: output[name].detach().to(torch.float64) for name in ('energy', 'forces', 'stress') if name in output}


def compressibility(model: MaceTorchSimModel, batch: Batch) -> Tensor:
    """Return compressibilities for the barostat, in Å³/eV, shape (K,).

    They scale how fast the cell follows, not where it goes. The static bulk modulus is measured by straining the
    structures as they are, and rounded to a power of two (in GPa), so that rounding errors of the potential do not
    change the trajectory.
    """
    import torch

    pressures = []
    for change in (PROBE_STRAIN, -PROBE_STRAIN):
        factor = (1 + change) ** (1 / 3)
        strained = replace(batch, positions=factor * batch.positions, cell=factor * batch.cell)
        pressures.append(-evaluate(model, strained)['stress'].diagonal(dim1=1, dim2=2).sum(dim=1) / 3)
    modulus = (pressures[1] - pressures[0]) / (2 * PROBE_STRAIN * units.GPa)
    modulus = torch.where(modulus > 0, modulus, UNSTABLE_BULK_MODULUS_GPa).clamp(*BULK_MODULI_GPa)
    return 1 / (units.GPa * 2 ** modulus.log2().round())


def neighbours(
    positions: Tensor,
    cell: Tensor,
    pbc: Tensor,
    cutoff: Tensor | float,
    system_idx: Tensor,
    self_interaction: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the pairs of atoms within a distance, both ways, as torch-sim's neighbour lists do.

    The lists made on a GPU have room for a usual density only; where one is full, a slower one takes over.

    Parameters
    ----------
    positions : tensor, shape (n, 3)
        Wrapped into the cell, in Å.
    cell : tensor, shape (K, 3, 3)
        Rows are lattice vectors, in Å.
    pbc : bool tensor, shape (K, 3) or (3,)
    cutoff : float
        In Å.
    system_idx : int64 tensor, shape (n,)
    self_interaction : bool
        Whether an atom is its own neighbour.

    Returns
    -------
    pairs : int64 tensor, shape (2, p)
    systems : int64 tensor, shape (p,)
    shifts : tensor, shape (p, 3)
        Lattice vectors to add to the second atom.
    """
    from torch_sim import neighbors

    few = len(positions) <= ALL_PAIRS_ATOMS * len(cell)
    make = neighbors.torchsim_nl if few or not neighbors.ALCHEMIOPS_AVAILABLE else neighbors.alchemiops_nl_cell_list
    try:
        return make(positions, cell, pbc, float(cutoff), system_idx, self_interaction)
    except Exception as error:
        if type(error).__name__ != 'NeighborOverflowError':
            raise
        return neighbors.torch_nl_linked_cell(positions, cell, pbc, float(cutoff), system_idx, self_interaction)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that the memory of the GPU is exhausted; not all such have a class of their own."""
    import torch

    message = str(error)
    words = ('out of memory', 'ALLOC_FAILED', 'Failed to allocate')
    return isinstance(error, torch.cuda.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(word in message for word in words)
    )


def atoms_that_fit(model: MaceTorchSimModel, parameters: DynamicsParameters, probe: Batch) -> int:
    """Return how many atoms a batch may have.

    It is ``max_batch_atoms`` if that is given, else a modest number on a CPU, else what the free memory of the GPU
    allows by what a force call of ``probe`` takes for each atom.
    """
    if parameters.max_batch_atoms is not None:
        return parameters.max_batch_atoms
    import torch

    if model.device.type != 'cuda':
        return CPU_BATCH_ATOMS
    evaluate(model, probe)  # the first calls also compile, and leave what stays
    evaluate(model, probe)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    evaluate(model, probe)
    per_atom = max(1.0, (torch.cuda.max_memory_allocated() - before) / probe.n_atoms)
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info()
    return max(1, int(MEMORY_SHARE * free / per_atom))
