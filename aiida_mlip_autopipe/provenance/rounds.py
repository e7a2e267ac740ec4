"""What the rounds of a run left in the graph: explorations, evaluations, trainings, and what became of each candidate.

Also of a run that is at work or has failed: what is there so far, stage by stage, by the link labels of the run.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from aiida import orm
from ase import Atoms

from aiida_mlip_autopipe.calculations.functions.summarise import Summary
from aiida_mlip_autopipe.data import FramesData, PotentialData
from aiida_mlip_autopipe.labelling.base import Labeller, labeller_of, labeller_of_process
from aiida_mlip_autopipe.pipeline.stages import Kind, Stage
from aiida_mlip_autopipe.provenance.calls import Call, call_tree, in_time, stage_of
from aiida_mlip_autopipe.provenance.dynamics import last_attempts, manifests_of
from aiida_mlip_autopipe.provenance.states import MACE_MD, Candidate, CandidateState, candidate_sets, candidate_states
from aiida_mlip_autopipe.science.evaluation.records import Errors, Metrics
from aiida_mlip_autopipe.science.frames import Manifest, ReplicaEntry
from aiida_mlip_autopipe.science.systems import is_isolated_atom
from aiida_mlip_autopipe.worker.files import RESULT_FILE

__all__ = [
    'CandidateRecord',
    'Evaluated',
    'Explored',
    'MdJob',
    'RunRecord',
    'Trained',
    'outputs_of',
    'versions_of_labels',
    'versions_told',
]

WORKER_JOBS = 'aiida.calculations:mlip_autopipe.'
SAMPLING = f'{WORKER_JOBS}direct_sampling'
FIGURES_FILE = 'figures/figures.json'


@dataclass(frozen=True)
class MdJob:
    """An MD job that wrote frames: its PK and its manifest."""

    pk: int
    manifest: Manifest


@dataclass(frozen=True)
class Explored:
    """One exploration.

    Attributes
    ----------
    stage : Stage
    jobs : list of MdJob
        In the order in which the sampling knows their folders.
    sampling_pk : int or None
        None until it has ended.
    report, figures : dict
        What the sampling said, and what its figures show; empty where there is none.
    frames : dict of ndarray
        Of some of the frames, evenly chosen, and of all that were selected: columns as `overview` makes them; empty
        where the sampling left none.
    candidates : FramesData or None
        What was selected.
    """

    stage: Stage
    jobs: list[MdJob]
    sampling_pk: int | None = None
    report: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    frames: dict[str, np.ndarray] = field(default_factory=dict)
    candidates: FramesData | None = None


@dataclass(frozen=True)
class Evaluated:
    """One evaluation: its stage, the potential that it judged, its errors and predictions."""

    stage: Stage
    potential_uuid: str
    metrics: Metrics
    _predictions: orm.ArrayData

    def on(self, split: str) -> Errors | None:
        """Return the errors on the frames of a split, 'test' or 'hot'; None where there are none."""
        return self.metrics['by_split'].get(split)

    @cached_property
    def predictions(self) -> dict[str, np.ndarray]:
        """Return the predictions beside the labels, as `science.evaluation.Evaluation` has them."""
        return _arrays(self._predictions)


@dataclass(frozen=True)
class Trained:
    """One training: its stage, its potentials by link ('potential', 'member_1' ...), its data set and its errors."""

    stage: Stage
    potentials: dict[str, PotentialData]
    dataset: FramesData
    metrics: dict[str, Any]

    @cached_property
    def splits(self) -> dict[str, str]:
        """Return ``frame_id`` -> 'training' or 'validation'."""
        return {atoms.info['frame_id']: atoms.info['split'] for atoms in self.dataset.get_atoms()}

    @cached_property
    def n_labels(self) -> int:
        """Return the number of labelled structures, without isolated atoms."""
        return sum(not is_isolated_atom(atoms) for atoms in self.dataset.get_atoms())


@dataclass(frozen=True)
class CandidateRecord:
    """A candidate and what became of it.

    Attributes
    ----------
    stage : Stage
        The stage that labels it, or that selected it where none does.
    atoms : Atoms
        As it was selected, without label.
    state : CandidateState
    reason : str
        Why its label failed, if it did.
    label_job_pk, label_job_uuid : int, str or None
        The job that labelled it; the process that tried where it failed.
    energy_eV, max_force_eV_A : float or None
        Of its label.
    used : dict
        Stage of a training -> 'training' or 'validation'; 'test set' -> 'test' or 'hot'.
    """

    stage: Stage
    atoms: Atoms
    state: CandidateState
    reason: str = ''
    label_job_pk: int | None = None
    label_job_uuid: str | None = None
    energy_eV: float | None = None
    max_force_eV_A: float | None = None
    used: dict[str, str] = field(default_factory=dict)


class RunRecord:
    """One run, asked for what its stages left.

    Parameters
    ----------
    run : WorkChainNode
        The run.
    """

    def __init__(self, run: orm.WorkChainNode) -> None:
        self.run = run
        self.calls = {call.pk: call for call in call_tree(run.pk)}
        self.stages = in_time(call for call in self.calls.values() if call.parent == run.pk)
        self._outputs = outputs_of([run.pk, *(call.pk for call in self.stages)])

    def output(self, name: str) -> Any:
        """Return an output of the run; None if there is none (yet)."""
        return self._outputs.get(self.run.pk, {}).get(name)

    @property
    def surrogate(self) -> PotentialData | None:
        """Return the potential that the run was given to begin with; None if it made its own."""
        return self.run.inputs.surrogate if 'surrogate' in self.run.inputs else None

    @cached_property
    def configuration(self) -> dict[str, Any]:
        """Return the configuration in force: with the changes that the run took up."""
        changed = [call for call in self.stages if call.link.startswith('change_')]
        for call in reversed(changed):
            if found := list(self._outputs.get(call.pk, {}).values()):
                return found[0].get_dict()
        return self.run.inputs.configuration.get_dict()

    @cached_property
    def labeller(self) -> Labeller:
        """Return the labelling code, with the nodes that it was given."""
        return labeller_of(self.configuration['labelling'], labeller_of_process(self.run).nodes)

    @cached_property
    def summary(self) -> Summary | None:
        """Return the run's own summary; None until it is over."""
        summary = self.output('summary')
        return summary.get_dict() if summary is not None else None

    @cached_property
    def evaluated(self) -> list[Evaluated]:
        """Return the evaluations that are done, oldest first."""
        return [
            Evaluated(
                stage,
                outputs['metrics'].creator.inputs.potential.uuid,
                outputs['metrics'].get_dict(),
                outputs['predictions'],
            )
            for stage, outputs in self._done(Kind.EVALUATE, 'metrics')
        ]

    @cached_property
    def trained(self) -> list[Trained]:
        """Return the trainings that are done, oldest first."""
        return [
            Trained(
                stage,
                {name.removeprefix('committee__'): node for name, node in outputs.items() if _is_potential(node)},
                outputs['dataset'],
                outputs['metrics'].get_dict(),
            )
            for stage, outputs in self._done(Kind.TRAIN, 'dataset')
        ]

    @cached_property
    def explored(self) -> list[Explored]:
        """Return the explorations that left frames, oldest first."""
        found = []
        for one in self.stages:
            stage = Stage.parse(one.link)
            if stage is not None and stage.kind is Kind.EXPLORE:
                below = [call for call in self.calls.values() if stage_of(call, self.calls, self.run.pk) == one.link]
                explored = _explored(stage, below)
                found += [explored] if explored.jobs else []
        return found

    @cached_property
    def replicas(self) -> dict[Stage, list[ReplicaEntry]]:
        """Return the replicas of each exploration, as the last attempt of each MD job tells of them."""
        found: dict[Stage, list[ReplicaEntry]] = {}
        for pk, manifest in manifests_of(last_attempts(self.calls.values())).items():
            stage = Stage.parse(stage_of(self.calls[pk], self.calls, self.run.pk))
            if stage is not None:
                found.setdefault(stage, []).extend(manifest['replicas'])
        return found

    @cached_property
    def rejected(self) -> dict[Stage, dict[str, str]]:
        """Return the candidates without a label, stage by stage: ``frame_id`` -> the reason."""
        return {stage: outputs['rejected'].get_dict() for stage, outputs in self._done(Kind.LABEL, 'rejected')}

    @cached_property
    def candidates(self) -> list[CandidateRecord]:
        """Return all candidates that the run labels or could label, in the order of the stages."""
        labels = {stage: outputs['labelled'] for stage, outputs in self._done(Kind.LABEL, 'labelled')}
        used: dict[str, dict[str, str]] = {}
        for trained in self.trained:
            for frame_id, split in trained.splits.items():
                used.setdefault(frame_id, {})[trained.stage.label] = split
        test_set = self.output('test_set')
        for atoms in test_set.get_atoms() if test_set is not None else []:
            used.setdefault(atoms.info['frame_id'], {})['test set'] = atoms.info['split']
        found = []
        order = [call.link for call in self.stages]
        for link, candidates in sorted(candidate_sets(self.run.pk).items(), key=lambda one: order.index(one[0])):
            stage = Stage.parse(link)
            if stage is None:
                continue
            labelled = {atoms.info['frame_id']: atoms for atoms in labels[stage].get_atoms()} if stage in labels else {}
            for atoms, state in zip(candidates.get_atoms(), candidate_states(candidates), strict=True):
                frame_id = atoms.info['frame_id']
                label = labelled.get(frame_id)
                found.append(_candidate(stage, atoms, state, label, self._jobs_by_uuid, used.get(frame_id, {})))
        return found

    @cached_property
    def versions(self) -> dict[str, str]:
        """Return the programs and their versions, as the jobs have told them; several where they changed."""
        version = self.run.base.attributes.get('version', {})
        found = {'aiida-core': {version.get('core', '?')}, 'aiida-mlip-autopipe': {version.get('plugin', '?')}}
        for outputs in self._outputs_of_jobs(WORKER_JOBS):
            for name, value in versions_told(outputs.get('retrieved')).items():
                found.setdefault(name, set()).add(value)
        told = versions_of_labels(self.run, self.calls.values())
        found |= {self.labeller.program: told} if told else {}
        return {name: ', '.join(sorted(values)) for name, values in found.items()}

    def _outputs_of_jobs(self, kind: str) -> Iterable[dict[str, orm.Data]]:
        """Return the outputs of each job whose process type begins so."""
        return outputs_of(call.pk for call in self.calls.values() if call.process_type.startswith(kind)).values()

    @cached_property
    def _jobs_by_uuid(self) -> dict[str, tuple[int, str]]:
        """Return the first digits of the UUID of each job of the run -> its PK and UUID."""
        query = orm.QueryBuilder()
        query.append(orm.CalcJobNode, filters={'id': {'in': list(self.calls)}}, project=['uuid', 'id'])
        return {uuid[:8]: (pk, uuid) for uuid, pk in query.all()}

    def _done(self, kind: Kind, output: str) -> Iterable[tuple[Stage, dict[str, orm.Data]]]:
        """Yield the stages of a kind that have an output, with all their outputs."""
        for call in self.stages:
            stage, outputs = Stage.parse(call.link), self._outputs.get(call.pk, {})
            if stage is not None and stage.kind is kind and output in outputs:
                yield stage, outputs


