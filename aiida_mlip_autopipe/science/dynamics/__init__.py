"""MACE molecular dynamics: engines, replicas side by side, and the guards that stop a broken one."""

from aiida_mlip_autopipe.science.dynamics.engine_ase import single_point
from aiida_mlip_autopipe.science.dynamics.guards import GuardTripped
from aiida_mlip_autopipe.science.dynamics.replicas import NoFramesError, Replica, plan_replicas, run_replicas

__all__ = ['GuardTripped', 'NoFramesError', 'Replica', 'plan_replicas', 'run_replicas', 'single_point']
