"""The state of seeds, candidates and runs, as it follows from what was done with them.

A seed is explored when an MD job that had it as input wrote frames of it, whether it finished or was given up. A
candidate is unlabelled until a labelling stage submits its calculation, then labelling, and labelled or failed by what
came of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from aiida import orm
from aiida.common.links import LinkType

from aiida_mlip_autopipe.data import FramesData
from aiida_mlip_autopipe.provenance.calls import Call, children

__all__ = [
    'BATCH_LINK',
    'LABEL',
    'LABEL_LINK',
    'Candidate',
    'CandidateState',
    'Run',
    'candidate_sets',
    'candidate_states',
    'count_states',
    'explored_seeds',
    'labelling_stages',
    'labels_alone',
    'list_runs',
    'seeds_of',
    'stages_called',
    'states_in_stage',
]

AUTOPIPE = 'aiida.workflows:mlip_autopipe.autopipe'
TRAIN_SET = 'aiida.workflows:mlip_autopipe.train_set'
LABEL = 'aiida.workflows:mlip_autopipe.label'
MACE_MD = 'aiida.calculations:mlip_autopipe.mace_md'
LABEL_LINK = 'label_'
BATCH_LINK = 'batch_'


class CandidateState(StrEnum):
    """How far a candidate has come."""

    UNLABELLED = 'unlabelled'
    LABELLING = 'labelling'
    LABELLED = 'labelled'
    FAILED = 'failed'


@dataclass(frozen=True)
class Candidate:
    """A candidate, its state, the reason if it failed, and the WorkChain or the batch that labels it (its PK)."""

    frame_id: str
    state: CandidateState
    reason: str = ''
    pk: int | None = None


@dataclass(frozen=True)
class Run:
    """One run of the pipeline."""

    pk: int
    started: datetime
    state: str
    exit_status: int | None
    description: str


def list_runs() -> list[Run]:
    """Return all runs of the pipeline and all trainings by themselves, newest first."""
    query = orm.QueryBuilder()
    query.append(
        orm.WorkChainNode,
        filters={'process_type': {'in': [AUTOPIPE, TRAIN_SET]}},
        project=['id', 'ctime', 'attributes.process_state', 'attributes.exit_status', 'description'],
        tag='run',
    )
    query.order_by({'run': {'ctime': 'desc'}})
    return [Run(*row) for row in query.all()]


def explored_seeds(seeds: FramesData) -> dict[str, list[int]]:
    """Return, for each seed, the PKs of the MD jobs that wrote frames of it; none means not explored.

    An interrupted job is left out once another one goes on from it: the frames are the other's then.
    """
    query = _md_jobs_of(seeds)
    query.append(orm.Dict, with_incoming='job', edge_filters={'label': 'manifest'}, project='attributes.shards')
    query.order_by({'job': 'ctime'})
    continued = _continued(seeds)
    explored: dict[str, list[int]] = {atoms.info['frame_id']: [] for atoms in seeds.get_atoms()}
    for pk, shards in query.all():
        if pk in continued:
            continue
        for seed_id in dict.fromkeys(shard['seed_id'] for shard in shards if shard['n_frames']):
            explored.setdefault(seed_id, []).append(pk)
    return explored


def _md_jobs_of(seeds: FramesData) -> orm.QueryBuilder:
    """Return a query for the PKs of the MD jobs that had seeds as input, tagged ``job``."""
    query = orm.QueryBuilder()
    query.append(FramesData, filters={'id': seeds.pk}, tag='seeds')
    query.append(
        orm.CalcJobNode,
        with_incoming='seeds',
        edge_filters={'label': 'seeds'},
        filters={'process_type': MACE_MD},
        project='id',
        tag='job',
    )
    return query


def _continued(seeds: FramesData) -> set[int]:
    """Return the PKs of the MD jobs whose frames another one has taken over and tells of."""
    query = _md_jobs_of(seeds)
    query.append(orm.RemoteData, with_incoming='job', tag='folder')
    query.append(orm.CalcJobNode, with_incoming='folder', edge_filters={'label': 'continue_from'}, tag='next')
    query.append(orm.Dict, with_incoming='next', edge_filters={'label': 'manifest'})
    return set(query.all(flat=True))


def labelling_stages(candidates: FramesData) -> list[int]:
    """Return the PKs of the labelling stages that had a set as input, oldest first."""
    query = orm.QueryBuilder()
    query.append(FramesData, filters={'id': candidates.pk}, tag='set')
    query.append(
        orm.WorkChainNode,
        with_incoming='set',
        edge_filters={'label': 'candidates'},
        filters={'process_type': LABEL},
        project='id',
        tag='stage',
    )
    query.order_by({'stage': 'ctime'})
    return query.all(flat=True)


def stages_called(run: orm.WorkChainNode) -> list[orm.WorkChainNode]:
    """Return the labelling stages of a run."""
    return [one for one in run.called if isinstance(one, orm.WorkChainNode) and one.process_type == LABEL]


def labels_alone(sequence: orm.WorkChainNode) -> Iterator[tuple[int, orm.ProcessNode]]:
    """Yield the processes that label one candidate each, with the place of that in its set."""
    calls = (LinkType.CALL_WORK, LinkType.CALL_CALC)
    for link in sequence.base.links.get_outgoing(orm.ProcessNode, calls, f'{LABEL_LINK}%').all():
        yield int(link.link_label.removeprefix(LABEL_LINK)), link.node


def candidate_states(candidates: FramesData, stages: Iterable[int] | None = None) -> list[Candidate]:
    """Return the state of each candidate of a set, in its order.

    Where several labelling stages had the set as input, the furthest state counts: a label is a label.

    Parameters
    ----------
    candidates : FramesData
        The set.
    stages : iterable of int, optional
        PKs of the labelling stages to ask; by default all that had the set as input.
    """
    frame_ids = [atoms.info['frame_id'] for atoms in candidates.get_atoms()]
    best = [Candidate(frame_id, CandidateState.UNLABELLED) for frame_id in frame_ids]
    for stage in labelling_stages(candidates) if stages is None else stages:
        best = [
            max(pair, key=lambda one: _ORDER.index(one.state))
            for pair in zip(states_in_stage(stage, frame_ids), best, strict=True)
        ]
    return best


_ORDER = (CandidateState.UNLABELLED, CandidateState.FAILED, CandidateState.LABELLING, CandidateState.LABELLED)


def states_in_stage(stage: int, frame_ids: list[str]) -> list[Candidate]:
    """Return the state of each candidate of one labelling stage.

    Parameters
    ----------
    stage : int
        PK of the labelling WorkChain.
    frame_ids : list of str
        The candidates, in the order of the set.
    """
    account = _Account.of(stage)
    return [account.state_of(index, frame_id) for index, frame_id in enumerate(frame_ids)]


def count_states(stage: int, n_candidates: int) -> Counter[CandidateState]:
    """Return how many candidates of a labelling stage are in which state; those that it leaves out do not count."""
    account = _Account.of(stage)
    wanted = range(n_candidates) if account.only is None else account.only
    if account.rejected is None:
        return Counter(account.state_of(index, '').state for index in wanted)
    n_failed = len(account.rejected)
    return Counter({CandidateState.FAILED: n_failed, CandidateState.LABELLED: len(wanted) - n_failed})


@dataclass(frozen=True)
class _Account:
    """What a labelling stage did with its candidates, which it knows by their places in the set.

    Attributes
    ----------
    only : list of int or None
        Those that it was to label; None means all.
    rejected : dict or None
        ``frame_id`` -> reason of those that are not in its labelled set; None until it has gathered its labels.
    calls : dict
        The job that is to label each candidate: its batch, or its own WorkChain, which outweighs the batch.
    batched : set of int
        Those that a batch has labelled.
    sequences_at_work : set of int
        PKs of the sequences that may still go on with what a batch did not label.
    """

    only: list[int] | None
    rejected: dict[str, str] | None
    calls: dict[int, Call]
    batched: set[int]
    sequences_at_work: set[int]

    @classmethod
    def of(cls, stage: int) -> _Account:
        """Ask the graph."""
        sequences = children([stage])
        jobs = children(sequence.pk for sequence in sequences) if sequences else []
        batches = {call.pk: call for call in jobs if call.link.startswith(BATCH_LINK)}
        calls = {index: batches[pk] for pk, indices in _places(batches, 'indices').items() for index in indices}
        calls |= {int(call.link.removeprefix(LABEL_LINK)): call for call in jobs if call.link.startswith(LABEL_LINK)}
        batched = {index for indices in _places(batches, 'labels').values() for index in indices}
        at_work = {sequence.pk for sequence in sequences if not sequence.is_terminated}
        return cls(_attributes(stage, 'only'), _attributes(stage, 'rejected'), calls, batched, at_work)

    def state_of(self, index: int, frame_id: str) -> Candidate:
        """Return the state of a candidate."""
        call = self.calls.get(index)
        pk = call.pk if call else None
        if self.only is not None and index not in self.only:
            return Candidate(frame_id, CandidateState.UNLABELLED)
        if self.rejected is not None:
            reason = self.rejected.get(frame_id)
            state = CandidateState.LABELLED if reason is None else CandidateState.FAILED
            return Candidate(frame_id, state, reason or '', pk)
        if call is None:
            return Candidate(frame_id, CandidateState.UNLABELLED)
        if index in self.batched or (call.link.startswith(LABEL_LINK) and call.is_ok):
            return Candidate(frame_id, CandidateState.LABELLED, pk=pk)
        goes_on_alone = call.link.startswith(BATCH_LINK) and call.parent in self.sequences_at_work
        if goes_on_alone or not call.is_terminated:
            return Candidate(frame_id, CandidateState.LABELLING, pk=pk)
        return Candidate(frame_id, CandidateState.FAILED, call.message or call.state, pk)


def _places(batches: Iterable[int], name: str) -> dict[int, list[int]]:
    """Return the candidates that each batch was to label (its input ``indices``) or has labelled (its ``labels``)."""
    node, join, project = {
        'indices': (orm.List, 'with_outgoing', 'attributes.list'),
        'labels': (orm.ArrayData, 'with_incoming', 'attributes.index'),
    }[name]
    pks = list(batches)
    if not pks:
        return {}
    query = orm.QueryBuilder()
    query.append(orm.CalcJobNode, filters={'id': {'in': pks}}, project='id', tag='batch')
    query.append(node, **{join: 'batch'}, edge_filters={'label': name}, project=project)
    return dict(query.all())


def _attributes(stage: int, name: str) -> Any:
    """Return the content of the input ``only`` or the output ``rejected`` of a stage; None if there is none."""
    node, join, project = {
        'only': (orm.List, 'with_outgoing', 'attributes.list'),
        'rejected': (orm.Dict, 'with_incoming', 'attributes'),
    }[name]
    query = orm.QueryBuilder()
    query.append(orm.WorkChainNode, filters={'id': stage}, tag='stage')
    query.append(node, **{join: 'stage'}, edge_filters={'label': name}, project=project)
    rows = query.all(flat=True)
    return rows[0] if rows else None


def candidate_sets(run: int) -> dict[str, FramesData]:
    """Return the sets that a run labels or could label: the name of the stage that takes or made one -> the set."""
    taken = _sets(run, {'with_outgoing': 'stage'})
    made = _sets(run, {'with_incoming': 'stage'})
    labelled = {node.pk for node in taken.values()}
    return taken | {name: node for name, node in made.items() if node.pk not in labelled}


def _sets(run: int, join: dict[str, Any]) -> dict[str, FramesData]:
    """Return the sets that are linked as ``candidates`` to the stages of a run, as inputs or as outputs."""
    query = orm.QueryBuilder()
    query.append(orm.WorkChainNode, filters={'id': run}, tag='run')
    query.append(orm.WorkChainNode, with_incoming='run', edge_project='label', tag='stage')
    query.append(FramesData, **join, edge_filters={'label': 'candidates'}, project='*')
    query.order_by({'stage': 'ctime'})
    return {name: node for node, name in query.all()}


def seeds_of(run: int) -> FramesData | None:
    """Return the seeds that a run explores from; None until they are generated."""
    query = orm.QueryBuilder()
    query.append(orm.WorkChainNode, filters={'id': run}, tag='run')
    query.append(orm.CalcFunctionNode, with_incoming='run', edge_filters={'label': 'generate_seeds'}, tag='generation')
    query.append(FramesData, with_incoming='generation', edge_filters={'label': 'seeds'}, project='*')
    found = query.all(flat=True)
    return found[0] if found else None