def versions_told(retrieved: orm.FolderData | None) -> dict[str, str]:
    """Return the versions in the result file of a worker's job; empty where there is none."""
    if retrieved is None or RESULT_FILE not in retrieved.base.repository.list_object_names():
        return {}
    return json.loads(retrieved.base.repository.get_object_content(RESULT_FILE)).get('versions', {})


def versions_of_labels(run: orm.WorkChainNode, calls: Iterable[Call]) -> set[str]:
    """Return the versions of the program that labels, as its jobs among some calls have told them."""
    labeller = labeller_of_process(run)
    jobs = outputs_of(call.pk for call in calls if call.process_type == labeller.job_type)
    return {version for outputs in jobs.values() if (version := labeller.version(outputs))}


def outputs_of(pks: Iterable[int]) -> dict[int, dict[str, orm.Data]]:
    """Return the output nodes of processes: PK -> label of the link -> node."""
    wanted = list(pks)
    if not wanted:
        return {}
    query = orm.QueryBuilder()
    query.append(orm.ProcessNode, filters={'id': {'in': wanted}}, project='id', tag='process')
    query.append(orm.Data, with_incoming='process', project='*', edge_project='label')
    found: dict[int, dict[str, orm.Data]] = {}
    for pk, node, label in query.all():
        found.setdefault(pk, {})[label] = node
    return found


