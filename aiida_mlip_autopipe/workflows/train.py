"""The training stage: split by origin, train, judge what came out."""

from __future__ import annotations

from aiida import orm
from aiida.engine import ExitCode, ProcessSpec, ToContext, WorkChain

from aiida_mlip_autopipe.calculations.functions import split_dataset
from aiida_mlip_autopipe.calculations.worker_job import validate_parameters
from aiida_mlip_autopipe.data import FramesData
from aiida_mlip_autopipe.science.parameters import TrainingParameters

from .mace_train_base import MaceTrainBaseWorkChain

__all__ = ['TrainingEngineWorkChain']


class TrainingEngineWorkChain(WorkChain):
    """Train a potential on all labelled sets."""

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
        spec.input('options', valid_type=dict, non_db=True, default=dict, help='metadata.options of the job.')
        spec.expose_outputs(MaceTrainBaseWorkChain, exclude=('remote_folder', 'retrieved', 'remote_stash'))
        spec.output('dataset', valid_type=FramesData, help='Training and validation set in one.')
        spec.outline(
            cls.split,
            cls.train,
            cls.results,
        )
        spec.exit_code(340, 'ERROR_DATASET', message='The labelled sets cannot be split: {message}')
        spec.exit_code(341, 'ERROR_TRAINING_FAILED', message='{message}')

    def split(self) -> ExitCode | None:
        """Split by origin."""
        try:
            self.ctx.sets = split_dataset(
                parameters=self.inputs.parameters, **self.inputs.labelled, metadata={'call_link_label': 'split'}
            )
        except ValueError as error:
            return self.exit_codes.ERROR_DATASET.format(message=error)
        self.out('dataset', self.ctx.sets['dataset'])
        return None

    def train(self) -> ToContext:
        """Submit the training."""
        return ToContext(
            training=self.submit(
                MaceTrainBaseWorkChain,
                job={
                    'code': self.inputs.worker_code,
                    'parameters': self.inputs.parameters,
                    'training': self.ctx.sets['training'],
                    'validation': self.ctx.sets['validation'],
                    'metadata': {'options': dict(self.inputs.options)},
                },
                metadata={'call_link_label': 'training'},
            )
        )

    def results(self) -> ExitCode | None:
        """Hand on the potential."""
        training = self.ctx.training
        if not training.is_finished_ok:
            return self.exit_codes.ERROR_TRAINING_FAILED.format(message=training.exit_message)
        self.out_many(self.exposed_outputs(training, MaceTrainBaseWorkChain))
        return None
