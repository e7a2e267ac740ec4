"""A lane of MD jobs: its share of an exploration, one after the other.

As with labels, lanes bound how many jobs run side by side without a barrier.
"""

from __future__ import annotations

from aiida import orm
from aiida.engine import ProcessSpec, ToContext, WorkChain, while_

from aiida_mlip_autopipe.calculations.mace_md import MaceMdCalculation

from .mace_md_base import MaceMdBaseWorkChain

__all__ = ['MD_LINK', 'MaceMdLaneWorkChain']

MD_LINK = 'md_'


class MaceMdLaneWorkChain(WorkChain):
    """Run every ``n_lanes``-th of the MD jobs; one that fails does not stop the lane."""

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:  # type: ignore[override]
        """Define the ports and the outline."""
        super().define(spec)
        spec.expose_inputs(
            MaceMdCalculation, namespace='job', exclude=('job_index', 'continue_from', 'monitors', 'remote_folder')
        )
        spec.input(
            'lane',
            valid_type=orm.Int,
            default=lambda: orm.Int(0),
            serializer=orm.to_aiida_type,
            help='Number of this lane.',
        )
        spec.input(
            'n_lanes',
            valid_type=orm.Int,
            default=lambda: orm.Int(1),
            serializer=orm.to_aiida_type,
            help='Number of lanes.',
        )
        spec.outline(
            cls.setup,
            while_(cls.has_more)(
                cls.run_next,
            ),
        )

    def setup(self) -> None:
        """List the share of this lane."""
        self.ctx.queue = list(range(self.inputs.lane.value, self.inputs.job.n_jobs.value, self.inputs.n_lanes.value))

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