def _explored(stage: Stage, below: list[Call]) -> Explored:
    """Return an exploration from the calls below it."""
    samplings = in_time(call for call in below if call.process_type == SAMPLING and call.is_terminated)
    outputs = outputs_of([samplings[-1].pk]).get(samplings[-1].pk, {}) if samplings else {}
    if 'report' not in outputs:
        return Explored(stage, _jobs_of_calls(below))
    repository = outputs['retrieved'].base.repository
    names = repository.list_object_names()
    frames = _arrays(outputs['frames']) if 'frames' in outputs else {}
    figures = {}
    if 'figures' in names and 'figures.json' in repository.list_object_names('figures'):
        figures = json.loads(repository.get_object_content(FIGURES_FILE))
    candidates = outputs.get('candidates')
    pk = samplings[-1].pk
    return Explored(stage, _jobs_sampled(pk), pk, outputs['report'].get_dict(), figures, frames, candidates)


def _jobs_sampled(sampling: int) -> list[MdJob]:
    """Return the MD jobs whose folders a sampling job was given, in its order: that of their names."""
    query = orm.QueryBuilder()
    query.append(orm.CalcJobNode, filters={'id': sampling}, tag='sampling')
    query.append(orm.RemoteData, with_outgoing='sampling', edge_project='label', tag='folder')
    query.append(orm.CalcJobNode, with_outgoing='folder', project='id', tag='job')
    query.append(orm.Dict, with_incoming='job', edge_filters={'label': 'manifest'}, project='attributes')
    return [MdJob(pk, manifest) for pk, manifest, _ in sorted(query.all(), key=lambda row: row[2])]


