"""One training, with its restarts: an interrupted one goes on from its checkpoints."""

from __future__ import annotations

from aiida import orm
from aiida.engine import ProcessHandlerReport, process_handler

from aiida_mlip_autopipe.calculations.mace_train import MaceTrainCalculation
from aiida_mlip_autopipe.pipeline.exit_codes import INCOMPLETE
from aiida_mlip_autopipe.science.potential.training_files import CHECKPOINTS, WORK
from aiida_mlip_autopipe.workflows.worker_base import SCHEDULER_LIMITS, WorkerBaseWorkChain

__all__ = ['MaceTrainBaseWorkChain']


class MaceTrainBaseWorkChain(WorkerBaseWorkChain):
    """Run a ``mace_train`` job until it is done or given up."""

    _process_class = MaceTrainCalculation

    @process_handler(priority=500)
    def run_an_incomplete_job_again(self, node: orm.CalcJobNode) -> ProcessHandlerReport | None:
        """Go on from the checkpoints of a job that was killed, ran out of time or lost its node.

        An attempt first brings over what the one before left; where it was cut before that, the earlier folder is kept.
        """
        if node.exit_status != INCOMPLETE.status and node.exit_status not in SCHEDULER_LIMITS:
            return None
        if 'remote_folder' in node.outputs and _has_checkpoints(node.outputs.remote_folder):
            self.ctx.inputs['continue_from'] = node.outputs.remote_folder
        folder = self.ctx.inputs.get('continue_from')
        how = 'beginning anew, as no checkpoint is there' if folder is None else f'going on from <{folder.pk}>'
        self.report(f'{node.process_label}<{node.pk}> did not finish ({node.exit_message}): {how}')
        return ProcessHandlerReport(True)


def _has_checkpoints(folder: orm.RemoteData) -> bool:
    """Return whether there are checkpoints in the folder of a job; True where the computer cannot be asked."""
    if folder.is_cleaned:
        return False
    path = f'{folder.get_remote_path()}/{WORK}/{CHECKPOINTS}'
    try:
        with folder.get_authinfo().get_transport() as transport:
            return transport.isdir(path) and any(name.endswith('.pt') for name in transport.listdir(path))
    except Exception as error:  # each transport fails in its own way; the job will show whether they are there
        folder.logger.warning(f'{path} cannot be looked at: {error}')
        return True
