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

MOST_PASSES = 3


class RelaxationWorkChain(WorkChain):
    """Relax each structure of a source; what is relaxed, and how, is known to the labelling code.

    A structure whose cell has changed so much that its label would have other k-points is relaxed again, with those.
    """

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
                while_(cls.has_more)(
                    cls.relax_next,
                    cls.take_results,
                ),
                cls.collect,
                cls.look_at_sampling,
            ),
            cls.finish,
        )
        add_exit_codes(spec, NOT_RELAXED)

    def setup(self) -> None:
        """Have all structures relaxed from where they are given."""
        self.ctx.waiting = list(range(len(source_atoms(self.inputs.structure))))
        self.ctx.picked = [self._pick(self.inputs.structure, index, f'pick_{index}') for index in self.ctx.waiting]
        self.ctx.results = {}
        self.ctx.n_passes = 0

    def has_more(self) -> bool:
        """Return whether a structure is left."""
        return bool(self.ctx.waiting)

    def relax_next(self) -> ToContext:
        """Submit the process that relaxes the next structure."""
        inputs, index = self.inputs, self.ctx.waiting[0]
        picked = self.ctx.picked[index]
        task = labeller_for(inputs).relaxation(picked, inputs.what.value, inputs.parameters, inputs.options)
        label = self._in_this_pass(f'relax_{index}')
        metadata = {**task.inputs.get('metadata', {}), 'call_link_label': label}
        return ToContext(job=self.submit(task.process, **{**task.inputs, 'metadata': metadata}))

    def take_results(self) -> ExitCode | None:
        """Take what the labelling code reads a relaxed structure from."""
        node, labeller, index = self.ctx.job, labeller_for(self.inputs), self.ctx.waiting[0]
        if not node.is_finished_ok:
            return self.exit_codes.ERROR_NOT_RELAXED.format(number=index, reason=labeller.reason(node))
        for name in labeller.relaxation_results:
            self.ctx.results[relaxation_result(index, name)] = node.outputs[name]
        self.ctx.waiting = self.ctx.waiting[1:]
        return None

    def collect(self) -> None:
        """Join the relaxed structures, and find how far they have moved."""
        self.ctx.collected = collect_relaxed(
            structure=self.inputs.structure,
            parameters=self.inputs.parameters,
            **self.ctx.results,
            **data_of(self.inputs.get('labelling', {})),
            metadata={'call_link_label': self._in_this_pass('collect')},
        )
        self.ctx.n_passes += 1

    def look_at_sampling(self) -> None:
        """Have those relaxed again, from where they are, that would be labelled with other k-points now."""
        labeller, picked = labeller_for(self.inputs), list(self.ctx.picked)
        for index, before in enumerate(self.ctx.picked):
            sampling = labeller.relaxation_sampling(before)
            if sampling is None:
                continue
            name = self._in_this_pass(f'pick_{index}')
            picked[index] = self._pick(self.ctx.collected['structure'], index, name)
            if (now := labeller.relaxation_sampling(picked[index])) == sampling:
                continue
            if self.ctx.n_passes == MOST_PASSES:
                self.report(f'structure {index}: relaxed with {sampling}, but its label is to have {now}')
                continue
            self.report(f'structure {index}: {now} in the relaxed cell, after {sampling}: it is relaxed again')
            self.ctx.waiting = [*self.ctx.waiting, index]
        self.ctx.picked = picked

    def finish(self) -> None:
        """Give the structures, and tell how far they have moved."""
        self.out_many(self.ctx.collected)
        for moved in self.ctx.collected['report']['structures']:
            self.report(f'{moved["formula"]}: volume {100 * (moved["volume_ratio"] - 1):+.2f} %')

    def _pick(self, structure: orm.Data, index: int, name: str) -> dict[str, orm.Data]:
        return pick_source(
            structure=structure,
            index=orm.Int(index),
            what=self.inputs.what,
            parameters=self.inputs.parameters,
            **data_of(self.inputs.get('labelling', {})),
            metadata={'call_link_label': name},
        )

    def _in_this_pass(self, name: str) -> str:
        return f'{name}_again_{self.ctx.n_passes}' if self.ctx.n_passes else name