def _jobs_of_calls(below: list[Call]) -> list[MdJob]:
    """Return the MD jobs that left frames while nothing has sampled them; of a restarted one, its last attempt."""
    jobs = [call for call in below if call.process_type == MACE_MD and call.is_terminated]
    manifests = manifests_of(jobs)
    last = last_attempts(job for job in jobs if job.pk in manifests)
    return [MdJob(job.pk, manifests[job.pk]) for job in last]


def _candidate(
    stage: Stage,
    atoms: Atoms,
    state: Candidate,
    label: Atoms | None,
    jobs: Mapping[str, tuple[int, str]],
    used: dict[str, str],
) -> CandidateRecord:
    """Return what became of a candidate; ``state`` is that of `candidate_states`."""
    if label is None:
        return CandidateRecord(stage, atoms, state.state, state.reason, state.pk, used=used)
    pk, uuid = jobs.get(label.info['label_job'], (state.pk, label.info['label_job']))
    largest = float(np.linalg.norm(label.arrays['REF_forces'], axis=1).max())
    return CandidateRecord(
        stage, atoms, state.state, state.reason, pk, uuid, float(label.info['REF_energy']), largest, used
    )


def _arrays(node: orm.ArrayData) -> dict[str, np.ndarray]:
    return {name: node.get_array(name) for name in node.get_arraynames()}


def _is_potential(node: orm.Data) -> bool:
    return isinstance(node, PotentialData)
