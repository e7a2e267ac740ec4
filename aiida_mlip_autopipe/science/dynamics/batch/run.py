"""The batch on its way: who is in it, one step after the other, and what is done where the memory does not suffice.

A step replaces tensors and changes none. So where the memory of the GPU gives out in the middle of one, the batch is
as before the step, half of it is put back to wait, and the others do the step again, with the same random numbers.
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from aiida_mlip_autopipe.science.dynamics.batch import guards as batch_guards
from aiida_mlip_autopipe.science.dynamics.batch.integrators import draw_momenta
from aiida_mlip_autopipe.science.dynamics.batch.state import Batch, Slot
from aiida_mlip_autopipe.science.dynamics.ensembles.base import ensemble_of
from aiida_mlip_autopipe.science.dynamics.guards import GuardTripped
from aiida_mlip_autopipe.science.dynamics.recorder import ReplicaEnd
from aiida_mlip_autopipe.science.dynamics.stopping import Stop
from aiida_mlip_autopipe.science.parameters import DynamicsParameters
from aiida_mlip_autopipe.science.potential.batch import compressibility, evaluate, is_out_of_memory

if TYPE_CHECKING:
    from aiida_mlip_autopipe.science.potential.batch import MaceTorchSimModel

__all__ = ['BatchRun']

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""How often the recorders are asked whether a checkpoint is due."""

OnEnd = Callable[[ReplicaEnd], None]


