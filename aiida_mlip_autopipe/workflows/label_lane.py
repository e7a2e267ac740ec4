"""A lane of labels: its share of the candidates, one after the other.

Lanes bound how many calculations run side by side without a barrier: no lane waits for another, and the number of
processes that are alive stays small, so that the daemon's slots cannot fill with parents waiting for children.
"""

from __future__ import annotations

from aiida import orm
from aiida.engine import ProcessSpec, ToContext, WorkChain, while_
from aiida.plugins import DataFactory, WorkflowFactory

from aiida_mlip_autopipe.calculations.functions import pick_structure
from aiida_mlip_autopipe.calculations.worker_job import validate_parameters
from aiida_mlip_autopipe.data import FramesData
from aiida_mlip_autopipe.science.parameters import LabellingParameters

__all__ = ['LabelLaneWorkChain']

UpfData = DataFactory('pseudo.upf')
PwBaseWorkChain = WorkflowFactory('quantumespresso.pw.base')


class LabelLaneWorkChain(WorkChain):
    """Label every ``n_lanes``-th candidate; a label that fails does not stop the lane."""

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:  # type: ignore[override]
        """Define the ports and the outline."""
        super().define(spec)
        spec.input('pw_code', valid_type=orm.AbstractCode, help='pw.x')
        spec.input('candidates', valid_type=FramesData, help='The frames to label.')
        spec.input(
            'parameters',
            valid_type=orm.Dict,
            serializer=orm.to_aiida_type,
            validator=validate_parameters(LabellingParameters),
            help='The LabellingParameters.',
        )
        spec.input_namespace('pseudos', valid_type=UpfData, help='A pseudopotential for each element.')
        spec.input('options', valid_type=dict, non_db=True, default=dict, help='metadata.options of pw.x.')
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
                cls.label_next,
            ),
        )

    def setup(self) -> None:
        """List the share of this lane."""
        self.ctx.queue = list(range(self.inputs.lane.value, self.inputs.candidates.n_frames, self.inputs.n_lanes.value))

    def has_more(self) -> bool:
        """Return whether a candidate is left."""
        return bool(self.ctx.queue)

    def label_next(self) -> ToContext:
        """Submit pw.x for the next candidate."""
        index = self.ctx.queue.pop(0)
        picked = pick_structure(
            candidates=self.inputs.candidates,
            index=orm.Int(index),
            parameters=self.inputs.parameters,
            **self.inputs.pseudos,
            metadata={'call_link_label': f'pick_{index}'},
        )
        structure = picked['structure']
        node = self.submit(
            PwBaseWorkChain,
            **{
                'pw': {
                    'code': self.inputs.pw_code,
                    'structure': structure,
                    'parameters': picked['parameters'],
                    'pseudos': {kind.name: self.inputs.pseudos[kind.symbol] for kind in structure.kinds},
                    'metadata': {'options': dict(self.inputs.options)},
                },
                'kpoints': picked['kpoints'],
                'clean_workdir': orm.Bool(True),
                'metadata': {'call_link_label': f'label_{index}'},
            },
        )
        return ToContext(**{f'label_{index}': node})
