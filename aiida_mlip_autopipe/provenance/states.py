"""The state of seeds, candidates and runs, as it follows from what was done with them.

A seed is explored when an MD job that had it as input wrote frames of it, whether it finished or was given up. A
candidate is unlabelled until a labelling stage submits its calculation, then labelling, and labelled or failed by what
came of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from aiida import orm

from aiida_mlip_autopipe.data import FramesData

from .calls import Call, children

__all__ = [
    'Candidate',
    'CandidateState',
    'Run',
    'candidate_sets',
    'candidate_states',
    'explored_seeds',
    'list_runs',
    'seeds_of',
    'states_in_stage',
]

AUTOPIPE = 'aiida.workflows:mlip_autopipe.autopipe'
LABEL = 'aiida.workflows:mlip_autopipe.label'
MACE_MD = 'aiida.calculations:mlip_autopipe.mace_md'
LABEL_LINK = 'label_'


class CandidateState(StrEnum):
    """How far a candidate has come."""

    UNLABELLED = 'unlabelled'
    LABELLING = 'labelling'
    LABELLED = 'labelled'
    FAILED = 'failed'


@dataclass(frozen=True)
class Candidate:
    """A candidate, its state, the reason if it failed, and the WorkChain that labels it (its PK)."""

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
    """Return all runs of the pipeline, newest first."""
    query = orm.QueryBuilder()
    query.append(
        orm.WorkChainNode,
        filters={'process_type': AUTOPIPE},
        project=['id', 'ctime', 'attributes.process_state', 'attributes.exit_status', 'description'],
        tag='run',
    )
    query.order_by({'run': {'id': 'desc'}})
    return [Run(*row) for row in query.all()]


def explored_seeds(seeds: FramesData) -> dict[str, list[int]]:
    """Return, for each seed, the PKs of the MD jobs that wrote frames of it; none means not explored.

    An interrupted job is left out once another one goes on from it: the frames are the other's then.
    """
    query = _md_jobs_of(seeds)
    query.append(orm.Dict, with_incoming='job', edge_filters={'label': 'manifest'}, project='attributes.shards')
    query.order_by({'job': 'id'})
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


def candidate_states(candidates: FramesData) -> list[Candidate]:
    """Return the state of each candidate of a set, in its order.

    Where several labelling stages had the set as input, the furthest state counts: a label is a label.
    """
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
    query.order_by({'stage': 'id'})
    frame_ids = [atoms.info['frame_id'] for atoms in candidates.get_atoms()]
    best = [Candidate(frame_id, CandidateState.UNLABELLED) for frame_id in frame_ids]
    for (stage,) in query.all():
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
    rejected = _rejected(stage)
    calls = {
        int(call.link.removeprefix(LABEL_LINK)): call
        for call in children(lane.pk for lane in children([stage]))
        if call.link.startswith(LABEL_LINK)
    }
    return [_state_of(frame_id, calls.get(index), rejected.get(frame_id)) for index, frame_id in enumerate(frame_ids)]


def _state_of(frame_id: str, call: Call | None, rejection: str | None) -> Candidate:
    if call is None:
        return Candidate(frame_id, CandidateState.UNLABELLED)
    if not call.is_terminated:
        return Candidate(frame_id, CandidateState.LABELLING, pk=call.pk)
    if call.is_failed:
        return Candidate(frame_id, CandidateState.FAILED, call.message or call.state, call.pk)
    if rejection is not None:
        return Candidate(frame_id, CandidateState.FAILED, rejection, call.pk)
    return Candidate(frame_id, CandidateState.LABELLED, pk=call.pk)


def _rejected(stage: int) -> dict[str, str]:
    query = orm.QueryBuilder()
    query.append(orm.WorkChainNode, filters={'id': stage}, tag='stage')
    query.append(orm.Dict, with_incoming='stage', edge_filters={'label': 'rejected'}, project='attributes')
    rows = query.all()
    return rows[0][0] if rows else {}


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
    query.order_by({'stage': 'id'})
    return {name: node for node, name in query.all()}


def seeds_of(run: int) -> FramesData | None:
    """Return the seeds that a run explores from; None until they are generated."""
    query = orm.QueryBuilder()
    query.append(orm.WorkChainNode, filters={'id': run}, tag='run')
    query.append(orm.CalcFunctionNode, with_incoming='run', edge_filters={'label': 'generate_seeds'}, tag='generation')
    query.append(FramesData, with_incoming='generation', edge_filters={'label': 'seeds'}, project='*')
    found = query.all(flat=True)
    return found[0] if found else None
