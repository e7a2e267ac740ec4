"""One sampling job, with its restarts."""

from aiida_mlip_autopipe.calculations.direct_sampling import DirectSamplingCalculation
from aiida_mlip_autopipe.workflows.worker_base import WorkerBaseWorkChain

__all__ = ['DirectSamplingBaseWorkChain']


class DirectSamplingBaseWorkChain(WorkerBaseWorkChain):
    """Run a ``direct_sampling`` job until it is done or given up."""

    _process_class = DirectSamplingCalculation
