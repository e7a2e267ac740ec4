"""One training, with its restarts."""

from aiida_mlip_autopipe.calculations.mace_train import MaceTrainCalculation

from .worker_base import WorkerBaseWorkChain

__all__ = ['MaceTrainBaseWorkChain']


class MaceTrainBaseWorkChain(WorkerBaseWorkChain):
    """Run a ``mace_train`` job until it is done or given up."""

    _process_class = MaceTrainCalculation
