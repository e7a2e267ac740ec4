"""Where a frame or a potential comes from.

A frame is followed by its ``frame_id``: it names the MD job, the replica and the step; the graph names the rest. A
potential is followed by its links: the sets that it was trained on, the labels and the MD jobs behind them, and the
potentials that drove these jobs, back to the first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from aiida import orm
from ase import Atoms

from aiida_mlip_autopipe.data import FramesData, PotentialData
from aiida_mlip_autopipe.provenance.calls import pk_of
from aiida_mlip_autopipe.provenance.residuals import Judgement, Residual, judgements_of, residuals
from aiida_mlip_autopipe.provenance.states import Candidate, CandidateState, candidate_states

__all__ = [
    'FrameLineage',
    'PotentialLineage',
    'SetLineage',
    'find_potential',
    'frame_lineage',
    'linked_nodes',
    'potential_lineage',
]

MD_FRAME = re.compile(r'^(?P<md_job>[0-9a-f]{8})-r(?P<replica>\d{3,})-s(?P<step>\d{6,})-([0-9a-f]{8}){1,2}$')


@dataclass(frozen=True)
class FrameLineage:
    """One frame: how it was made, why it was chosen, how it was labelled, what was trained on it.

    Attributes
    ----------
    frame_id, origin : str
        Itself and the seed structure that it descends from.
    config_type : str
        'seed', 'test_seed', 'candidate', 'data' or 'IsolatedAtom'.
    source_pk : int or None
        What made it: the sampling job, or the calcfunction that generated seeds; None for data that was given.
    candidates_pk, index : int
        The set that it is in, and its place there.
    md_job_pk, potential_pk : int or None
        The MD job and the potential that drove it.
    info : dict
        What the frame carries: replica, step, temperature_K, cluster, rank, reason, distance ...
    state : CandidateState
    reason : str
        Why its label failed, if it did.
    label_job_pk : int or None
        The job that labelled it, its own or that of a batch; the last one if it failed.
    energy_eV : float or None
    potentials : dict
        PK of each potential that was trained on it -> 'training' or 'validation'.
    residuals : list of Residual
        What each potential that was evaluated on it says of it; empty where none was.
    """

    frame_id: str
    origin: str
    config_type: str
    source_pk: int | None
    candidates_pk: int
    index: int
    state: CandidateState
    info: dict[str, Any] = field(default_factory=dict)
    md_job_pk: int | None = None
    potential_pk: int | None = None
    reason: str = ''
    label_job_pk: int | None = None
    energy_eV: float | None = None
    potentials: dict[int, str] = field(default_factory=dict)
    residuals: list[Residual] = field(default_factory=list)


@dataclass(frozen=True)
class SetLineage:
    """A labelled set that a potential was trained on.

    Attributes
    ----------
    labelled_pk, n_frames : int
        The set.
    stage : str
        The label under which a run called its labelling: 'label_initial', 'label_r1'; empty where none did.
    candidates_pk : int
        The candidates that were labelled.
    source : str
        'generated' or 'explored'.
    n_label_jobs : int
        Jobs whose results are in it, of one candidate or of a batch.
    md_job_pks : list of int
        The MD jobs that the candidates were chosen from.
    driver_pks : list of int
        The potentials that drove these jobs.
    n_explored : int
        The frames of these jobs.
    """

    labelled_pk: int
    n_frames: int
    candidates_pk: int
    source: str
    n_label_jobs: int
    md_job_pks: list[int]
    driver_pks: list[int] = field(default_factory=list)
    n_explored: int = 0
    stage: str = ''


@dataclass(frozen=True)
class PotentialLineage:
    """A potential, what it was trained on, the potentials that explored for it, and what it is worth.

    Attributes
    ----------
    pk, sha256, origin
        Itself.
    training_pk : int or None
        The job that trained it; None for one that was given.
    n_training, n_validation : int
        Frames that it was trained and validated on.
    sets : list of SetLineage
        All that it has seen, oldest first.
    parents : list of PotentialLineage
        The potentials that drove the dynamics behind these sets, and the one with whose weights it began.
    foundation_pk : int or None
        The one of these that it was fine-tuned from.
    previous_pk : int or None
        The one of these, of the round before, with whose weights its training began.
    judgements : list of Judgement
        Its errors in each evaluation.
    """

    pk: int
    sha256: str
    origin: str
    training_pk: int | None
    n_training: int
    n_validation: int
    sets: list[SetLineage]
    parents: list[PotentialLineage]
    foundation_pk: int | None = None
    previous_pk: int | None = None
    judgements: list[Judgement] = field(default_factory=list)


def frame_lineage(frame_id: str) -> FrameLineage:
    """Return where a frame comes from and what became of it.

    Raises
    ------
    ValueError
        If no set of candidates or seeds holds the frame.
    """
    match = MD_FRAME.match(frame_id)
    sets = _sets_from_md_job(match['md_job']) if match else _generated_sets()
    for candidates in (*sets, *_given_sets()):
        for index, atoms in enumerate(candidates.get_atoms()):
            if atoms.info['frame_id'] == frame_id:
                return _follow(candidates, index, atoms)
    raise ValueError(
        f'frame_id {frame_id!r}: no set of candidates or seeds in this profile holds it; a frame_id looks like '
        '"0f3a9c21-r004-s000120-5be1c0de7a3f9b20" or "seed-5be1c0de7a3f9b20", and is in `info` of each frame of a '
        'dataset'
    )


def _sets_from_md_job(md_job: str) -> list[FramesData]:
    """Return the candidates chosen from an MD job; the manifest tells its name, also where its results were reused."""
    query = orm.QueryBuilder()
    query.append(orm.Dict, filters={'attributes.md_job': md_job}, tag='manifest')
    query.append(orm.CalcJobNode, with_outgoing='manifest', edge_filters={'label': 'manifest'}, tag='md')
    query.append(orm.RemoteData, with_incoming='md', tag='folder')
    query.append(orm.CalcJobNode, with_incoming='folder', tag='sampling')
    query.append(FramesData, with_incoming='sampling', edge_filters={'label': 'candidates'}, project='*', tag='set')
    query.order_by({'set': 'ctime'}).distinct()
    return query.all(flat=True)


def _generated_sets() -> list[FramesData]:
    """Return the generated sets; those that were labelled come first, as seeds are in several."""
    query = orm.QueryBuilder()
    query.append(
        orm.CalcFunctionNode,
        filters={'process_type': 'aiida.calculations:mlip_autopipe.generate_structures'},
        tag='generation',
    )
    query.append(FramesData, with_incoming='generation', project='*', edge_project='label', tag='set')
    query.order_by({'set': 'ctime'})
    order = {'initial': 0, 'seeds': 1, 'test_seeds': 2}
    return [node for node, _ in sorted(query.all(), key=lambda row: order.get(row[1], 3))]


def _given_sets() -> list[FramesData]:
    """Return the sets of existing data that runs have taken."""
    query = orm.QueryBuilder()
    query.append(FramesData, project='*', tag='data')
    query.append(
        orm.CalcFunctionNode,
        with_incoming='data',
        edge_filters={'label': 'data'},
        filters={'process_type': 'aiida.calculations:mlip_autopipe.adopt_data'},
    )
    query.order_by({'data': 'ctime'}).distinct()
    return query.all(flat=True)


def _follow(candidates: FramesData, index: int, atoms: Atoms) -> FrameLineage:
    info = atoms.info
    md_job = _md_job_of(candidates, info['md_job']) if 'md_job' in info else None
    state = candidate_states(candidates)[index]
    if candidates.creator is None:
        state = Candidate(info['frame_id'], CandidateState.LABELLED)
    labelled = _labelled_frame(candidates, info['frame_id']) if state.state is CandidateState.LABELLED else None
    label_job_pk = state.pk and _last_job(state.pk)
    if labelled is not None:
        label_job_pk = _job_named(labelled.info['label_job']) if 'label_job' in labelled.info else None
    return FrameLineage(
        frame_id=info['frame_id'],
        origin=info['origin'],
        config_type=info['config_type'],
        source_pk=None if candidates.creator is None else candidates.creator.pk,
        candidates_pk=pk_of(candidates),
        index=index,
        state=state.state,
        info=dict(info),
        md_job_pk=md_job.pk if md_job else None,
        potential_pk=md_job.inputs.potential.pk if md_job else None,
        reason=state.reason,
        label_job_pk=label_job_pk,
        energy_eV=labelled.info['REF_energy'] if labelled is not None else None,
        potentials=_trained_on(candidates, info['frame_id']),
        residuals=residuals(candidates, info['frame_id']),
    )


def _md_job_of(candidates: FramesData, md_job: str) -> orm.CalcJobNode | None:
    """Return the MD job among the inputs of the sampling that chose the candidates."""
    for link in candidates.creator.base.links.get_incoming(orm.RemoteData).all():
        job = link.node.creator
        if job is not None and 'manifest' in job.outputs and job.outputs.manifest['md_job'] == md_job:
            return job
    return None


def _labelled_frame(candidates: FramesData, frame_id: str) -> Atoms | None:
    """Return the newest labelled copy of a candidate; None while its stage gathers its labels."""
    query = orm.QueryBuilder()
    query.append(FramesData, filters={'id': candidates.pk}, tag='candidates')
    query.append(orm.CalcFunctionNode, with_incoming='candidates', tag='collect')
    query.append(FramesData, with_incoming='collect', edge_filters={'label': 'labelled'}, project='*', tag='labelled')
    query.order_by({'labelled': {'ctime': 'desc'}})
    for node in query.all(flat=True):
        for atoms in node.get_atoms():
            if atoms.info['frame_id'] == frame_id:
                return atoms
    return None


def _job_named(job: str) -> int | None:
    """Return the PK of the labelling job, of one candidate or of a batch, whose UUID begins so."""
    query = orm.QueryBuilder()
    query.append(orm.CalcJobNode, filters={'uuid': {'like': f'{job}%'}}, project='id')
    found = query.all(flat=True)
    return found[0] if found else None


def _last_job(pk: int) -> int:
    """Return the last job below the WorkChain of a label, or the job itself."""
    query = orm.QueryBuilder()
    query.append(orm.WorkChainNode, filters={'id': pk}, tag='label')
    query.append(orm.CalcJobNode, with_incoming='label', project='id', tag='job')
    query.order_by({'job': {'ctime': 'desc'}}).limit(1)
    found = query.all(flat=True)
    return found[0] if found else pk


def _trained_on(candidates: FramesData, frame_id: str) -> dict[int, str]:
    """Return the potentials whose training or validation set holds the frame."""
    query = orm.QueryBuilder()
    query.append(FramesData, filters={'id': candidates.pk}, tag='candidates')
    query.append(orm.CalcFunctionNode, with_incoming='candidates', tag='collect')
    query.append(FramesData, with_incoming='collect', edge_filters={'label': 'labelled'}, tag='labelled')
    query.append(orm.CalcFunctionNode, with_incoming='labelled', tag='split')
    query.append(FramesData, with_incoming='split', project='*', tag='part')
    query.append(
        orm.CalcJobNode,
        with_incoming='part',
        edge_project='label',
        edge_filters={'label': {'in': ['training', 'validation']}},
        tag='job',
    )
    query.append(PotentialData, with_incoming='job', project='id', tag='potential')
    query.order_by({'potential': 'id'}).distinct()
    holds: dict[int, bool] = {}
    found: dict[int, str] = {}
    for part, potential, name in query.all():
        if part.pk not in holds:
            holds[part.pk] = any(atoms.info['frame_id'] == frame_id for atoms in part.get_atoms())
        if holds[part.pk]:
            found[potential] = name
    return found


def find_potential(uuid: str, sha256: str) -> PotentialData | None:
    """Return the oldest potential of the profile that is this node or has this file."""
    query = orm.QueryBuilder()
    query.append(PotentialData, filters={'or': [{'uuid': uuid}, {'attributes.sha256': sha256}]}, tag='potential')
    query.add_projection('potential', '*')
    query.order_by({'potential': 'id'})
    return query.first(flat=True)


def linked_nodes(process: orm.ProcessNode) -> Iterator[dict[str, orm.Node]]:
    """Yield what links lead to from a process, by their labels: what it made first, then what it was given."""
    for links in (process.base.links.get_outgoing(), process.base.links.get_incoming()):
        yield {link.link_label: link.node for link in links.all()}


def potential_lineage(potential: PotentialData) -> PotentialLineage:
    """Return what a potential has seen, the potentials before it, and its errors."""
    return _lineage_of(potential, {}, {})


def _lineage_of(
    potential: PotentialData, known: dict[int, PotentialLineage], sets: dict[int, SetLineage]
) -> PotentialLineage:
    """Return the lineage of a potential; each set and potential before it is looked up once, into the two dicts."""
    training = potential.creator
    about = (pk_of(potential), potential.sha256, potential.base.attributes.get('origin'))
    if training is None:
        return PotentialLineage(*about, None, 0, 0, [], [], judgements=judgements_of(potential))
    labelled = _labelled_sets(training)
    for node in labelled:
        if node.pk not in sets:
            sets[node.pk] = _set_lineage(node)
    seen = [sets[node.pk] for node in labelled]
    foundation = training.inputs.foundation if 'foundation' in training.inputs else None
    before = {pk: orm.load_node(pk) for pk in {driver for one in seen for driver in one.driver_pks}}
    previous = training.inputs.previous_potential if 'previous_potential' in training.inputs else None
    before |= {start.pk: start for start in (foundation, previous) if start is not None}
    for node in sorted(before.values(), key=lambda node: node.ctime):
        if node.pk not in known:
            known[node.pk] = _lineage_of(node, known, sets)
    return PotentialLineage(
        *about,
        training_pk=training.pk,
        n_training=training.inputs.training.n_frames,
        n_validation=training.inputs.validation.n_frames,
        sets=seen,
        parents=[known[node.pk] for node in sorted(before.values(), key=lambda node: node.ctime)],
        foundation_pk=None if foundation is None else foundation.pk,
        previous_pk=None if previous is None else previous.pk,
        judgements=judgements_of(potential),
    )


def _labelled_sets(training: orm.CalcJobNode) -> list[FramesData]:
    """Return the labelled sets behind a training set; the set itself if nothing split it."""
    split = training.inputs.training.creator
    if split is None:
        return [training.inputs.training]
    links = split.base.links.get_incoming(FramesData).all()
    sets = [link.node for link in links if link.link_label != 'previous']
    return sorted(sets, key=lambda node: node.ctime)


def _set_lineage(labelled: FramesData) -> SetLineage:
    collect = labelled.creator
    if collect is None or 'candidates' not in collect.inputs:
        return SetLineage(pk_of(labelled), labelled.n_frames, pk_of(labelled), 'given', 0, [])
    candidates = collect.inputs.candidates
    links = collect.base.links.get_incoming().all()
    found = [link.node.creator for link in links if link.link_label.startswith(('single_', 'batch_'))]
    n_label_jobs = len({job.pk for job in found if job is not None})
    sampling = candidates.creator
    folders = sampling.base.links.get_incoming(orm.RemoteData).all() if sampling is not None else []
    jobs = [link.node.creator for link in folders if link.node.creator is not None]
    return SetLineage(
        pk_of(labelled),
        labelled.n_frames,
        candidates.pk,
        'explored' if jobs else 'generated',
        n_label_jobs,
        sorted(job.pk for job in jobs),
        sorted({job.inputs.potential.pk for job in jobs}),
        n_explored=sum(job.outputs.manifest['n_frames'] for job in jobs if 'manifest' in job.outputs),
        stage=_stage_of_labels(collect),
    )


def _stage_of_labels(collect: orm.CalcFunctionNode) -> str:
    """Return the label under which a run called the labelling stage that gathered a set."""
    query = orm.QueryBuilder().append(orm.CalcFunctionNode, filters={'id': collect.pk}, tag='collect')
    query.append(orm.WorkChainNode, with_outgoing='collect', tag='stage')
    query.append(orm.WorkChainNode, with_outgoing='stage', edge_project='label')
    found = query.all(flat=True)
    return found[0] if found else ''
