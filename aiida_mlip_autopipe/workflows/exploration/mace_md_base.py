"""One MD job, with its restarts: an interrupted one goes on from its checkpoints, one given up delivers its frames."""

from __future__ import annotations

from aiida import orm
from aiida.engine import ExitCode, ProcessHandlerReport, ProcessSpec, ToContext, if_, process_handler, while_

from aiida_mlip_autopipe.calculations.mace_md import MaceMdCalculation
from aiida_mlip_autopipe.calculations.monitors import ALL_BROKE, watch_replicas
from aiida_mlip_autopipe.pipeline.exit_codes import (
    ALL_REPLICAS_BROKE,
    INCOMPLETE,
    NO_FRAMES,
    NOT_ALL_FRAMES,
    NOT_COMPLETE,
    OUT_OF_MEMORY,
    SCHEDULER_OUT_OF_MEMORY,
    SCRATCH_MISSING,
    STOPPED_BY_MONITOR,
    add_exit_codes,
)
from aiida_mlip_autopipe.science.dynamics.recovery import CHECKPOINTS
from aiida_mlip_autopipe.workflows.worker_base import SCHEDULER_LIMITS, WorkerBaseWorkChain

__all__ = ['MaceMdBaseWorkChain', 'n_frames_of']

INTERRUPTED = (INCOMPLETE.status, NOT_COMPLETE.status, OUT_OF_MEMORY.status, *SCHEDULER_LIMITS)
MEMORY = (OUT_OF_MEMORY.status, SCHEDULER_OUT_OF_MEMORY)


