"""A sequence of MD jobs: its share of an exploration, one after the other.

As with labels, sequences bound how many jobs run side by side without a barrier.
"""

from __future__ import annotations

from aiida import orm
from aiida.engine import ProcessSpec, ToContext, WorkChain, while_

from aiida_mlip_autopipe.calculations.mace_md import MaceMdCalculation
from aiida_mlip_autopipe.provenance.dynamics import MD_LINK
from aiida_mlip_autopipe.workflows.exploration.mace_md_base import MaceMdBaseWorkChain

__all__ = ['MaceMdSequenceWorkChain']


class MaceMdSequenceWorkChain(WorkChain):
    """Run every ``n_sequences``-th of the MD jobs; one that fails does not stop the sequence."""

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:  # type: ignore[override]
        """Define the ports and the outline."""
        super().define(spec)
        spec.expose_inputs(
            MaceMdCalculation, namespace='job', exclude=('job_index', 'continue_from', 'monitors', 'remote_folder')
        )
        spec.input(
            'sequence',
            valid_type=orm.Int,
            default=lambda: orm.Int(0),
            serializer=orm.to_aiida_type,
            help='Number of this sequence.',
        )
        spec.input(
            'n_sequences',
            valid_type=orm.Int,
            default=lambda: orm.Int(1),
            serializer=orm.to_aiida_type,
            help='Number of sequences.',
        )
        spec.outline(
            cls.setup,
            while_(cls.has_more)(
                cls.run_next,
            ),
        )

    def setup(self) -> None:
        """List the share of this sequence."""
        self.ctx.queue = list(
            range(self.inputs.sequence.value, self.inputs.job.n_jobs.value, self.inputs.n_sequences.value)
        )

    def has_more(self) -> bool:
        """Return whether a job is left."""
        return bool(self.ctx.queue)

    def run_next(self) -> ToContext:
        """Submit the next job."""
        index = self.ctx.queue.pop(0)
        node = self.submit(
            MaceMdBaseWorkChain,
            job={**self.exposed_inputs(MaceMdCalculation, 'job'), 'job_index': orm.Int(index)},
            metadata={'call_link_label': f'{MD_LINK}{index}'},
        )
        return ToContext(**{f'{MD_LINK}{index}': node})
