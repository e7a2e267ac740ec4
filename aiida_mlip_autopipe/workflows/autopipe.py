"""The pipeline: from one structure to a potential, its data and its errors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from aiida import orm
from aiida.engine import ExitCode, ProcessBuilder, ProcessSpec, ToContext, if_, while_

from aiida_mlip_autopipe.calculations.functions.configure import change_configuration
from aiida_mlip_autopipe.calculations.functions.existing_data import adopt_data, choose_data_checks
from aiida_mlip_autopipe.calculations.functions.generate import generate_structures
from aiida_mlip_autopipe.calculations.functions.physics import join_isolated_atoms, physics_structures
from aiida_mlip_autopipe.calculations.functions.summarise import mark_hot_frames, summarise
from aiida_mlip_autopipe.data import FramesData, PotentialData
from aiida_mlip_autopipe.labelling.base import labeller_of
from aiida_mlip_autopipe.labelling.labels import branch_warning, pressure_warning
from aiida_mlip_autopipe.pipeline.exit_codes import (
    ISOLATED_ATOMS,
    NOTHING_NEW,
    OTHER_LEVEL_OF_THEORY,
    STAGE_FAILED,
    WARNINGS,
    add_exit_codes,
)
from aiida_mlip_autopipe.pipeline.outline import OUTLINE, Rounds, Step
from aiida_mlip_autopipe.pipeline.stages import (
    EVALUATE,
    EVALUATE_LABELS,
    EVALUATE_SURROGATE,
    EXPLORE,
    EXPLORE_TEST,
    GENERATE_SEEDS,
    LABEL,
    LABEL_DATA,
    LABEL_INITIAL,
    LABEL_PHYSICS,
    LABEL_TEST,
    PHYSICS,
    RELAX,
    TRAIN,
    TRAIN_BOOTSTRAP,
    Kind,
    Stage,
)
from aiida_mlip_autopipe.provenance.changes import changes_of
from aiida_mlip_autopipe.provenance.cost import core_hours
from aiida_mlip_autopipe.science.evaluation import REASONS_TO_STOP, missed_tolerances, tell_missed, why_to_stop
from aiida_mlip_autopipe.science.evaluation.label_consistency import cutoff_warning
from aiida_mlip_autopipe.science.parameters import EvaluationParameters, LoopParameters
from aiida_mlip_autopipe.science.registry import PHYSICS_CHECKS
from aiida_mlip_autopipe.science.systems import is_isolated_atom, isolated_atom_id
from aiida_mlip_autopipe.workflows.evaluation.physics import PhysicsWorkChain
from aiida_mlip_autopipe.workflows.inputs import (
    build_inputs,
    elements_of,
    expand_for,
    functional_mismatch,
    validate_configuration,
    validate_inputs,
)
from aiida_mlip_autopipe.workflows.labelling.sequence import define_labelling
from aiida_mlip_autopipe.workflows.source import PreparesSource

__all__ = ['AutoPipeWorkChain']


class AutoPipeWorkChain(PreparesSource):
    """Explore, label, train and evaluate until the tolerances hold, nothing new is found, or the budget is spent.

    What comes first: seeds are generated and labelled, together with the isolated atoms; without a surrogate a first
    potential is trained on them (bootstrap). The test set is drawn at random from dynamics of seeds that are used for
    nothing else, so no round ever trains on a relative of a test frame.
    """

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:  # type: ignore[override]
        """Define the ports, the outline and the exit codes."""
        super().define(spec)
        cls.define_inputs(spec)
        cls.define_outputs(spec)
        spec.outline(*cls.methods_of(OUTLINE))
        add_exit_codes(spec, STAGE_FAILED, ISOLATED_ATOMS, OTHER_LEVEL_OF_THEORY)

    @classmethod
    def methods_of(cls, steps: Iterable[Step]) -> Iterator[Any]:
        """Yield the methods of steps, as AiiDA's outline takes them; a stage that was submitted is inspected next."""
        for step in steps:
            if isinstance(step, Stage):
                yield getattr(cls, step.name)
                if step != GENERATE_SEEDS:
                    yield cls.inspect_stage
            elif isinstance(step, str):
                yield getattr(cls, step)
            else:
                build = while_ if isinstance(step, Rounds) else if_
                yield build(getattr(cls, step.condition))(*cls.methods_of(step.steps))

    @classmethod
    def define_inputs(cls, spec: ProcessSpec) -> None:
        """Define what a run starts from."""
        spec.input('structure', valid_type=(orm.StructureData, FramesData), help='The structure to start from.')
        spec.input(
            'surrogate',
            valid_type=PotentialData,
            required=False,
            help='The potential that explores first; without one it is bootstrapped from the labelled seeds.',
        )
        spec.input(
            'data',
            valid_type=FramesData,
            required=False,
            help='Labelled frames of earlier work, as science.existing_data.read_labelled gives them.',
        )
        spec.input(
            'replay',
            valid_type=FramesData,
            required=False,
            help='Frames on which a fine-tuned surrogate is not to be forgotten, for training.method: multihead.',
        )
        spec.input(
            'configuration',
            valid_type=orm.Dict,
            serializer=orm.to_aiida_type,
            validator=validate_configuration,
            help='The full configuration, as ConfigExpander makes it.',
        )
        spec.input('worker_code', valid_type=orm.AbstractCode, help='mlip-autopipe-worker on the computer to use.')
        define_labelling(spec)
        spec.inputs.validator = validate_inputs

    @classmethod
    def define_outputs(cls, spec: ProcessSpec) -> None:
        """Define what a run hands on, as far as it has come."""
        spec.output('potential', valid_type=PotentialData, required=False, help='The potential of the last round.')
        spec.output_namespace(
            'committee', valid_type=PotentialData, required=False, help='The other potentials of its committee.'
        )
        spec.output('dataset', valid_type=FramesData, required=False, help='All labelled frames but the test set.')
        spec.output('test_set', valid_type=FramesData, required=False, help='The labelled test frames.')
        spec.output('physics', valid_type=orm.Dict, required=False, help='Tables of the physics checks.')
        spec.output('summary', valid_type=orm.Dict, required=False, help='Errors of each round, side by side.')

    @classmethod
    def get_builder_from_protocol(
        cls,
        worker_code: orm.AbstractCode | str,
        labelling_code: orm.AbstractCode | str | None,
        structure: orm.StructureData | FramesData,
        protocol: str = 'fast',
        overrides: Mapping[str, Any] | None = None,
        surrogate: PotentialData | None = None,
        replay: FramesData | None = None,
        data: FramesData | None = None,
    ) -> ProcessBuilder:
        """Return a builder with all inputs set.

        :param worker_code: ``mlip-autopipe-worker`` (a node or its full label).
        :param labelling_code: the code that labels, such as ``pw.x`` (a node or its full label); None where it needs
            none.
        :param structure: the structure to start from.
        :param protocol: ``fast``, ``balanced`` or ``stringent``.
        :param overrides: sections of ``input.yaml`` (``exploration``, ``training`` ...) with the values to change.
        :param surrogate: the potential that explores first; None bootstraps one.
        :param replay: frames on which a fine-tuned surrogate is not to be forgotten.
        :param data: labelled frames of earlier work, as ``read_labelled`` gives them.
        :raises ValueError: if a value is out of its bounds, an element cannot be labelled or the surrogate does not
            know an element.
        """
        expansion = expand_for(structure, protocol, overrides or {}, surrogate, replay, data)
        return build_inputs(
            cls.get_builder(),
            expansion.configuration,
            structure=structure,
            surrogate=surrogate,
            replay=replay,
            data=data,
            worker_code=worker_code,
            labelling_code=labelling_code,
        )

    def start(self) -> None:
        """Derive the parameters of what comes first."""
        self.ctx.structure = self.inputs.structure
        self.ctx.configuration = self.inputs.configuration
        self.ctx.n_changes = 0
        self.ctx.round = 0
        self.ctx.n_labels = 0
        self.ctx.committee = {}
        self.ctx.labelled = {}
        self.ctx.summary = {}
        self.ctx.parameters = self.derive_parameters()
        if 'surrogate' in self.inputs:
            self.ctx.potential = self.inputs.surrogate

    def generate_seeds(self) -> None:
        """Generate seeds."""
        self.ctx.structures = generate_structures(
            structure=self.ctx.structure,
            parameters=self.ctx.parameters['generation'],
            labelling=self.ctx.parameters['labelling'],
            metadata={'call_link_label': GENERATE_SEEDS.label},
        )
        self.report(f'{self.ctx.structures["seeds"].n_frames} seeds generated')

    def has_data(self) -> bool:
        """Return whether there are labelled frames to begin with."""
        return 'data' in self.inputs

    def label_data(self) -> ToContext:
        """Label some frames of the data again."""
        checks = choose_data_checks(
            data=self.inputs.data,
            parameters=self.ctx.parameters['labelling'],
            metadata={'call_link_label': 'choose_data_checks'},
        )
        return self.submit_labelling(LABEL_DATA, checks)

    def adopt_data(self) -> ExitCode | None:
        """Take the data for labels of this run, if those that were made again are like it."""
        adopted = adopt_data(
            data=self.inputs.data,
            labelled_again=self.ctx.stage.outputs.labelled,
            parameters=self.ctx.parameters['labelling'],
            metadata={'call_link_label': 'adopt_data'},
        )
        if 'refused' in adopted:
            return self.exit_codes.ERROR_OTHER_LEVEL_OF_THEORY.format(message=adopted['refused'].value)
        self.ctx.labelled['data'] = adopted['labelled']
        self.report(f'{adopted["labelled"].n_frames} frames of data: {adopted["differences"].get_dict()}')
        return None

    def label_initial(self) -> ToContext:
        """Label isolated atoms and seeds."""
        return self.submit_labelling(LABEL_INITIAL, self.ctx.structures['initial'])

    def needs_a_surrogate(self) -> bool:
        """Return whether the first potential is bootstrapped."""
        return 'surrogate' not in self.inputs

    def train_bootstrap(self) -> ToContext | ExitCode:
        """Train a first potential on the labelled seeds."""
        return self.submit_training(TRAIN_BOOTSTRAP)

    def explore_test(self) -> ToContext | ExitCode:
        """Draw test frames at random from the dynamics of seeds that are used for nothing else."""
        seeds = self.ctx.labelled['round_0'].get_atoms()
        for warning in filter(None, (pressure_warning(seeds), cutoff_warning(seeds))):
            self.report(warning)
        return self.submit_exploration(EXPLORE_TEST, self.ctx.structures['test_seeds'])

    def label_test(self) -> ToContext:
        """Label the test frames."""
        return self.submit_labelling(LABEL_TEST, self.ctx.stage.outputs.candidates)

    def evaluate_surrogate(self) -> ToContext | ExitCode:
        """Judge the first potential: the figure that the rounds have to beat."""
        self.ctx.test_set = mark_hot_frames(
            labelled=self.ctx.stage.outputs.labelled,
            configuration=self.ctx.configuration,
            metadata={'call_link_label': 'mark_hot_frames'},
        )
        if all(atoms.info['split'] == 'hot' for atoms in self.ctx.test_set.get_atoms()):
            self.hand_on()
            return self.exit_codes.ERROR_STAGE_FAILED.format(
                stage=LABEL_TEST, message='only frames of the hotter test set were labelled'
            )
        return self.submit_evaluation(EVALUATE_SURROGATE, self.ctx.test_set)

    def should_continue(self) -> bool:
        """Return whether another round is due."""
        self.ctx.core_hours = sum(core_hours(self.node.pk).values())
        found_nothing = not self.found_something_new()
        if found_nothing:
            self.report(f'round {self.ctx.round} found nothing new to label: {self.ctx.stage.exit_message}')
        self.take_up_changes()
        configuration, errors = self.ctx.configuration, self.ctx.metrics['by_split']
        evaluation = EvaluationParameters(**configuration['evaluation'])
        self.ctx.why = why_to_stop(
            LoopParameters(**configuration['loop']),
            evaluation,
            errors,
            n_rounds=self.ctx.round,
            n_labels=self.ctx.n_labels,
            n_next=configuration['exploration']['n_to_select'],
            core_hours=self.ctx.core_hours,
            found_nothing=found_nothing,
        )
        if self.ctx.why is None:
            return True
        missed = tell_missed(missed_tolerances(errors, evaluation))
        above = f'; not clearly below the tolerance: {missed}' if missed else ''
        self.report(f'no further round after {self.ctx.round}: {REASONS_TO_STOP[self.ctx.why]}{above}')
        return False

    def take_up_changes(self) -> None:
        """Put what the user has asked for since the last round into the configuration."""
        for change in changes_of(self.node)[self.ctx.n_changes :]:
            self.ctx.n_changes += 1
            self.ctx.configuration = change_configuration(
                configuration=self.ctx.configuration,
                change=change,
                metadata={'call_link_label': f'change_{self.ctx.n_changes}'},
            )
            self.report(f'changed as asked: {change.get_dict()}')

    def explore(self) -> ToContext:
        """Explore from the seeds with the newest potential, for what is unlike everything labelled so far."""
        self.ctx.round += 1
        self.ctx.parameters = self.derive_parameters()
        return self.submit_exploration(
            EXPLORE.in_round(self.ctx.round), self.ctx.structures['seeds'], dict(self.ctx.labelled)
        )

    def found_something_new(self) -> bool:
        """Return whether the last stage has not just been an exploration that found nothing to label."""
        return self.ctx.stage.exit_status != NOTHING_NEW.status

    def label(self) -> ToContext:
        """Label the candidates."""
        exploration = self.ctx.stage
        self.ctx.summary[f'report_{self.ctx.round}'] = exploration.outputs.report
        return self.submit_labelling(LABEL.in_round(self.ctx.round), exploration.outputs.candidates)

    def evaluate_labels(self) -> ToContext:
        """Judge the potential that explored on the labels of what it found: what it was worth where it went."""
        return self.submit_evaluation(
            EVALUATE_LABELS.in_round(self.ctx.round), self.ctx.labelled[f'round_{self.ctx.round}']
        )

    def train(self) -> ToContext:
        """Train on everything labelled so far."""
        return self.submit_training(TRAIN.in_round(self.ctx.round))

    def evaluate(self) -> ToContext:
        """Judge the new potential on the test set."""
        self.ctx.summary[f'training_{self.ctx.round}'] = self.ctx.stage.outputs.metrics
        return self.submit_evaluation(EVALUATE.in_round(self.ctx.round), self.ctx.test_set)

    def finish(self) -> None:
        """Hand on the potential, the data and the summary."""
        self.hand_on()
        labeller = labeller_of(self.ctx.configuration['labelling'])
        warnings = (
            functional_mismatch(self.inputs.get('surrogate'), labeller, elements_of(self.inputs.structure)),
            pressure_warning(self.ctx.labelled['round_0'].get_atoms()),
            cutoff_warning(self.ctx.labelled['round_0'].get_atoms()),
            branch_warning([atoms for node in self.ctx.labelled.values() for atoms in node.get_atoms()]),
        )
        if any(warnings):
            self.ctx.summary['warning'] = orm.Str('. '.join(filter(None, warnings)))
        self.out(
            'summary',
            summarise(
                configuration=self.ctx.configuration,
                why=orm.Str(self.ctx.why),
                n_rounds=orm.Int(self.ctx.round),
                n_labels=orm.Int(self.ctx.n_labels),
                core_hours=orm.Float(self.ctx.core_hours),
                **self.ctx.summary,
                metadata={'call_link_label': 'summarise'},
            ),
        )

    def should_check_physics(self) -> bool:
        """Return whether the last potential is to be held against the physics of DFT."""
        return bool(self.ctx.configuration['physics']['checks'])

    def label_physics(self) -> ToContext:
        """Label the structures from which properties are computed."""
        structures = physics_structures(
            structure=self.ctx.structure,
            parameters=self.ctx.parameters['physics'],
            labelling=self.ctx.parameters['labelling'],
            metadata={'call_link_label': 'physics_structures'},
        )
        return self.submit_labelling(LABEL_PHYSICS, structures)

    def physics(self) -> ToContext:
        """Compare properties of the last potential with those of the labels."""
        labelled = self.ctx.stage.outputs.labelled
        if any(PHYSICS_CHECKS[name].needs_isolated_atoms for name in self.ctx.configuration['physics']['checks']):
            labelled = join_isolated_atoms(
                labelled=labelled,
                initial=self.ctx.labelled['round_0'],
                metadata={'call_link_label': 'join_isolated_atoms'},
            )
        job = self.job_on(labelled, 'physics')
        return self.submit_stage(PHYSICS, PhysicsWorkChain, {'job': job})

    def inspect_stage(self) -> ExitCode | None:
        """Take the results of the stage that just ended; a failed one ends the run, but what exists is handed on."""
        node, stage = self.ctx.stage, Stage.parse(self.ctx.stage_label)
        if stage is None or (not node.is_finished_ok and node.exit_status not in WARNINGS):
            self.hand_on()
            return self.exit_codes.ERROR_STAGE_FAILED.format(
                stage=f'{self.ctx.stage_label} <{node.pk}>', message=node.exit_message or node.process_state.value
            )
        if stage == RELAX:
            self.ctx.structure = node.outputs.structure
        elif stage.is_trained_on:
            self.ctx.labelled[f'round_{stage.round}'] = node.outputs.labelled
            if stage == LABEL_INITIAL and (missing := self.elements_without_isolated_atom()):
                rejected = node.outputs.rejected.get_dict()
                reasons = '; '.join(rejected.get(isolated_atom_id(symbol), 'no candidate') for symbol in missing)
                return self.exit_codes.ERROR_ISOLATED_ATOMS.format(elements=', '.join(missing), reasons=reasons)
        elif stage.kind is Kind.TRAIN:
            self.take_potential(stage, node.outputs)
        elif stage.judges_labels:
            self.ctx.summary[f'labels_{stage.round}'] = node.outputs.metrics
        elif stage.judges_potential:
            self.ctx.metrics = node.outputs.metrics
            self.ctx.summary[f'round_{stage.round}' if stage.round else 'surrogate'] = node.outputs.metrics
        elif stage == PHYSICS:
            self.out('physics', node.outputs.checks)
        return None

    def take_potential(self, stage: Stage, outputs: Any) -> None:
        """Go on with the potential that was trained, its committee and its data set."""
        self.ctx.potential = outputs.potential
        self.ctx.committee = dict(outputs.committee) if 'committee' in outputs else {}
        self.ctx.dataset = self.ctx.summary[f'dataset_{stage.round}'] = outputs.dataset

    def hand_on(self) -> None:
        """Attach what the run has reached."""
        reached = {'test_set': self.ctx.get('test_set'), 'dataset': self.ctx.get('dataset')}
        if 'dataset' in self.ctx:
            reached['potential'] = self.ctx.potential
            reached['committee'] = self.ctx.committee or None
        self.out_many({name: node for name, node in reached.items() if node is not None})

    def elements_without_isolated_atom(self) -> list[str]:
        """Return the elements whose isolated atom has no label."""
        frames = self.ctx.labelled['round_0'].get_atoms()
        found = {atoms.get_chemical_symbols()[0] for atoms in frames if is_isolated_atom(atoms)}
        return sorted(set(self.ctx.structures['seeds'].elements) - found)
