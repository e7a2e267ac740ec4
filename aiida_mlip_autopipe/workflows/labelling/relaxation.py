"""The source of the seeds is relaxed with the method of the labels, one structure after the other."""

from __future__ import annotations

from aiida import orm
from aiida.engine import ExitCode, ProcessSpec, ToContext, WorkChain, while_

from aiida_mlip_autopipe.calculations.functions.label import data_of
from aiida_mlip_autopipe.calculations.functions.relax import collect_relaxed, pick_source, relaxation_result
from aiida_mlip_autopipe.data import FramesData
from aiida_mlip_autopipe.data.source import source_atoms
from aiida_mlip_autopipe.pipeline.exit_codes import NOT_RELAXED, add_exit_codes
from aiida_mlip_autopipe.workflows.labelling.sequence import define_labelling_stage, labeller_for

__all__ = ['RelaxationWorkChain']


class RelaxationWorkChain(WorkChain):
    """Relax each structure of a source; what is relaxed, and how, is known to the labelling code."""

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:  # type: ignore[override]
        """Define the ports and the outline."""
        super().define(spec)
        define_labelling_stage(spec)
        spec.input('structure', valid_type=(orm.StructureData, FramesData), help='The structure, or several.')
        spec.input(
            'what',
            valid_type=orm.Str,
            serializer=orm.to_aiida_type,
            help='What is relaxed: cell, in-plane or positions.',
        )
        spec.output('structure', valid_type=FramesData, help='The relaxed structure, or structures.')
        spec.output('report', valid_type=orm.Dict, help='Of each structure how far its volume and atoms have moved.')
        spec.outline(
            cls.setup,
            while_(cls.has_more)(
                cls.relax_next,
                cls.take_results,
            ),
            cls.collect,
        )
        add_exit_codes(spec, NOT_RELAXED)

    def setup(self) -> None:
        """Count the structures."""
        self.ctx.frames = len(source_atoms(self.inputs.structure))
        self.ctx.index = 0
        self.ctx.results = {}

    def has_more(self) -> bool:
        """Return whether a structure is left."""
        return self.ctx.index < self.ctx.frames

    def relax_next(self) -> ToContext:
        """Submit the process that relaxes the next structure."""
        inputs = self.inputs
        picked = pick_source(
            structure=inputs.structure,
            index=orm.Int(self.ctx.index),
            what=inputs.what,
            parameters=inputs.parameters,
            **data_of(inputs.get('labelling', {})),
            metadata={'call_link_label': f'pick_{self.ctx.index}'},
        )
        task = labeller_for(inputs).relaxation(picked, inputs.what.value, inputs.parameters, inputs.options)
        metadata = {**task.inputs.get('metadata', {}), 'call_link_label': f'relax_{self.ctx.index}'}
        return ToContext(job=self.submit(task.process, **{**task.inputs, 'metadata': metadata}))

    def take_results(self) -> ExitCode | None:
        """Take what the labelling code reads a relaxed structure from."""
        node, labeller = self.ctx.job, labeller_for(self.inputs)
        if not node.is_finished_ok:
            return self.exit_codes.ERROR_NOT_RELAXED.format(number=self.ctx.index, reason=labeller.reason(node))
        for name in labeller.relaxation_results:
            self.ctx.results[relaxation_result(self.ctx.index, name)] = node.outputs[name]
        self.ctx.index += 1
        return None

    def collect(self) -> None:
        """Join the relaxed structures, and tell how far they have moved."""
        collected = collect_relaxed(
            structure=self.inputs.structure,
            parameters=self.inputs.parameters,
            **self.ctx.results,
            **data_of(self.inputs.get('labelling', {})),
            metadata={'call_link_label': 'collect'},
        )
        self.out_many(collected)
        for moved in collected['report']['structures']:
            self.report(f'{moved["formula"]}: volume {100 * (moved["volume_ratio"] - 1):+.2f} %')
