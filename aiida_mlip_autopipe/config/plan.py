"""What a configuration would run: counts that are exact, and times that follow from measured speeds.

The seeds are really generated and the replicas really listed, by the code that the run itself uses, so that their
numbers are those of the run. What depends on what is found (candidates, frames after a guard, the number of rounds) is
at its upper bound. A time is a count times a speed; where no speed was measured there is no time, rather than a guess.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ase import Atoms

from aiida_mlip_autopipe.config.relaxation import NONE
from aiida_mlip_autopipe.config.schema import Configuration
from aiida_mlip_autopipe.pipeline.outline import stages_that_run
from aiida_mlip_autopipe.pipeline.stages import (
    CHOOSE_STATE,
    EVALUATE,
    LABEL_DATA,
    LABEL_INITIAL,
    LABEL_PHYSICS,
    PHYSICS,
    Kind,
    Stage,
)
from aiida_mlip_autopipe.science.dynamics.replicas import Cost, ReplicaPlan
from aiida_mlip_autopipe.science.existing_data import spread_over
from aiida_mlip_autopipe.science.generate import StructureGenerator
from aiida_mlip_autopipe.science.parameters import LABELLERS, DynamicsParameters
from aiida_mlip_autopipe.science.registry import PHYSICS_CHECKS

__all__ = ['COUNTS', 'Hours', 'Plan', 'PlannedStage', 'Rate', 'Speeds', 'make_plan']

SHARD_BYTES = 16_000
"""What an H5MD file takes before its first frame; measured on the shards of a run."""
RELAXATION_LABELS = (4, 40)
"""So many labels does a relaxation take, in time."""
COUNTS = (
    'relaxations',
    'seeds',
    'replicas',
    'md_steps',
    'frames',
    'bytes',
    'labels',
    'trainings',
    'training_steps',
    'evaluations',
)


@dataclass(frozen=True)
class Rate:
    """A measured speed, as what a unit of work takes.

    Attributes
    ----------
    least_s, most_s : float
        Seconds of a core, or of a GPU: the range that was measured. ``least_s`` 0: only an upper bound is known.
    basis : str
        What was measured, in words.
    on : str
        'core' or 'GPU'.
    """

    least_s: float
    most_s: float
    basis: str
    on: str = 'core'

    def times(self, least: float, most: float | None = None) -> Hours:
        """Return the hours of so many units."""
        return Hours(self.least_s * least / 3600, self.most_s * (least if most is None else most) / 3600, self.on)


@dataclass(frozen=True)
class Hours:
    """A range of hours of a core or of a GPU."""

    least: float
    most: float
    on: str = 'core'


def _nothing_measured(atoms: Atoms) -> Rate | None:
    return None


@dataclass(frozen=True)
class Speeds:
    """What was measured; None where nothing was.

    Attributes
    ----------
    dynamics : Rate or None
        For an atom in a force call.
    training : Rate or None
        For a frame in a step of one potential, a batch being several frames.
    evaluation : Rate or None
        For a job.
    label : callable
        A structure (``info['config_type']`` tells an isolated atom) -> rate of its label.
    missing : mapping
        'dynamics', 'training', 'evaluation' or 'label' -> what would measure it, in words.
    """

    dynamics: Rate | None = None
    training: Rate | None = None
    evaluation: Rate | None = None
    label: Callable[[Atoms], Rate | None] = _nothing_measured
    missing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PlannedStage:
    """A stage of the run and what is counted in it; what is not is 0.

    Attributes
    ----------
    stage : Stage
    relaxations, seeds, replicas, md_steps, frames, bytes, labels, trainings, training_steps, evaluations : int
        Frames, bytes and labels are upper bounds; steps are those of the optimiser, in all trainings of the stage.
    hours : Hours or None
        None where it was not measured.
    basis : str
        What the hours rest on, or what would measure them.
    """

    stage: Stage
    relaxations: int = 0
    seeds: int = 0
    replicas: int = 0
    md_steps: int = 0
    frames: int = 0
    bytes: int = 0
    labels: int = 0
    trainings: int = 0
    training_steps: int = 0
    evaluations: int = 0
    hours: Hours | None = None
    basis: str = ''

    @property
    def name(self) -> str:
        """Return the label under which the run calls it: ``explore_r1``."""
        return self.stage.label

    @property
    def kind(self) -> Kind:
        """Return the kind of work."""
        return self.stage.kind

    @property
    def is_measured(self) -> bool:
        """Return whether its hours are known, or not worth telling: seeds take seconds."""
        return self.hours is not None or self.kind is Kind.GENERATE


@dataclass(frozen=True)
class Plan:
    """All stages in order, if all rounds run that the budget of labels admits, and what the user should know.

    Attributes
    ----------
    stages : tuple of PlannedStage
    n_rounds : int
        Rounds in it.
    warnings : tuple of str
        What ends the run sooner than ``loop.max_rounds``.
    """

    stages: tuple[PlannedStage, ...]
    n_rounds: int
    warnings: tuple[str, ...]

    def totals(self) -> dict[str, int]:
        """Return each count, summed over the stages."""
        return {name: sum(getattr(stage, name) for stage in self.stages) for name in COUNTS}

    def hours(self, kind: Kind | None = None) -> dict[str, Hours]:
        """Return the hours, summed over the stages (of a kind) that are measured: 'core' and 'GPU', those there are."""
        known = [stage.hours for stage in self.stages if stage.hours is not None and kind in (None, stage.kind)]
        return {
            on: Hours(
                sum(one.least for one in known if one.on == on), sum(one.most for one in known if one.on == on), on
            )
            for on in dict.fromkeys(one.on for one in known)
        }

    def unmeasured(self) -> dict[str, str]:
        """Return the kinds of stages without hours, and what would measure them."""
        return {stage.kind.value: stage.basis for stage in self.stages if not stage.is_measured}

    def as_dict(self) -> dict[str, Any]:
        """Return plain data, with the units in the keys."""
        return {
            'n_rounds': self.n_rounds,
            'stages': [_plain(stage) for stage in self.stages],
            'totals': {**self.totals(), **_plain_hours(self.hours().values())},
            'not_measured': self.unmeasured(),
        }


def make_plan(
    configuration: Configuration,
    sources: Sequence[Atoms],
    speeds: Speeds | None = None,
    data: Sequence[Atoms] = (),
) -> Plan:
    """Return what a run of a full configuration would do.

    Parameters
    ----------
    configuration : Configuration
        As ``ConfigExpander`` makes it.
    sources : sequence of Atoms
        The structures that the seeds are made from.
    speeds : Speeds, optional
        What was measured where it would run.
    data : sequence of Atoms, optional
        The labelled frames of earlier work.

    Raises
    ------
    ValueError
        If the seeds cannot be generated, or do not fit the dynamics.
    """
    planner = _Planner(configuration, sources, speeds or Speeds(), data)
    for stage in stages_that_run(planner.holds):
        planner.add(stage)
    in_rounds = [one for one in planner.stages if one.stage not in (LABEL_PHYSICS, PHYSICS)]
    warnings = [*planner.warnings, *_core_hours_warning(configuration, in_rounds)]
    return Plan(tuple(planner.stages), planner.n_rounds, tuple(warnings))


class _Planner:
    """Counts the stages one after the other; it remembers how many frames there are to train on."""

    def __init__(
        self, configuration: Configuration, sources: Sequence[Atoms], speeds: Speeds, data: Sequence[Atoms]
    ) -> None:
        self.configuration, self.sources, self.speeds, self.data = configuration, sources, speeds, data
        self.states = LABELLERS[configuration.labelling.kind](configuration.labelling).states(sources[0])
        generator = StructureGenerator(configuration.generation)
        self.seeds = generator.generate(sources)
        self.test_seeds = generator.generate_test_seeds(sources)
        elements = sorted({symbol for atoms in sources for symbol in atoms.symbols})
        self.initial = [*generator.isolated_atoms(elements), *self.seeds]
        self.stages: list[PlannedStage] = []
        self.warnings: list[str] = []
        self.n_rounds = 0
        self.has_committee = False
        self.n_labelled = len(data)
        self._costs: dict[str, tuple[Cost, list[Atoms]]] = {}

    def holds(self, condition: str) -> bool:
        """Return whether a condition of the outline is taken to hold: all rounds run that the budget admits."""
        known = {
            'should_relax': lambda: self.configuration.system.relax not in (None, NONE),
            'should_choose_state': lambda: bool(self.states),
            'has_data': lambda: bool(self.data),
            'needs_a_surrogate': lambda: self.configuration.surrogate == 'bootstrap',
            'should_continue': self._should_continue,
            'found_something_new': lambda: True,
            'should_check_physics': lambda: bool(self.configuration.physics.checks),
        }
        return known[condition]()

    def _should_continue(self) -> bool:
        """Return whether the budgets of rounds and labels admit another round; warn of labels that end the run."""
        loop, next_labels = self.configuration.loop, self.configuration.exploration.n_to_select
        if self.n_rounds == loop.max_rounds:
            return False
        n_labels = sum(stage.labels for stage in self.stages)
        if loop.max_labels is not None and n_labels + next_labels > loop.max_labels:
            self.warnings.append(
                f'loop.max_labels: {loop.max_labels} ends the run after round {self.n_rounds} of {loop.max_rounds}, '
                f'with {n_labels} labels; another round may ask for {next_labels}. Raise it to at least '
                f'{n_labels + next_labels * (loop.max_rounds - self.n_rounds)} for all rounds, or lower loop.max_rounds'
            )
            return False
        self.n_rounds += 1
        return True

    def add(self, stage: Stage) -> None:
        """Count a stage."""
        counts = {
            Kind.RELAX: self._relaxation,
            Kind.CHOOSE: self._labelling,
            Kind.GENERATE: self._generation,
            Kind.LABEL: self._labelling,
            Kind.TRAIN: self._training,
            Kind.EXPLORE: self._exploration,
            Kind.EVALUATE: self._evaluation,
            Kind.PHYSICS: self._checks,
        }
        planned = counts[stage.kind](stage)
        self.stages.append(planned)
        if stage.is_trained_on:
            self.n_labelled += planned.labels

    def _relaxation(self, stage: Stage) -> PlannedStage:
        """Return the relaxations; how many steps each takes is known within a range."""
        rates = [self.speeds.label(atoms) for atoms in self.sources]
        planned = PlannedStage(stage, relaxations=len(self.sources))
        known = [rate for rate in rates if rate is not None]
        if len(known) < len(rates):
            return replace(planned, basis=self.speeds.missing.get('label', ''))
        least, most = RELAXATION_LABELS
        hours = Hours(least * sum(one.least_s for one in known) / 3600, most * sum(one.most_s for one in known) / 3600)
        return replace(planned, hours=hours, basis=f'{least} to {most} labels of each structure; {known[0].basis}')

    def _generation(self, stage: Stage) -> PlannedStage:
        return PlannedStage(stage, seeds=len(self.seeds) + len(self.test_seeds))

    def _exploration(self, stage: Stage) -> PlannedStage:
        dynamics = self._dynamics(stage)
        cost, alike = self._cost(stage)
        n_others = self.configuration.training.committee_size - 1 if self.has_committee else 0
        frames_atoms = n_others * cost.n_frames * max(len(atoms) for atoms in alike)
        return PlannedStage(
            stage,
            replicas=cost.n_replicas,
            md_steps=cost.n_replicas * (dynamics.n_steps + dynamics.equilibration_steps),
            frames=cost.n_frames,
            bytes=round(cost.megabytes * 1e6) + SHARD_BYTES * cost.n_replicas,
            **_timed(self.speeds.dynamics, self.speeds, 'dynamics', cost.atom_steps + frames_atoms),
        )

    def _dynamics(self, stage: Stage) -> DynamicsParameters:
        """Return the dynamics of a round; those of the test set have a hotter part, too."""
        exploration, hot_factor = self.configuration.exploration, self.configuration.evaluation.hot_factor
        dynamics, temperatures = exploration.dynamics(), list(exploration.temperatures_K)
        if stage.round or hot_factor is None:
            return dynamics
        ends = [end for one in temperatures for end in (one if isinstance(one, tuple) else (one,))]
        return dynamics.model_copy(update={'temperatures_K': [*temperatures, hot_factor * max(ends)]})

    def _cost(self, stage: Stage) -> tuple[Cost, list[Atoms]]:
        """Return what an exploration asks for, and a frame of each formula; the rounds differ in random seeds alone."""
        which = 'round' if stage.round else 'test'
        if which not in self._costs:
            seeds = self.seeds if stage.round else self.test_seeds
            replicas = ReplicaPlan(seeds, self._dynamics(stage))
            first = {str(seeds[one.seed_index].symbols): one for one in reversed(replicas.replicas)}
            self._costs[which] = replicas.cost(), [replicas.atoms(one) for one in first.values()]
        return self._costs[which]

    def _to_label(self, stage: Stage) -> tuple[Sequence[Atoms], int]:
        """Return what a stage labels, or frames that are like it, and how many."""
        if stage == LABEL_DATA:
            found = [self.data[index] for index in spread_over(self.data, self.configuration.labelling.n_data_checks)]
            return found, len(found)
        if stage == CHOOSE_STATE:
            return [self.sources[0]] * len(self.states), len(self.states)
        if stage == LABEL_INITIAL:
            return self.initial, len(self.initial)
        if stage == LABEL_PHYSICS:
            from aiida_mlip_autopipe.science.evaluation.physics import reference_structures

            structures = reference_structures(self.sources[0], self.configuration.physics)
            return structures, len(structures)
        cost, alike = self._cost(stage)
        wanted = self.configuration.exploration.n_to_select if stage.round else self.configuration.evaluation.n_test
        return alike, min(wanted, cost.n_frames)

    def _labelling(self, stage: Stage) -> PlannedStage:
        structures, n_labels = self._to_label(stage)
        by_kind: dict[tuple[str, Any], list[Atoms]] = {}
        for atoms in structures:
            by_kind.setdefault((str(atoms.symbols), atoms.info.get('config_type')), []).append(atoms)
        rates = [(self.speeds.label(alike[0]), len(alike)) for alike in by_kind.values()]
        planned = PlannedStage(stage, labels=n_labels)
        known = [(rate, number) for rate, number in rates if rate is not None]
        if len(known) < len(rates):
            return replace(planned, basis=self.speeds.missing.get('label', ''))
        basis = '; '.join(dict.fromkeys(rate.basis for rate, _ in known))
        if n_labels == len(structures):
            least = sum(rate.least_s * number for rate, number in known)
            most = sum(rate.most_s * number for rate, number in known)
        else:
            least = n_labels * min(rate.least_s for rate, _ in known)
            most = n_labels * max(rate.most_s for rate, _ in known)
        return replace(planned, hours=Hours(least / 3600, most / 3600), basis=basis)

    def _training(self, stage: Stage) -> PlannedStage:
        training = self.configuration.training
        steps = training.committee_size * training.n_steps
        self.has_committee = training.committee_size > 1
        return PlannedStage(
            stage,
            trainings=training.committee_size,
            training_steps=steps,
            **_timed(self.speeds.training, self.speeds, 'training', steps * training.batch_size),
        )

    def _evaluation(self, stage: Stage) -> PlannedStage:
        return PlannedStage(stage, evaluations=1, **_timed(self.speeds.evaluation, self.speeds, 'evaluation', 1))

    def _checks(self, stage: Stage) -> PlannedStage:
        """Return the physics checks; beside the dynamics in them the rest takes little time."""
        parameters = self.configuration.physics
        n_steps = sum(PHYSICS_CHECKS[name].n_steps(parameters) for name in parameters.checks)
        timed = _timed(self.speeds.dynamics, self.speeds, 'dynamics', n_steps * parameters.supercell_atoms)
        return PlannedStage(stage, evaluations=1, **timed)


def _timed(rate: Rate | None, speeds: Speeds, name: str, units: float) -> dict[str, Any]:
    if rate is None:
        return {'basis': speeds.missing.get(name, '')}
    return {'hours': rate.times(units), 'basis': rate.basis}


def _core_hours_warning(configuration: Configuration, stages: Sequence[PlannedStage]) -> list[str]:
    """Return what the budget of core hours comes to, where the measured stages alone spend it before the last round."""
    budget = configuration.loop.max_core_hours
    if budget is None:
        return []
    spent, n_done = 0.0, 0
    for stage in stages:
        spent += stage.hours.most if stage.hours is not None else 0.0
        if stage.stage == EVALUATE.in_round(n_done + 1):
            n_done += 1
        if spent >= budget:
            break
    if spent < budget or n_done == configuration.loop.max_rounds:
        return []
    return [
        f'loop.max_core_hours: {budget:g} may be spent in round {n_done + 1} of {configuration.loop.max_rounds}, and '
        'no round begins after that; raise it, or lower loop.max_rounds, exploration.n_to_select or exploration.n_steps'
    ]


def _plain(stage: PlannedStage) -> dict[str, Any]:
    hours = [] if stage.hours is None else [stage.hours]
    counts = {name: getattr(stage, name) for name in COUNTS}
    return {'name': stage.name, 'kind': stage.kind.value, **counts, 'basis': stage.basis, **_plain_hours(hours)}


def _plain_hours(hours: Iterable[Hours]) -> dict[str, Any]:
    found = {f'{one.on.lower()}_hours': {'least': one.least, 'most': one.most} for one in hours}
    return {name: found.get(name) for name in ('core_hours', 'gpu_hours')}
