"""Replicas, models and ways to spoil them, for the tests of the batched engine."""

import math

import numpy as np
import torch
from ase.build import bulk
from torch_sim.models.pair_potential import PairPotentialModel

from aiida_mlip_autopipe.science.dynamics.batch.run import BatchRun
from aiida_mlip_autopipe.science.dynamics.batch.state import Batch, Slot
from aiida_mlip_autopipe.science.dynamics.recorder import Record, Recorder
from aiida_mlip_autopipe.science.dynamics.replicas import ReplicaPlan
from aiida_mlip_autopipe.science.parameters import DynamicsParameters
from aiida_mlip_autopipe.science.potential.batch import neighbours

WIDE = {'energy_window_eV': 50.0, 'max_volume_ratio': 4.0}


class Kept(Recorder):
    """A recorder that also keeps the frames as they came, in double precision."""

    def __init__(self, *args, on_step=None):
        super().__init__(*args, 'torchsim')
        self.kept, self.on_step = [], on_step

    def frame(self, step, positions, cell, energy, temperature, max_force, disagreement=math.nan):
        self.kept.append((step, positions.copy(), cell.copy(), energy, temperature, max_force, disagreement))
        if self.on_step is not None:
            self.on_step(step)
        return super().frame(step, positions, cell, energy, temperature, max_force, disagreement)


def argon(a=6.0, n=1):
    """Return 4 n**3 soft argon atoms as a seed."""
    return named(bulk('Ar', 'fcc', a=a, cubic=True) * (n, n, n))


def silicon(cubic=True):
    return named(bulk('Si', cubic=cubic))


def named(atoms, name='seed-00000001'):
    atoms.info = {'frame_id': name, 'origin': name}
    return atoms


def soft_model(compute_stress=True, dtype=torch.float64):
    """Return soft repulsive spheres: two continuous derivatives at the cutoff, so that energy is conserved."""
    return PairPotentialModel(
        lambda r, first, second: 20.0 * (1 - r / 4.5).clamp(min=0) ** 3,
        cutoff=4.5,
        compute_stress=compute_stress,
        dtype=dtype,
        neighbor_list_fn=neighbours,
    )


class Faulty:
    """A model whose output is changed on the way: ``change(output, state, n_calls)``."""

    def __init__(self, model, change):
        self.model, self.change, self.n_calls = model, change, 0
        self.device, self.dtype = model.device, model.dtype

    def __call__(self, state):
        self.n_calls += 1
        return self.change(self.model(state), state, self.n_calls)


def break_first(name, value):
    """Return a change that spoils one output of the first system at the third call."""

    def change(output, state, n_calls):
        if n_calls == 3:
            output = {key: tensor.clone() for key, tensor in output.items()}
            chosen = state.system_idx == 0 if name == 'forces' else 0
            output[name][chosen] = value
        return output

    return change


def parameters(**kwargs):
    defaults = {'n_steps': 40, 'sample_interval': 5, 'timestep_fs': 2.0, 'engine': 'torchsim', 'guards': WIDE}
    return DynamicsParameters(**(defaults | kwargs))


def run(folder, seeds, settings, model=None, room=10_000, stop=None, replicas=None, **kwargs):
    """Run all replicas of a plan with a model; return the recorders and the run."""
    plan = ReplicaPlan(seeds, settings)
    recorders = [Kept(plan, replica, folder) for replica in (replicas or plan.replicas)]
    slots = [Slot(recorder, -settings.equilibration_steps) for recorder in recorders]
    batch = BatchRun(model or soft_model(), slots, settings, room=room, stop=stop, **kwargs)
    batch.run()
    return recorders, batch


def ends(folder, recorders):
    """Return how each replica ended, and at which step, by what is on the disk."""
    facts = [Record.read(folder, recorder.replica.index).facts for recorder in recorders]
    return [(fact['ended'], fact['step'], fact['guard'] and fact['guard']['name']) for fact in facts]


def column(recorder, number):
    return np.array([frame[number] for frame in recorder.kept])


def deviation(one, other):
    """Return the largest difference of positions, in Å, between two trajectories."""
    assert [frame[0] for frame in one] == [frame[0] for frame in other]
    return max(np.abs(a[1] - b[1]).max() for a, b in zip(one, other, strict=True))


def batch_of(settings, seeds, folder):
    plan = ReplicaPlan(seeds, settings)
    return Batch.of([Slot(Recorder(plan, r, folder, 'torchsim'), 0) for r in plan.replicas], settings.guards, 'cpu')


class Limited(Faulty):
    """A model that says, as torch does on a GPU, that its memory is full, beyond so many atoms."""

    def __init__(self, model, n_atoms):
        super().__init__(model, self.check)
        self.limit, self.n_errors = n_atoms, 0

    def __call__(self, state):
        if len(state.positions) > self.limit:
            self.n_errors += 1
            raise torch.cuda.OutOfMemoryError('CUDA out of memory (injected)')
        return super().__call__(state)

    @staticmethod
    def check(output, state, n_calls):
        return output
