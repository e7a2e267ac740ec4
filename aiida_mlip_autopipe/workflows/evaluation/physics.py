"""The physics checks: one job, with its restarts."""

from aiida_mlip_autopipe.calculations.physics import PhysicsCalculation
from aiida_mlip_autopipe.workflows.worker_base import WorkerBaseWorkChain

__all__ = ['PhysicsWorkChain']


class PhysicsWorkChain(WorkerBaseWorkChain):
    """Hold properties of a potential against those of the labels."""

    _process_class = PhysicsCalculation
