"""One MD job, with its restarts."""

from aiida_mlip_autopipe.calculations.mace_md import MaceMdCalculation

from .worker_base import WorkerBaseWorkChain

__all__ = ['MaceMdBaseWorkChain']


class MaceMdBaseWorkChain(WorkerBaseWorkChain):
    """Run a ``mace_md`` job until it is done or given up."""

    _process_class = MaceMdCalculation
