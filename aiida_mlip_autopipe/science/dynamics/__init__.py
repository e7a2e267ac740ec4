"""MACE molecular dynamics: engines, replicas side by side, and the guards that stop a broken one."""

from aiida_mlip_autopipe.science.dynamics.ase.trajectory import single_point
from aiida_mlip_autopipe.science.dynamics.guards import GuardTripped
from aiida_mlip_autopipe.science.dynamics.replicas import Cost, Replica, ReplicaPlan
from aiida_mlip_autopipe.science.dynamics.run import NoFramesError, choose_engine, run_replicas
from aiida_mlip_autopipe.science.dynamics.stopping import Stop

__all__ = [
    'Cost',
    'GuardTripped',
    'NoFramesError',
    'Replica',
    'ReplicaPlan',
    'Stop',
    'choose_engine',
    'run_replicas',
    'single_point',
]
