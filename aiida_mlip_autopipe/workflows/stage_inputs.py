"""What each stage of the pipeline is given: from the configuration and from what the run has reached."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.engine import ToContext, WorkChain

from aiida_mlip_autopipe.calculations.functions.configure import round_parameters
from aiida_mlip_autopipe.data import FramesData
from aiida_mlip_autopipe.pipeline.stages import Stage
from aiida_mlip_autopipe.workflows.evaluation.evaluate import EvaluationWorkChain
from aiida_mlip_autopipe.workflows.exploration.explorer import ExplorerWorkChain
from aiida_mlip_autopipe.workflows.labelling.engine import LabellingEngineWorkChain
from aiida_mlip_autopipe.workflows.training.engine import TrainingEngineWorkChain

__all__ = ['SubmitsStages']


class SubmitsStages(WorkChain):
    """A WorkChain that submits the stages of the pipeline.

    It expects in its context the ``configuration``, the ``round``, the ``parameters`` of the round, the newest
    ``potential`` and its ``committee``, the ``labelled`` sets by name, and ``n_labels``, the labels asked for so far.
    """

    def derive_parameters(self) -> dict[str, orm.Dict]:
        """Derive the parameters of this round's stages."""
        judged = {'metrics': self.ctx.metrics} if 'metrics' in self.ctx else {}
        return round_parameters(
            configuration=self.ctx.configuration,
            round_number=orm.Int(self.ctx.round),
            **judged,
            metadata={'call_link_label': f'parameters_r{self.ctx.round}'},
        )

    def submit_exploration(
        self, stage: Stage, seeds: FramesData, known: dict[str, FramesData] | None = None
    ) -> ToContext:
        """Submit the Explorer."""
        exploration = self.ctx.configuration['exploration']
        inputs = {
            'worker_code': self.inputs.worker_code,
            'potential': self.ctx.potential,
            'seeds': seeds,
            'known': known or {},
            'dynamics': self.ctx.parameters['dynamics'],
            'sampling': self.ctx.parameters['sampling'],
            'n_jobs': orm.Int(exploration['n_jobs']),
            'max_concurrent': orm.Int(exploration['max_concurrent']),
            'keep_frames': orm.Str(exploration['keep_frames']),
            'options': self.ctx.configuration['options']['worker'],
        }
        if self.ctx.committee:
            inputs['committee'] = self.ctx.committee
        if exploration['stash_folder'] is not None:
            inputs['stash_folder'] = orm.Str(exploration['stash_folder'])
        return self.submit_stage(stage, ExplorerWorkChain, inputs)

    def submit_labelling(self, stage: Stage, candidates: FramesData) -> ToContext:
        """Submit the LabellingEngine."""
        self.ctx.n_labels += candidates.n_frames
        return self.submit_stage(
            stage,
            LabellingEngineWorkChain,
            {
                'candidates': candidates,
                'parameters': self.ctx.parameters['labelling'],
                'labelling': dict(self.inputs.get('labelling', {})),
                'options': self.ctx.configuration['options']['labelling'],
            },
        )

    def submit_training(self, stage: Stage) -> ToContext:
        """Submit the TrainingEngine."""
        inputs = {
            'worker_code': self.inputs.worker_code,
            'parameters': self.ctx.parameters['training'],
            'labelled': dict(self.ctx.labelled),
            'options': self.ctx.configuration['options']['worker'],
        }
        training = self.ctx.configuration['training']
        if 'dataset' in self.ctx:
            inputs['previous'] = self.ctx.dataset
            if training['method'] == 'scratch' and training.get('warm_start', False):
                inputs['previous_potentials'] = {'member_0': self.ctx.potential, **self.ctx.committee}
        if training['method'] != 'scratch':
            inputs['foundation'] = self.inputs.surrogate
        if 'replay' in self.inputs:
            inputs['replay'] = self.inputs.replay
        return self.submit_stage(stage, TrainingEngineWorkChain, inputs)

    def submit_evaluation(self, stage: Stage, frames: FramesData) -> ToContext:
        """Submit the evaluation of the newest potential, and of its committee, on labelled frames."""
        job = self.job_on(frames, 'evaluation')
        if self.ctx.committee:
            job['committee'] = self.ctx.committee
        return self.submit_stage(stage, EvaluationWorkChain, {'job': job})

    def job_on(self, frames: FramesData, parameters: str) -> dict[str, Any]:
        """Return the inputs of a job that judges the newest potential on labelled frames."""
        return {
            'code': self.inputs.worker_code,
            'parameters': self.ctx.parameters[parameters],
            'potential': self.ctx.potential,
            'frames': frames,
            'metadata': {'options': dict(self.ctx.configuration['options']['worker'])},
        }

    def submit_stage(self, stage: Stage, workchain: type[WorkChain], inputs: dict[str, Any]) -> ToContext:
        """Submit a stage under its label; ``inspect_stage`` takes its results."""
        node = self.submit(workchain, **inputs, metadata={'call_link_label': stage.label})
        self.report(f'{stage.label}: {workchain.__name__}<{node.pk}>')
        self.ctx.stage_label = stage.label
        return ToContext(stage=node)
