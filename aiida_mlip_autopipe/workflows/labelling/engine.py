"""The labelling stage: energy, forces and stress of each candidate from a labelling code.

Its two outputs are the whole account: each candidate is in the labelled set or, with its reason, in `rejected`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.engine import ExitCode, ProcessSpec, WorkChain, append_

from aiida_mlip_autopipe.calculations.functions.label import SINGLE, collect_labels, data_of
from aiida_mlip_autopipe.data import FramesData
from aiida_mlip_autopipe.pipeline.exit_codes import TOO_FEW_LABELS, add_exit_codes
from aiida_mlip_autopipe.provenance.states import labels_alone
from aiida_mlip_autopipe.workflows.labelling.sequence import LabelSequenceWorkChain, labeller_for, share_of

__all__ = ['LabellingEngineWorkChain']


class LabellingEngineWorkChain(WorkChain):
    """Label the candidates in sequences; keep aside what fails and go on with the rest."""

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:  # type: ignore[override]
        """Define the ports and the outline."""
        super().define(spec)
        spec.expose_inputs(LabelSequenceWorkChain, exclude=('sequence', 'n_sequences'))
        spec.output('labelled', valid_type=FramesData, required=False, help='The candidates with sound labels.')
        spec.output('rejected', valid_type=orm.Dict, help='frame_id -> why it is not in the set.')
        spec.inputs.validator = _can_be_labelled
        spec.outline(
            cls.run_sequences,
            cls.collect,
        )
        add_exit_codes(spec, TOO_FEW_LABELS)

    def run_sequences(self) -> None:
        """Submit the sequences."""
        labelling = labeller_for(self.inputs).parameters
        wanted = len(self.wanted())
        n_sequences = min(labelling.max_concurrent, wanted)
        for sequence in range(n_sequences):
            node = self.submit(
                LabelSequenceWorkChain,
                **{
                    **self.exposed_inputs(LabelSequenceWorkChain),
                    'sequence': orm.Int(sequence),
                    'n_sequences': orm.Int(n_sequences),
                    'metadata': {'call_link_label': f'sequence_{sequence}'},
                },
            )
            self.to_context(sequences=append_(node))
        self.report(f'{wanted} candidates in {n_sequences} sequence(s)')

    def collect(self) -> ExitCode | None:
        """Join the labels and list the failures."""
        only = {'only': self.inputs.only} if 'only' in self.inputs else {}
        results = self.results()
        alone = {int(match['index']) for name in results if (match := SINGLE.fullmatch(name))}
        failed = {f'failed_{index}': orm.Str(reason) for index, reason in self.failures().items() if index not in alone}
        collected = collect_labels(
            candidates=self.inputs.candidates,
            parameters=self.inputs.parameters,
            **results,
            **failed,
            **data_of(self.inputs.get('labelling', {})),
            **only,
            metadata={'call_link_label': 'collect'},
        )
        self.out_many(collected)
        wanted = len(self.wanted())
        found = collected['labelled'].n_frames if 'labelled' in collected else 0
        self.report(f'{found} of {wanted} candidates labelled')
        if not found or found < self.inputs.parameters['min_success_fraction'] * wanted:
            return self.exit_codes.ERROR_TOO_FEW_LABELS.format(found=found, wanted=wanted)
        return None

    def wanted(self) -> list[int]:
        """Return the candidates to label, by their places in the set."""
        return share_of(self.inputs.candidates, self.inputs.get('only'))

    def results(self) -> dict[str, orm.Data]:
        """Return what the sequences found; two sequences may have found labels in one earlier batch."""
        found = [sequence.outputs.results for sequence in self.ctx.sequences if 'results' in sequence.outputs]
        return {name: node for results in found for name, node in results.items()}

    def failures(self) -> dict[int, str]:
        """Return why candidates that were labelled alone have no label."""
        labeller = labeller_for(self.inputs)
        return {
            index: labeller.reason(node)
            for sequence in self.ctx.sequences
            for index, node in labels_alone(sequence)
            if not node.is_finished_ok
        }


def _can_be_labelled(inputs: Mapping[str, Any], _namespace: object) -> str | None:
    if 'candidates' not in inputs:
        return None
    labeller, frames = labeller_for(inputs), inputs['candidates'].get_atoms()
    if problem := labeller.problem(inputs['candidates'].elements):
        return problem
    if problem := next(filter(None, map(labeller.unfit, frames)), None):
        return problem
    unusable = [name for atoms in frames if '.' in (name := atoms.info['frame_id'])]
    if unusable:
        return f'candidates: the frame_id {unusable[0]!r} holds a dot, which no key of a Dict may; rename the frame'
    if 'only' in inputs:
        n_frames, only = inputs['candidates'].n_frames, inputs['only'].get_list()
        if not only or not set(only) <= set(range(n_frames)):
            return f'only: {only}; give places in the set of candidates, from 0 to {n_frames - 1}'
    return None
