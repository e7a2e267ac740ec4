"""The evaluation stage: one job, with its restarts."""

from aiida_mlip_autopipe.calculations.evaluate import EvaluateCalculation
from aiida_mlip_autopipe.workflows.worker_base import WorkerBaseWorkChain

__all__ = ['EvaluationWorkChain']


class EvaluationWorkChain(WorkerBaseWorkChain):
    """Judge a potential on labelled frames."""

    _process_class = EvaluateCalculation
