"""Restart of one worker job: an incomplete one runs again, a refused one is given up with its own reason."""

from __future__ import annotations

from aiida.engine import (
    BaseRestartWorkChain,
    ExitCode,
    ProcessHandlerReport,
    ProcessSpec,
    process_handler,
    while_,
)
from aiida.orm import CalcJobNode

from aiida_mlip_autopipe.calculations.worker_job import WorkerCalculation
from aiida_mlip_autopipe.pipeline.exit_codes import (
    INCOMPLETE,
    NODE_FAILURE,
    OUT_OF_WALLTIME,
    SCHEDULER_OUT_OF_MEMORY,
    WARNINGS,
)

__all__ = ['SCHEDULER_LIMITS', 'WorkerBaseWorkChain']

SCHEDULER_LIMITS = (SCHEDULER_OUT_OF_MEMORY, OUT_OF_WALLTIME, NODE_FAILURE)
SAID_BY_THE_WORKER = range(200, 400)


class WorkerBaseWorkChain(BaseRestartWorkChain):
    """Base of the ``*.base`` WorkChains; its one namespace ``job`` is the CalcJob's."""

    _process_class: type[WorkerCalculation]

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:  # type: ignore[override]
        """Expose the CalcJob and run it until it is done or given up."""
        super().define(spec)
        spec.expose_inputs(cls._process_class, namespace='job')
        spec.expose_outputs(cls._process_class)
        spec.outline(
            cls.setup,
            while_(cls.should_run_process)(
                cls.run_process,
                cls.inspect_process,
            ),
            cls.results,
        )

    def setup(self) -> None:
        """Take the CalcJob's inputs."""
        super().setup()
        self.ctx.inputs = self.exposed_inputs(self._process_class, 'job')

    @process_handler(priority=500)
    def run_an_incomplete_job_again(self, node: CalcJobNode) -> ProcessHandlerReport | None:
        """Submit the same job once more after it was killed, ran out of time or its node failed."""
        if node.exit_status != INCOMPLETE.status and node.exit_status not in SCHEDULER_LIMITS:
            return None
        self.report(f'{node.process_label}<{node.pk}> did not finish ({node.exit_message}): running it again')
        return ProcessHandlerReport(True)

    @process_handler(priority=400)
    def pass_on_the_reason(self, node: CalcJobNode) -> ProcessHandlerReport | None:
        """Give up with the job's own exit code where the worker said why it failed."""
        if node.exit_status not in SAID_BY_THE_WORKER:
            return None
        return self.give_up(ExitCode(node.exit_status, node.exit_message))

    @process_handler(priority=300)
    def pass_on_the_warning(self, node: CalcJobNode) -> ProcessHandlerReport | None:
        """End with the job's own exit code where it finished with a warning, and keep what it has reached."""
        if node.exit_status not in WARNINGS:
            return None
        self.out_many(self.exposed_outputs(node, self._process_class))
        return self.give_up(ExitCode(node.exit_status, node.exit_message))

    def give_up(self, exit_code: ExitCode) -> ProcessHandlerReport:
        """End with an exit code, also where the iterations are used up: AiiDA would put its own in its place."""
        self.ctx.is_finished = True
        return ProcessHandlerReport(True, exit_code)
