"""A sequence of labels: its share of the candidates, one job after the other.

The number of sequences bounds how many calculations run side by side without a barrier: none waits for another, and few
processes are alive, so that the daemon's slots cannot fill with parents waiting for children.

A process labels one candidate, or a job a batch of them, if the labelling code has one that does. What a batch does not
label is then labelled alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.engine import ProcessSpec, ToContext, WorkChain, while_

from aiida_mlip_autopipe.calculations.functions.label import data_of, pick_structure, single_result
from aiida_mlip_autopipe.data import FramesData
from aiida_mlip_autopipe.labelling.answers import Task
from aiida_mlip_autopipe.labelling.base import Labeller, labeller_of
from aiida_mlip_autopipe.labelling.kinds import validate_labelling
from aiida_mlip_autopipe.provenance.earlier_labels import computed_alone, computed_in_batches
from aiida_mlip_autopipe.provenance.states import BATCH_LINK, LABEL_LINK

__all__ = ['LabelSequenceWorkChain', 'define_labelling', 'define_labelling_stage', 'labeller_for', 'share_of']


def share_of(candidates: FramesData, only: orm.List | None, sequence: int = 0, n_sequences: int = 1) -> list[int]:
    """Return the candidates that a sequence is to label, by their places in the set."""
    wanted = list(range(candidates.n_frames)) if only is None else only.get_list()
    return wanted[sequence::n_sequences]


def define_labelling(spec: ProcessSpec) -> None:
    """Define the port for what the labelling code needs of the profile."""
    spec.input_namespace(
        'labelling',
        dynamic=True,
        valid_type=orm.Data,
        required=False,
        help='What the labelling code needs of the profile, by the names that it gives it: `code`, pseudopotentials.',
    )


def define_labelling_stage(spec: ProcessSpec) -> None:
    """Define the ports for a labelling code: what it needs of the profile, its parameters, options of its jobs."""
    define_labelling(spec)
    spec.input(
        'parameters',
        valid_type=orm.Dict,
        serializer=orm.to_aiida_type,
        validator=validate_labelling,
        help='The parameters of the labelling code; `kind` says of which.',
    )
    spec.input('options', valid_type=dict, non_db=True, default=dict, help='metadata.options of the jobs.')


def labeller_for(inputs: Mapping[str, Any]) -> Labeller:
    """Return the labelling code that the inputs of a WorkChain ask for, with its nodes."""
    return labeller_of(inputs['parameters'].get_dict(), inputs.get('labelling', {}))


class LabelSequenceWorkChain(WorkChain):
    """Label every ``n_sequences``-th candidate; a label that fails does not stop the sequence."""

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:  # type: ignore[override]
        """Define the ports and the outline."""
        super().define(spec)
        define_labelling_stage(spec)
        spec.input('candidates', valid_type=FramesData, help='The frames to label.')
        spec.input(
            'only',
            valid_type=orm.List,
            required=False,
            serializer=orm.to_aiida_type,
            help='The places in the set of the candidates to label; all if not given.',
        )
        for name, default, text in (
            ('sequence', 0, 'Number of this sequence.'),
            ('n_sequences', 1, 'Number of sequences.'),
        ):
            spec.input(
                name,
                valid_type=orm.Int,
                default=lambda value=default: orm.Int(value),
                serializer=orm.to_aiida_type,
                help=text,
            )
        spec.output_namespace(
            'results',
            dynamic=True,
            help='`batch_J`, the labels of a batch (ArrayData), and `single_I_NAME`, the outputs of the process for '
            'candidate I alone; of this sequence, or of earlier ones where caching is enabled.',
        )
        spec.outline(
            cls.setup,
            cls.take_earlier,
            while_(cls.has_more)(
                cls.label_next,
                cls.take_results,
            ),
        )

    def setup(self) -> None:
        """List the share of this sequence, and the key of each candidate in it."""
        inputs = self.inputs
        labeller = labeller_for(inputs)
        share = share_of(inputs.candidates, inputs.get('only'), inputs.sequence.value, inputs.n_sequences.value)
        frames = inputs.candidates.get_atoms()
        self.ctx.batch_size = labeller.parameters.batch_size if labeller.batch_type is not None else 1
        self.ctx.key_of = {index: labeller.key(frames[index]) for index in share}
        self.ctx.queue = share
        self.ctx.alone = []
        self.ctx.n_batches = 0

    def take_earlier(self) -> None:
        """Leave out what was labelled before, in whichever batch; of single ones AiiDA's own cache takes care."""
        keys, labeller = self.ctx.key_of, labeller_for(self.inputs)
        batches = computed_in_batches(labeller, keys.values())
        for node in {batch.uuid: batch for batch in batches.values()}.values():
            self.out(f'results.batch_{node.pk}', node)
        alone = computed_alone(labeller, keys.values()) if self.ctx.batch_size > 1 else {}
        for index, key in keys.items():
            if key in alone and key not in batches:
                self.take_single(index, alone[key])
        n_all = len(self.ctx.queue)
        self.ctx.queue = [index for index in self.ctx.queue if keys[index] not in batches and keys[index] not in alone]
        if len(self.ctx.queue) < n_all:
            self.report(f'{n_all - len(self.ctx.queue)} of {n_all} candidates were labelled before')
        if self.ctx.batch_size == 1:
            self.ctx.queue, self.ctx.alone = [], self.ctx.queue

    def has_more(self) -> bool:
        """Return whether a candidate is left."""
        return bool(self.ctx.queue or self.ctx.alone)

    def label_next(self) -> ToContext:
        """Submit the next candidate, or the next batch."""
        if self.ctx.alone:
            return self.label_alone(self.ctx.alone.pop(0))
        size = self.ctx.batch_size
        batch, self.ctx.queue = self.ctx.queue[:size], self.ctx.queue[size:]
        return self.label_batch(batch)

    def label_alone(self, index: int) -> ToContext:
        """Submit the process for one candidate."""
        picked = pick_structure(
            candidates=self.inputs.candidates,
            index=orm.Int(index),
            parameters=self.inputs.parameters,
            **data_of(self.inputs.get('labelling', {})),
            metadata={'call_link_label': f'pick_{index}'},
        )
        task = labeller_for(self.inputs).single(
            picked, self.inputs.parameters, self.ctx.key_of[index], self.inputs.options
        )
        node = self.submit_task(task, f'{LABEL_LINK}{index}')
        self.ctx.index = index
        return ToContext(job=node)

    def label_batch(self, indices: list[int]) -> ToContext:
        """Submit the job for several candidates."""
        task = labeller_for(self.inputs).batch(
            self.inputs.candidates, indices, self.inputs.parameters, self.inputs.options
        )
        node = self.submit_task(task, f'{BATCH_LINK}{self.ctx.n_batches}')
        self.ctx.n_batches += 1
        self.ctx.index = None
        self.ctx.batch = indices
        return ToContext(job=node)

    def submit_task(self, task: Task, link: str) -> orm.ProcessNode:
        """Submit a process under a label of its own."""
        metadata = {**task.inputs.get('metadata', {}), 'call_link_label': link}
        return self.submit(task.process, **{**task.inputs, 'metadata': metadata})

    def take_results(self) -> None:
        """Take what there is; what a batch did not label is next, alone."""
        node = self.ctx.job
        if self.ctx.index is not None:
            if node.is_finished_ok:
                self.take_single(self.ctx.index, node)
            return
        found: list[int] = []
        if 'labels' in node.outputs:
            found = node.outputs.labels.base.attributes.get('index')
            self.out(f'results.batch_{node.outputs.labels.pk}', node.outputs.labels)
            _clean(node)
        self.ctx.alone = [index for index in self.ctx.batch if index not in found]
        if self.ctx.alone:
            self.report(f'{node.process_label}<{node.pk}>: {node.exit_message}; {len(self.ctx.alone)} go on alone')

    def take_single(self, index: int, node: orm.ProcessNode) -> None:
        """Take the label of a calculation of its own."""
        for name in labeller_for(self.inputs).results:
            self.out(f'results.{single_result(index, name)}', node.outputs[name])


def _clean(job: orm.CalcJobNode) -> None:
    """Remove what a batch left on its computer: densities and wavefunctions of each candidate."""
    try:
        job.outputs.remote_folder._clean()
    except (OSError, KeyError) as error:
        job.logger.warning(f'the folder of {job} could not be cleaned: {error}')
