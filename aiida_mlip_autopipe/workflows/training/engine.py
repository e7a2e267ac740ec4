"""The training stage: split by origin, train a potential or a committee, judge what came out."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.engine import ExitCode, ProcessSpec, ToContext, WorkChain

from aiida_mlip_autopipe.calculations.functions.train import committee_parameters, split_dataset
from aiida_mlip_autopipe.calculations.mace_train import check_previous, check_start
from aiida_mlip_autopipe.calculations.worker_job import validate_parameters
from aiida_mlip_autopipe.data import FramesData, PotentialData
from aiida_mlip_autopipe.pipeline.exit_codes import DATASET, NO_POTENTIAL, add_exit_codes
from aiida_mlip_autopipe.science.parameters import TrainingParameters
from aiida_mlip_autopipe.workflows.training.mace_train_base import MaceTrainBaseWorkChain

__all__ = ['TrainingEngineWorkChain', 'n_lost']


class TrainingEngineWorkChain(WorkChain):
    """Train a potential, or a committee that differs in its random seeds, on all labelled sets."""

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:  # type: ignore[override]
        """Define the ports and the outline."""
        super().define(spec)
        spec.input('worker_code', valid_type=orm.AbstractCode, help='mlip-autopipe-worker on the computer to use.')
        spec.input(
            'parameters',
            valid_type=orm.Dict,
            serializer=orm.to_aiida_type,
            validator=validate_parameters(TrainingParameters),
            help='The TrainingParameters.',
        )
        spec.input_namespace('labelled', valid_type=FramesData, help='The labelled sets, of one level of theory.')
        spec.input(
            'previous',
            valid_type=FramesData,
            required=False,
            help='The data set of the round before: what trained or validated there does so again.',
        )
        spec.input_namespace(
            'previous_potentials',
            valid_type=PotentialData,
            required=False,
            help='The potentials of the round before, member_0 and so on, with whose weights the members begin.',
        )
        spec.input(
            'foundation',
            valid_type=PotentialData,
            required=False,
            help='The potential that each member fine-tunes, for the methods naive and multihead.',
        )
        spec.input(
            'replay',
            valid_type=FramesData,
            required=False,
            help='Frames on which the foundation is not to be forgotten, for the method multihead; without labels.',
        )
        spec.input('options', valid_type=dict, non_db=True, default=dict, help='metadata.options of the job.')
        spec.inputs.validator = _can_start
        spec.expose_outputs(MaceTrainBaseWorkChain, exclude=('remote_folder', 'retrieved', 'remote_stash'))
        spec.output_namespace(
            'committee', valid_type=PotentialData, required=False, help='The other potentials of a committee.'
        )
        spec.output('dataset', valid_type=FramesData, help='Training and validation set in one.')
        spec.outline(
            cls.split,
            cls.train,
            cls.results,
        )
        add_exit_codes(spec, DATASET, NO_POTENTIAL)

    def split(self) -> ExitCode | None:
        """Split by origin."""
        previous = {'previous': self.inputs.previous} if 'previous' in self.inputs else {}
        try:
            self.ctx.sets = split_dataset(
                parameters=self.inputs.parameters,
                **previous,
                **self.inputs.labelled,
                metadata={'call_link_label': 'split'},
            )
        except ValueError as error:
            return self.exit_codes.ERROR_DATASET.format(message=error)
        self.out('dataset', self.ctx.sets['dataset'])
        return None

    def train(self) -> ToContext:
        """Submit the training of each member."""
        members = committee_parameters(
            parameters=self.inputs.parameters, metadata={'call_link_label': 'committee_parameters'}
        )
        self.ctx.members = list(members)
        previous = self.begun_with()
        start = {name: self.inputs[name] for name in ('foundation', 'replay') if name in self.inputs}
        return ToContext(
            **{
                name: self.submit(
                    MaceTrainBaseWorkChain,
                    job={
                        'code': self.inputs.worker_code,
                        'parameters': parameters,
                        'training': self.ctx.sets['training'],
                        'validation': self.ctx.sets['validation'],
                        **start,
                        **({'previous_potential': previous[name]} if name in previous else {}),
                        'metadata': {'options': dict(self.inputs.options)},
                    },
                    metadata={'call_link_label': name},
                )
                for name, parameters in members.items()
            }
        )

    def begun_with(self) -> dict[str, PotentialData]:
        """Return the potentials with whose weights members begin: none where the data did not only grow."""
        potentials = dict(self.inputs.get('previous_potentials', {}))
        if potentials and (lost := n_lost(self.inputs.previous, self.ctx.sets['dataset'])):
            self.report(
                f'trained from random weights: {lost} frame(s) of the round before have left the data or changed sides'
            )
            return {}
        return potentials

    def results(self) -> ExitCode | None:
        """Hand on the potentials; a member that failed makes the committee smaller."""
        trainings = [self.ctx[name] for name in self.ctx.members]
        for training in trainings:
            if not training.is_finished_ok:
                self.report(f'training <{training.pk}> failed: {training.exit_message}')
        trained = [training for training in trainings if training.is_finished_ok]
        if not trained:
            return self.exit_codes.ERROR_NO_POTENTIAL.format(message=trainings[0].exit_message)
        first, *others = trained
        self.out_many(self.exposed_outputs(first, MaceTrainBaseWorkChain))
        if others:
            self.out('committee', {f'member_{i}': node.outputs.potential for i, node in enumerate(others, start=1)})
        return None


def n_lost(before: FramesData, now: FramesData) -> int:
    """Return how many frames of a data set are not in a later one with the same energy and on the same side."""
    known = [
        {(a.info['frame_id'], a.info['split'], a.info['REF_energy']) for a in one.get_atoms()} for one in (before, now)
    ]
    return len(known[0] - known[1])


def _can_start(inputs: dict[str, Any], _namespace: Any) -> str | None:
    if 'parameters' not in inputs or 'labelled' not in inputs:
        return None
    labelled, potentials = list(inputs['labelled'].values()), inputs.get('previous_potentials', {})
    if potentials and 'previous' not in inputs:
        return (
            'previous: missing, but previous_potentials are given: without the data set of the round before, frames '
            'that they were trained on may validate; give it, or leave the potentials out'
        )
    if problem := check_previous(inputs['parameters'], labelled, potentials):
        return problem
    return check_start(inputs['parameters'], labelled, inputs.get('foundation'), inputs.get('replay'))