class MaceMdBaseWorkChain(WorkerBaseWorkChain):
    """Run a ``mace_md`` job until it is done or given up; what it left is delivered in either case.

    ``max_iterations`` counts the attempts in a row that brought no replica further: a job may be interrupted any number
    of times, as long as it makes headway.
    """

    _process_class = MaceMdCalculation

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:  # type: ignore[override]
        """Add what is watched, and the collection of frames that a killed job left."""
        super().define(spec)
        spec.input(
            'min_broken',
            valid_type=orm.Int,
            default=lambda: orm.Int(8),
            serializer=orm.to_aiida_type,
            help='The job is killed once so many replicas have ended and a guard stopped each of them; for jobs '
            'without monitors of their own.',
        )
        spec.outline(
            cls.setup,
            while_(cls.should_run_process)(
                cls.run_process,
                cls.inspect_process,
            ),
            if_(cls.left_untold_frames)(
                cls.collect,
            ),
            cls.results,
        )
        add_exit_codes(spec, ALL_REPLICAS_BROKE, NOT_ALL_FRAMES)

    def setup(self) -> None:
        """Take the CalcJob's inputs, and have its replicas watched."""
        super().setup()
        self.ctx.again = False
        self.ctx.n_steps = self.ctx.n_without_headway = 0
        self.ctx.verdict = None
        if not self.ctx.inputs.get('monitors'):
            watch = watch_replicas(self.inputs.min_broken, metadata={'call_link_label': 'watch_replicas'})
            self.ctx.inputs['monitors'] = {'all_replicas_broke': watch}

    def should_run_process(self) -> bool:
        """Return whether there is another attempt to make."""
        return self.ctx.again or super().should_run_process()

    def run_process(self) -> ToContext:
        """Submit the next attempt."""
        self.ctx.again = self.ctx.is_finished = False
        return super().run_process()

    def inspect_process(self) -> None:
        """Call the handlers; where they give the job up, note why and go on to what it left."""
        exit_code = super().inspect_process()
        if exit_code is not None and exit_code.status:
            self.ctx.is_finished = True
            self.ctx.verdict = [exit_code.status, exit_code.message]

    @process_handler(priority=600)
    def give_up_broken_replicas(self, node: orm.CalcJobNode) -> ProcessHandlerReport | None:
        """Give up a job that was killed because all its replicas broke: they would break again."""
        if node.exit_status != STOPPED_BY_MONITOR:
            return None
        message = node.exit_message or ''
        if not message.startswith(ALL_BROKE):
            return self.give_up(ExitCode(STOPPED_BY_MONITOR, message))
        return self.give_up(self.exit_codes.ERROR_ALL_REPLICAS_BROKE.format(message=message))

    @process_handler(priority=550)
    def start_anew_without_scratch(self, node: orm.CalcJobNode) -> ProcessHandlerReport | None:
        """Begin again where the folder to go on from vanished or was damaged."""
        if node.exit_status != SCRATCH_MISSING.status or self.ctx.inputs.pop('continue_from', None) is None:
            return None
        self.report(f'{node.process_label}<{node.pk}> could not go on ({node.exit_message}): beginning anew')
        return self.run_again()

    @process_handler(priority=500)
    def run_an_incomplete_job_again(self, node: orm.CalcJobNode) -> ProcessHandlerReport | None:
        """Go on from the checkpoints of a job that was stopped, killed or short of memory, in smaller batches if so."""
        if node.exit_status not in INTERRUPTED:
            return None
        self.count_headway(node)
        limit = self.inputs.max_iterations.value
        if self.ctx.n_without_headway >= limit:
            return self.give_up(self.exit_codes.WARNING_NOT_ALL_FRAMES.format(n=limit, message=node.exit_message))
        if node.exit_status in MEMORY:
            self.halve_the_batch()
        how = self.go_on_from(self.furthest_folder(node))
        self.report(f'{node.process_label}<{node.pk}> did not finish ({node.exit_message}): {how}')
        return self.run_again()

    def run_again(self) -> ProcessHandlerReport:
        """Ask for another attempt; AiiDA's own count of iterations, which knows no headway, is passed by."""
        self.ctx.again = self.ctx.is_finished = True
        return ProcessHandlerReport(True)

    def count_headway(self, node: orm.CalcJobNode) -> None:
        """Count the attempts in a row after which no more steps are done than before."""
        n_steps = _n_steps(node)
        self.ctx.n_without_headway = 0 if n_steps > self.ctx.n_steps else self.ctx.n_without_headway + 1
        self.ctx.n_steps = max(n_steps, self.ctx.n_steps)

    def halve_the_batch(self) -> None:
        """Run half as many replicas at once from now on."""
        metadata = dict(self.ctx.inputs.get('metadata', {}))
        options = dict(metadata.get('options', {}))
        options['batch_divisor'] = 2 * options.get('batch_divisor', 1)
        self.ctx.inputs['metadata'] = {**metadata, 'options': options}

    def furthest_folder(self, node: orm.CalcJobNode) -> orm.RemoteData | None:
        """Return the folder with the checkpoints of the last attempt, or of the one before if it was cut at its start.

        An attempt first brings over what the one before left; until then, the earlier folder holds more.
        """
        before = self.ctx.inputs.get('continue_from')
        last = node.outputs.remote_folder if 'remote_folder' in node.outputs else None
        n_before, n_last = (0 if folder is None else _count_checkpoints(folder) for folder in (before, last))
        if not n_before and not n_last:
            return None
        return last if n_last >= n_before else before

    def go_on_from(self, folder: orm.RemoteData | None) -> str:
        """Let the next attempt go on from a folder; return what it does, in words."""
        if folder is None:
            self.ctx.inputs.pop('continue_from', None)
            return 'beginning anew, as no checkpoint of it is there'
        self.ctx.inputs['continue_from'] = folder
        divisor = self.ctx.inputs.get('metadata', {}).get('options', {}).get('batch_divisor', 1)
        batches = f', with 1/{divisor} of the replicas at once' if divisor > 1 else ''
        return f'going on from <{folder.pk}>{batches}'

    def left_untold_frames(self) -> bool:
        """Return whether a job that was given up left checkpoints, but no manifest that tells of their frames."""
        last = self.ctx.children[-1]
        if self.ctx.verdict is None or self.ctx.verdict[0] == NO_FRAMES.status or 'manifest' in last.outputs:
            return False
        self.ctx.untold = self.furthest_folder(last)
        return self.ctx.untold is not None

    def collect(self) -> ToContext:
        """Submit a job that runs nothing and tells which frames there are."""
        inputs = {name: value for name, value in self.ctx.inputs.items() if name != 'monitors'}
        metadata = inputs.get('metadata', {})
        inputs['continue_from'] = self.ctx.untold
        inputs['metadata'] = {
            **metadata,
            'options': {**metadata.get('options', {}), 'collect_only': True},
            'call_link_label': 'collect',
        }
        node = self.submit(self._process_class, **inputs)
        self.report(f'collecting the frames in <{self.ctx.untold.pk}>: {node.process_label}<{node.pk}>')
        return ToContext(collection=node)

    def results(self) -> ExitCode | None:
        """Attach the outputs of the job, or those of the newest attempt that left frames."""
        if self.ctx.verdict is None:
            return super().results()
        status, message = self.ctx.verdict
        delivered = self.delivered()
        if delivered is not None:
            self.out_many(self.exposed_outputs(delivered, self._process_class))
            self.report(f'given up with {n_frames_of(delivered)} frames: {message}')
        elif status == NOT_ALL_FRAMES.status:
            return self.exit_codes.ERROR_MAXIMUM_ITERATIONS_EXCEEDED
        return ExitCode(status, message)

    def delivered(self) -> orm.CalcJobNode | None:
        """Return the newest attempt that left frames, if there is one."""
        attempts = [*self.ctx.children, *([self.ctx.collection] if 'collection' in self.ctx else [])]
        return next((node for node in reversed(attempts) if n_frames_of(node)), None)


def n_frames_of(node: orm.ProcessNode) -> int:
    """Return the number of frames that an MD job or its WorkChain tells of."""
    return node.outputs.manifest['n_frames'] if 'manifest' in node.outputs else 0


def _n_steps(node: orm.CalcJobNode) -> int:
    """Return the steps that all replicas of a job have done, as far as its manifest tells."""
    if 'manifest' not in node.outputs:
        return 0
    return sum(replica['n_steps'] for replica in node.outputs.manifest['replicas'])


def _count_checkpoints(folder: orm.RemoteData) -> int:
    """Return how many replicas have a checkpoint in the folder of a job; 1 where the computer cannot be asked."""
    if folder.is_cleaned:
        return 0
    path = f'{folder.get_remote_path()}/{CHECKPOINTS}'
    try:
        with folder.get_authinfo().get_transport() as transport:
            names = transport.listdir(path) if transport.isdir(path) else []
    except Exception as error:  # each transport fails in its own way; the job will show whether the folder is there
        folder.logger.warning(f'{path} cannot be looked at: {error}')
        return 1
    return sum(name.startswith('r') and name.endswith('.npz') for name in names)
