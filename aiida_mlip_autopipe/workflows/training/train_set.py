"""A training by itself: from a set of labelled frames to a potential, its errors and what limits it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.engine import ExitCode, ProcessBuilder, ProcessSpec, ToContext

from aiida_mlip_autopipe.calculations.functions.train_set import divide_set, summarise_training, training_parameters
from aiida_mlip_autopipe.config.training import TrainConfiguration, training_configuration
from aiida_mlip_autopipe.data import FramesData, PotentialData
from aiida_mlip_autopipe.pipeline.exit_codes import DATASET, STAGE_FAILED, add_exit_codes
from aiida_mlip_autopipe.pipeline.stages import EVALUATE, TRAIN
from aiida_mlip_autopipe.workflows.inputs import find_code
from aiida_mlip_autopipe.workflows.stage_inputs import SubmitsStages

__all__ = ['TrainSetWorkChain']


def _validate_configuration(node: orm.Dict, _port: object) -> str | None:
    try:
        TrainConfiguration(**node.get_dict())
    except ValueError as error:
        return str(error)
    return None


class TrainSetWorkChain(SubmitsStages):
    """Divide a labelled set, train a potential or a committee on it, judge it on test frames.

    The stages are those of a round of the pipeline, and named so: what tells of a run tells of this one.
    """

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:  # type: ignore[override]
        """Define the ports and the outline."""
        super().define(spec)
        spec.input('data', valid_type=FramesData, help='Labelled frames.')
        spec.input(
            'test', valid_type=FramesData, required=False, help='Labelled test frames; without them some are held out.'
        )
        spec.input('surrogate', valid_type=PotentialData, required=False, help='The potential to fine-tune.')
        spec.input('replay', valid_type=FramesData, required=False, help='Frames to replay, for multihead.')
        spec.input(
            'configuration',
            valid_type=orm.Dict,
            serializer=orm.to_aiida_type,
            validator=_validate_configuration,
            help='The full configuration, as config.training makes it.',
        )
        spec.input('worker_code', valid_type=orm.AbstractCode, help='mlip-autopipe-worker on the computer to use.')
        spec.output('potential', valid_type=PotentialData, required=False, help='The trained potential.')
        spec.output_namespace(
            'committee', valid_type=PotentialData, required=False, help='The other potentials of its committee.'
        )
        spec.output('dataset', valid_type=FramesData, required=False, help='Training and validation set in one.')
        spec.output('test_set', valid_type=FramesData, required=False, help='The labelled test frames.')
        spec.output('summary', valid_type=orm.Dict, required=False, help='Errors, and what limits the potential.')
        spec.outline(cls.divide, cls.train, cls.evaluate, cls.finish)
        add_exit_codes(spec, DATASET, STAGE_FAILED)

    @classmethod
    def get_builder_from_protocol(
        cls,
        worker_code: orm.AbstractCode | str,
        data: FramesData,
        protocol: str = 'fast',
        overrides: Mapping[str, Any] | None = None,
        test: FramesData | None = None,
        surrogate: PotentialData | None = None,
        replay: FramesData | None = None,
    ) -> ProcessBuilder:
        """Return a builder with all inputs set.

        :param worker_code: ``mlip-autopipe-worker`` (a node or its full label).
        :param data: labelled frames, such as ``FramesData.from_atoms(training_set(frames).frames)``.
        :param protocol: ``fast``, ``balanced`` or ``stringent``.
        :param overrides: keys and sections of the input (``test_fraction``, ``training`` ...) with the values to
            change.
        :param test: labelled test frames; without them some origins of the data are held out.
        :param surrogate: the potential to fine-tune.
        :param replay: frames on which a fine-tuned surrogate is not to be forgotten.
        :raises ValueError: if a value is out of its bounds, or the code is missing.
        """
        nodes = {'data': data, 'test': test, 'surrogate': surrogate, 'replay': replay}
        given = {name: f'node:{node.uuid}' for name, node in nodes.items() if node is not None}
        configuration = training_configuration({**(overrides or {}), **given, 'protocol': protocol})
        return cls.build(configuration, worker_code, nodes)

    @classmethod
    def build(
        cls, configuration: TrainConfiguration, worker_code: orm.AbstractCode | str, nodes: Mapping[str, Any]
    ) -> ProcessBuilder:
        """Return a builder for a configuration and the nodes that it names.

        :raises ValueError: if the code is missing.
        """
        builder: Any = cls.get_builder()
        builder.worker_code = find_code(worker_code, 'codes.worker')
        builder.configuration = orm.Dict(configuration.model_dump(mode='json'))
        for name, node in nodes.items():
            if node is not None:
                builder[name] = node
        builder.metadata.description = f'training on {nodes["data"].n_frames} frames, {configuration.protocol}'
        return builder

    def divide(self) -> ExitCode | None:
        """Judge the set and hold out what tests."""
        self.ctx.configuration = self.inputs.configuration
        self.ctx.committee = {}
        self.ctx.warning = {}
        self.ctx.parameters = training_parameters(
            configuration=self.inputs.configuration, metadata={'call_link_label': 'parameters'}
        )
        given = {'test': self.inputs.test} if 'test' in self.inputs else {}
        try:
            sets = divide_set(
                data=self.inputs.data,
                configuration=self.inputs.configuration,
                **given,
                metadata={'call_link_label': 'divide'},
            )
        except ValueError as error:
            return self.exit_codes.ERROR_DATASET.format(message=error)
        self.ctx.labelled = {'data': sets['labelled']}
        self.ctx.test_set = sets['test_set']
        self.ctx.warning = {name: sets[name] for name in ('warning',) if name in sets}
        self.out('test_set', self.ctx.test_set)
        return None

    def train(self) -> ToContext:
        """Train on what is not held out."""
        return self.submit_training(TRAIN.in_round(1))

    def evaluate(self) -> ToContext | ExitCode:
        """Judge the potential on the test set."""
        if not self.ctx.stage.is_finished_ok:
            return self.failed()
        outputs = self.ctx.stage.outputs
        self.ctx.potential, self.ctx.metrics = outputs.potential, outputs.metrics
        self.out_many({'potential': outputs.potential, 'dataset': outputs.dataset})
        if 'committee' in outputs:
            self.ctx.committee = dict(outputs.committee)
            self.out('committee', self.ctx.committee)
        return self.submit_evaluation(EVALUATE.in_round(1), self.ctx.test_set)

    def finish(self) -> ExitCode | None:
        """Put the errors side by side."""
        if not self.ctx.stage.is_finished_ok:
            return self.failed()
        self.out(
            'summary',
            summarise_training(
                configuration=self.inputs.configuration,
                training=self.ctx.metrics,
                evaluation=self.ctx.stage.outputs.metrics,
                **self.ctx.warning,
                metadata={'call_link_label': 'summarise'},
            ),
        )
        return None

    def failed(self) -> ExitCode:
        """Return that the last stage failed, and why."""
        node = self.ctx.stage
        return self.exit_codes.ERROR_STAGE_FAILED.format(
            stage=f'{self.ctx.stage_label} <{node.pk}>', message=node.exit_message or node.process_state.value
        )
