"""Molecular dynamics of many replicas in one batch, for a GPU: torch-sim runs the potential, the loop is our own.

One force call serves all replicas of the batch. A replica that has ended, broken or shown nothing new leaves, and one
that waits takes its place, so that the card stays full. Random numbers belong to the replica (see `random`): its
trajectory does not depend on its neighbours, but for the rounding of the potential.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from aiida_mlip_autopipe.science.dynamics.batch.run import BatchRun
from aiida_mlip_autopipe.science.dynamics.batch.state import Batch, Slot
from aiida_mlip_autopipe.science.dynamics.stopping import Stop
from aiida_mlip_autopipe.science.parameters import DynamicsParameters
from aiida_mlip_autopipe.science.potential.batch import (
    atoms_that_fit,
    elements,
    fastest_model,
    load_batch_model,
)
from aiida_mlip_autopipe.science.potential.load import check_elements

if TYPE_CHECKING:
    from aiida_mlip_autopipe.science.dynamics.recorder import Recorder, ReplicaEnd

__all__ = ['available', 'run_batch']

OLDEST_TORCH_SIM = (0, 6)
PROBE_ATOMS = 1000
"""Size of the batch whose memory tells how many atoms fit."""


def available() -> str | None:
    """Return None where this engine can be used, else the reason why not."""
    try:
        found = version('torch-sim-atomistic')
    except PackageNotFoundError:
        return 'the package torch-sim-atomistic is not installed here (it needs Python 3.12 or newer)'
    if tuple(int(part) for part in re.findall(r'\d+', found)[:2]) < OLDEST_TORCH_SIM:
        oldest = '.'.join(map(str, OLDEST_TORCH_SIM))
        return f'torch-sim-atomistic {found} is installed here and {oldest} or newer is needed'
    return None


def run_batch(
    recorders: Iterable[Recorder],
    *,
    potential: Path,
    parameters: DynamicsParameters,
    device: str,
    stop: Stop | None = None,
    batch_divisor: int = 1,
    committee: Sequence[Path] = (),
    on_end: Callable[[ReplicaEnd], None] | None = None,
) -> dict[str, object]:
    """Run replicas to their ends, or until the job must stop.

    Parameters
    ----------
    recorders : iterable of Recorder
        Each gives its replica, starting structure, perhaps a state to go on from; takes frames, checkpoints, the end.
    potential, committee : Path, sequence of Path
        MACE ``.model`` files: the one that drives the dynamics, and further ones, asked for the forces of each frame.
    parameters : DynamicsParameters
        Ensemble, steps, guards, precision, options of the potential.
    device : str
        ``cpu`` or ``cuda``.
    stop : Stop, optional
        When the job must end.
    batch_divisor : int
        The batch is so many times smaller than usual.
    on_end : callable, optional
        Told of each replica that ended, as `Recorder.end` says.

    Returns
    -------
    dict
        ``device`` (name), ``cuequivariance``, ``compile`` and ``parity_eV_A`` (see `fastest_model`), ``batch_atoms``
        (room for atoms in the end), ``largest_batch`` (replicas), ``batch_halvings``.

    Raises
    ------
    PotentialError, ValueError
        If a potential is unusable or does not know an element, or an option of it cannot be used here.
    MemoryError
        If a replica does not even fit into the memory alone; after all others have ended.
    """
    slots = [Slot(recorder, -parameters.equilibration_steps) for recorder in recorders]
    if not slots:
        raise ValueError('there is no replica to run: give at least one recorder')
    try:
        probe = _probe(slots, parameters, device)
        model, facts = fastest_model(potential, parameters, device, probe)
        members = [load_batch_model(path, parameters, device) for path in committee]
        for path, member in zip([potential, *committee], [model, *members], strict=True):
            check_elements(elements(member), (slot.recorder.atoms for slot in slots), path)
        room = max(1, atoms_that_fit(model, parameters, probe) // batch_divisor)
        run = BatchRun(model, slots, parameters, room=room, committee=members, stop=stop, on_end=on_end)
        run.run()
    finally:
        for slot in slots:
            if not slot.ended:
                slot.recorder.close()
    return {'device': _device_name(device), **facts, **run.facts()}


def _probe(slots: Sequence[Slot], parameters: DynamicsParameters, device: str) -> Batch:
    """Return some of the densest starting structures as a batch."""
    whole = [slot for slot in slots if np.isfinite(slot.recorder.atoms.positions).all()] or slots
    densest = sorted(whole, key=lambda slot: -slot.n_atoms / max(slot.recorder.atoms.cell.volume, slot.n_atoms))
    chosen, n_atoms = [densest[0]], densest[0].n_atoms
    for slot in densest[1:]:
        if slot.pbc == chosen[0].pbc and n_atoms + slot.n_atoms <= PROBE_ATOMS:
            chosen.append(slot)
            n_atoms += slot.n_atoms
    return Batch.of(chosen, parameters.guards, device)


def _device_name(device: str) -> str:
    if device != 'cuda':
        return device
    import torch

    return str(torch.cuda.get_device_name())