class BatchRun:
    """Runs replicas in a batch.

    Parameters
    ----------
    model : ModelInterface of torch-sim
        Gives energies, forces and, where the ensemble needs them, stresses.
    slots : sequence of Slot
        The replicas.
    parameters : DynamicsParameters
        Ensemble, steps and guards.
    room : int
        Atoms of a batch; a single replica may have more.
    committee : sequence of ModelInterface
        Further potentials.
    stop, on_end
        As for `run_batch`.
    """

    def __init__(
        self,
        model: MaceTorchSimModel,
        slots: Sequence[Slot],
        parameters: DynamicsParameters,
        *,
        room: int,
        committee: Sequence[MaceTorchSimModel] = (),
        stop: Stop | None = None,
        on_end: OnEnd | None = None,
    ) -> None:
        self._model, self._committee = model, committee
        self._parameters, self._guards = parameters, parameters.guards
        self._stop, self._on_end = stop, on_end
        self._ensemble = ensemble_of(parameters)
        self._integrator = self._ensemble.batch_step()
        self._waiting = sorted(slots, key=lambda slot: -slot.n_atoms)  # the small ones fill the gaps
        self._batch: Batch | None = None
        self._room, self._changed = room, True
        self._coming: list[Slot] = []
        self._too_large: list[Slot] = []
        self._frames: _Frames | None = None
        self._halvings, self._largest = 0, 0
        self._look_seconds = min(LOOK_SECONDS, parameters.checkpoint_interval_s)
        self._next_look = time.monotonic() + self._look_seconds

    def facts(self) -> dict[str, int]:
        """Return what the run found out."""
        return {'batch_atoms': self._room, 'largest_batch': self._largest, 'batch_halvings': self._halvings}

    def run(self) -> None:
        """Run all replicas.

        Raises
        ------
        MemoryError
            If some do not fit into the memory, each alone; after all others have ended.
        """
        while self._batch is not None or self._waiting:
            if self._stop is not None and self._stop.now():
                self._interrupt()
                return
            if self._changed:
                self._changed = False
                self._survive(self._fill)
            if self._batch is not None:
                self._survive(self._step)
                self._hand_over()
                self._checkpoint_some()
        if self._too_large:
            first = self._too_large[0]
            raise MemoryError(
                f'{len(self._too_large)} replicas do not fit into the memory of the device, each alone; the first is '
                f'replica {first.replica.index} with {first.n_atoms} atoms: use smaller structures, dtype float32 or a '
                'GPU with more memory'
            )

    # ------------------------------------------------------------------------------------------ coming and going

    def _fill(self) -> None:
        """Let replicas in that wait, as far as there is room."""
        chosen = self._coming = self._choose()
        if not chosen:
            return
        begun = [slot for slot in chosen if slot.state is not None]
        fresh = [slot for slot in chosen if slot.state is None]
        batches = [self._batch] if self._batch is not None else []
        if begun:
            batches.append(Batch.of(begun, self._guards, str(self._model.device)))
        if fresh:
            started = self._start(Batch.of(fresh, self._guards, str(self._model.device)))
            batches += [started] if started is not None else []
        gone = {id(slot) for slot in chosen}
        self._waiting = [slot for slot in self._waiting if id(slot) not in gone]
        if batches:
            joined = batches[0]
            for other in batches[1:]:
                joined = joined.join(other)
            self._batch = joined
            self._largest = max(self._largest, len(joined))
        self._coming = []
        self._changed = any(slot.ended for slot in fresh)

    def _choose(self) -> list[Slot]:
        """Return the replicas that come next: all of a batch are periodic in the same directions."""
        room, pbc = self._room, None
        if self._batch is not None:
            room, pbc = room - self._batch.n_atoms, self._batch.pbc
        chosen: list[Slot] = []
        for slot in self._waiting:
            fits = slot.n_atoms <= room or (self._batch is None and not chosen)
            if fits and pbc in (None, slot.pbc):
                chosen.append(slot)
                room, pbc = room - slot.n_atoms, slot.pbc
        return chosen

    def _start(self, batch: Batch) -> Batch | None:
        """Return those of the replicas that are fit to begin, with forces and velocities."""
        batch = self._break(batch, batch_guards.before_forces(batch, batch.positions, self._guards))
        if len(batch):
            self._compute(batch)
            batch = self._break(batch, batch_guards.after_forces(batch))
        if len(batch):
            batch.reference_energy = batch.energy / batch.sizes
            batch = self._break(batch, batch_guards.structure(batch, self._guards))
        if not len(batch):
            return None
        draw_momenta(batch)
        if self._ensemble.controls_pressure:
            batch.compressibility = compressibility(self._model, batch)
        return batch

    def _break(self, batch: Batch, tripped: batch_guards.Tripped) -> Batch:
        """End the replicas whose guards tripped; return the batch of the others."""
        if not tripped:
            return batch
        for number, guard in tripped.items():
            self._end(batch.slots[number], 'guard', max(int(batch.steps[number]), 0), guard)
        return self._without(batch, tripped)

    def _without(self, batch: Batch, numbers: Iterable[int]) -> Batch:
        self._changed = True
        keep = np.ones(len(batch), dtype=bool)
        keep[list(numbers)] = False
        return batch.select(keep)

    def _stay(self, batch: Batch) -> None:
        self._batch = batch if len(batch) else None

    def _end(self, slot: Slot, how: str, step: int, guard: GuardTripped | None = None) -> None:
        slot.ended = True
        result = slot.recorder.end(how, step, guard)
        if self._on_end is not None:
            self._on_end(result)

    def _put_back(self, numbers: Sequence[int]) -> None:
        """Let replicas wait that are in the batch; they go on from where they are."""
        if self._batch is None or not numbers:
            return
        for number, state in self._batch.states(numbers).items():
            slot = self._batch.slots[number]
            slot.state, slot.step = state, int(self._batch.steps[number])
            slot.moved = True
            self._waiting.append(slot)
        self._waiting.sort(key=lambda slot: -slot.n_atoms)
        self._stay(self._without(self._batch, numbers))

    def _interrupt(self) -> None:
        """Leave checkpoints of all replicas that were moved."""
        if self._batch is not None:
            self._put_back(range(len(self._batch)))
        for slot in self._waiting:
            self._leave_checkpoint(slot)

    def _leave_checkpoint(self, slot: Slot) -> None:
        if slot.moved and slot.state is not None:
            slot.recorder.checkpoint(slot.step, slot.state)
            self._end(slot, 'interrupted', slot.step)

    # ---------------------------------------------------------------------------------------------- out of memory

    def _survive(self, action: Callable[[], None]) -> None:
        """Do something; if the memory of the GPU does not suffice, be as before and halve the batch."""
        before = copy.copy(self._batch)  # shallow: a step makes new tensors
        try:
            action()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            problem = str(error)
        else:
            return
        if before is not None:
            self._stay(self._without(before, [n for n, slot in enumerate(before.slots) if slot.ended]))
        self._waiting = [slot for slot in self._waiting if not slot.ended]
        self._halve(problem)

    def _halve(self, problem: str) -> None:
        """Halve the room and put back what has none."""
        slots = list(self._batch.slots) if self._batch is not None else []
        coming, self._coming = [slot for slot in self._coming if not slot.ended], []
        if len(slots) + len(coming) <= 1:
            self._set_aside((slots + coming)[0], problem)
            return
        self._room = max(1, sum(slot.n_atoms for slot in slots + coming) // 2)
        self._halvings += 1
        self._changed = True
        log.warning('out of memory: the batch continues with %d atoms', self._room)
        room, surplus = self._room, []
        for number, slot in enumerate(slots):
            room -= slot.n_atoms
            if number and room < 0:
                surplus.append(number)
        self._put_back(surplus)
        if self._model.device.type == 'cuda':
            import torch

            torch.cuda.empty_cache()

    def _set_aside(self, slot: Slot, problem: str) -> None:
        """Do without a replica that does not even fit alone; the others go on."""
        if self._batch is not None:
            self._put_back([0])
        self._waiting.remove(slot)
        self._leave_checkpoint(slot)
        log.warning('replica %d with %d atoms is skipped: %s', slot.replica.index, slot.n_atoms, problem)
        self._too_large.append(slot)
        self._changed = True

    # ------------------------------------------------------------------------------------------------------- a step

    def _step(self) -> None:
        """Do one step with all replicas, up to the frames that it gives."""
        assert self._batch is not None
        batch, previous = self._batch, self._batch.positions
        self._frames = None
        self._integrator.before_forces(batch)
        batch = self._break(batch, batch_guards.before_forces(batch, previous, self._guards))
        if len(batch):
            self._compute(batch)
            batch = self._break(batch, batch_guards.after_forces(batch))
        if len(batch):
            temperature = self._integrator.after_forces(batch)
            batch = self._break(batch, batch_guards.after_step(batch, temperature))
        if len(batch):
            batch = self._look(batch)
        self._stay(batch)

    def _compute(self, batch: Batch) -> None:
        """Compute energies, forces and pressures."""
        output = evaluate(self._model, batch)
        batch.energy, batch.forces = output['energy'], output['forces']
        if self._ensemble.needs_stress:
            batch.virial = -output['stress'].diagonal(dim1=1, dim2=2).sum(dim=1) / 3

    def _look(self, batch: Batch) -> Batch:
        """Check the structures that are due and gather the frames; return the batch of those that are whole."""
        writes = (batch.steps > 0) & (batch.steps % self._parameters.sample_interval == 0)
        due = writes | (batch.steps % self._guards.check_interval == 0)
        if due.any():
            tripped = batch_guards.structure(_some(batch, due), self._guards)
            numbers = np.flatnonzero(due)
            batch = self._break(batch, {int(numbers[number]): guard for number, guard in tripped.items()})
        writes = (batch.steps > 0) & (batch.steps % self._parameters.sample_interval == 0)
        if writes.any():
            self._frames = _Frames(_some(batch, writes), self._committee)
        return batch

    def _hand_over(self) -> None:
        """Give the frames of the step to the recorders, and let go who is done."""
        if self._batch is None:
            return
        stale = [slot for slot, frame in self._frames or () if not slot.recorder.frame(*frame)]
        self._frames = None
        ends = {self._batch.slots.index(slot): 'nothing_new' for slot in stale}
        for number in np.flatnonzero(self._batch.steps >= self._parameters.n_steps).tolist():
            ends.setdefault(number, 'completed')
        if not ends:
            return
        for number, how in ends.items():
            self._end(self._batch.slots[number], how, int(self._batch.steps[number]))
        self._stay(self._without(self._batch, ends))

    def _checkpoint_some(self) -> None:
        """Leave the checkpoints that are due."""
        if self._batch is None or time.monotonic() < self._next_look:
            return
        slots = self._batch.slots
        due = [number for number, slot in enumerate(slots) if slot.recorder.checkpoint_due()]
        for number, state in self._batch.states(due).items() if due else ():
            slots[number].recorder.checkpoint(int(self._batch.steps[number]), state)
        self._next_look = time.monotonic() + self._look_seconds


def _some(batch: Batch, which: np.ndarray) -> Batch:
    return batch if which.all() else batch.select(which)


class _Frames:
    """The frames of a step, on the way from the device to the recorders; iterates over slots and what they get.

    The disagreement of a committee is the maximum over the atoms of the root mean square, over the potentials, of the
    distance of their force from the mean force (L. Zhang et al., Phys. Rev. Mater. 3, 023804 (2019)).
    """

    def __init__(self, batch: Batch, committee: Sequence[MaceTorchSimModel]) -> None:
        import torch

        self._batch = batch
        self._max_force = batch.largest(batch.forces.norm(dim=1))
        self._disagreement = torch.full_like(batch.energy, torch.nan)
        if committee:
            every = torch.stack([batch.forces, *(evaluate(model, batch)['forces'] for model in committee)])
            deviations = (every - every.mean(dim=0)).norm(dim=2)
            self._disagreement = batch.largest((deviations**2).mean(dim=0).sqrt())

    def __iter__(self) -> Iterator[tuple[Slot, tuple[int, np.ndarray, np.ndarray, float, float, float, float]]]:
        batch = self._batch
        positions, cells = batch.positions.cpu().numpy(), batch.cell.cpu().numpy()
        columns = (batch.energy, batch.temperature, self._max_force, self._disagreement)
        numbers = zip(*(column.tolist() for column in columns), strict=True)
        first = 0
        for slot, step, cell, values in zip(batch.slots, batch.steps.tolist(), cells, numbers, strict=True):
            yield slot, (step, positions[first : first + slot.n_atoms], cell, *values)
            first += slot.n_atoms
