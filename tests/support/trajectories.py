"""Short trajectories for tests, with any ASE calculator, through the recorder and back from the disk."""

from pathlib import Path

from ase.build import bulk

from aiida_mlip_autopipe.science.dynamics import ReplicaPlan
from aiida_mlip_autopipe.science.dynamics.ase.trajectory import run_dynamics
from aiida_mlip_autopipe.science.dynamics.recorder import Recorder
from aiida_mlip_autopipe.science.dynamics.recovery import describe_frames, take_over
from aiida_mlip_autopipe.science.frames import FrameChunk, iter_chunks, write_manifest
from aiida_mlip_autopipe.science.parameters import DynamicsParameters


def silicon(name='seed-00000001', cubic=True, **kwargs):
    """Return silicon, two or eight atoms, with the info of a seed."""
    atoms = bulk('Si', cubic=cubic, **kwargs)
    atoms.info = {'frame_id': name, 'origin': name, 'config_type': 'seed'}
    return atoms


def few_steps(**kwargs):
    """Return parameters of a run of a second."""
    defaults = {'n_steps': 12, 'sample_interval': 3, 'timestep_fs': 1.0, 'n_processes': 1, 'engine': 'ase'}
    return DynamicsParameters(**(defaults | kwargs))


def run_one(atoms, calculator, parameters, folder, stop=None, committee=()) -> tuple[dict, FrameChunk | None]:
    """Run the first replica of a structure, or go on with it; return how it ended and all its frames."""
    folder = Path(folder)
    atoms = atoms.copy()
    atoms.info.setdefault('frame_id', 'seed-0000000f')
    plan = ReplicaPlan([atoms], parameters)
    take_over(plan, plan.replicas[:1], folder, 'ase')
    recorder = Recorder(plan, plan.replicas[0], folder, 'ase')
    try:
        ended = run_dynamics(recorder, calculator, parameters, stop, committee)
    finally:
        recorder.close()
    manifest = describe_frames(plan, plan.replicas[:1], folder, 'ase')
    write_manifest(folder, {**manifest, 'md_job': 'aaaaaaaa'})
    return ended, next(iter_chunks([folder], chunk_size=10**6), None)
