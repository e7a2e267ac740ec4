"""What potentials are worth on single frames and sets: the errors in the evaluations that the graph holds.

An evaluation keeps what it predicted of each frame beside the label. So the residual of a frame is looked up, not
computed: where no evaluation had the frame, there is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from aiida import orm

from aiida_mlip_autopipe.data import FramesData, PotentialData

__all__ = ['Judgement', 'Residual', 'judgements_of', 'residuals']

EVALUATE = 'aiida.calculations:mlip_autopipe.evaluate'
NEW_LABELS = 'new labels'


@dataclass(frozen=True)
class Residual:
    """What a potential says of one frame, against its label.

    Attributes
    ----------
    potential_pk, evaluation_pk : int
        The potential and the job that judged it.
    stage : str
        The evaluation: 'evaluate_r1', 'evaluate_labels_r2' ...; empty where no run called it.
    split : str
        'test' or 'hot'; 'new labels' for a frame that the potential found itself.
    force_rmse_meV_A, force_max_meV_A : float
        Over all components of the forces of the frame; the length of the largest difference.
    energy_error_meV : float
        Predicted less labelled, per atom.
    """

    potential_pk: int
    evaluation_pk: int
    stage: str
    split: str
    force_rmse_meV_A: float
    force_max_meV_A: float
    energy_error_meV: float


@dataclass(frozen=True)
class Judgement:
    """The errors of a potential on one set: ``errors`` holds ``n_frames``, ``energy_rmse_meV`` and so on."""

    evaluation_pk: int
    stage: str
    frames: str
    frames_pk: int
    errors: dict[str, Any]


def residuals(candidates: FramesData, frame_id: str) -> list[Residual]:
    """Return what each potential that was evaluated on a frame says of it, oldest evaluation first.

    Parameters
    ----------
    candidates : FramesData
        The set that holds the frame before its label.
    frame_id : str
    """
    copies = _labelled_copies(candidates)
    if not copies:
        return []
    query = orm.QueryBuilder().append(FramesData, filters={'id': {'in': copies}}, tag='frames')
    query.append(
        orm.CalcJobNode,
        with_incoming='frames',
        edge_filters={'label': 'frames'},
        filters={'process_type': EVALUATE},
        project=['ctime', 'id'],
        tag='job',
    )
    query.append(PotentialData, with_outgoing='job', edge_filters={'label': 'potential'}, project='id')
    query.append(orm.ArrayData, with_incoming='job', edge_filters={'label': 'predictions'}, project='*')
    rows = sorted(query.distinct().all(), key=lambda row: row[:2])
    stages = _stages_of([job for _, job, _, _ in rows])
    found = []
    for _, job, potential, predictions in rows:
        names = predictions.get_array('frame_id')
        for row in np.flatnonzero(names == frame_id):
            found.append(_residual(predictions, int(row), potential, job, stages.get(job, '')))
    return found


def _labelled_copies(candidates: FramesData) -> list[int]:
    """Return the PKs of the labelled sets made of a set of candidates, and of the test sets made of these."""
    query = orm.QueryBuilder().append(FramesData, filters={'id': candidates.pk}, tag='candidates')
    query.append(orm.CalcFunctionNode, with_incoming='candidates', tag='collect')
    query.append(FramesData, with_incoming='collect', edge_filters={'label': 'labelled'}, project='id', tag='labelled')
    labelled = query.all(flat=True)
    if not labelled:
        return []
    query = orm.QueryBuilder().append(FramesData, filters={'id': {'in': labelled}}, tag='labelled')
    query.append(orm.CalcFunctionNode, with_incoming='labelled', tag='function')
    query.append(FramesData, with_incoming='function', project='id')
    return [*labelled, *query.all(flat=True)]


def _stages_of(jobs: list[int]) -> dict[int, str]:
    """Return the label under which a run called the evaluation that each job belongs to."""
    if not jobs:
        return {}
    query = orm.QueryBuilder().append(orm.CalcJobNode, filters={'id': {'in': jobs}}, project='id', tag='job')
    query.append(orm.WorkChainNode, with_outgoing='job', tag='stage')
    query.append(orm.WorkChainNode, with_outgoing='stage', edge_project='label')
    return dict(query.all())


def _residual(predictions: orm.ArrayData, row: int, potential: int, job: int, stage: str) -> Residual:
    n_atoms = predictions.get_array('n_atoms')
    start = int(n_atoms[:row].sum())
    forces = slice(start, start + int(n_atoms[row]))
    difference = (predictions.get_array('forces') - predictions.get_array('REF_forces'))[forces] * 1e3
    energy = (predictions.get_array('energy') - predictions.get_array('REF_energy'))[row] / n_atoms[row] * 1e3
    return Residual(
        potential,
        job,
        stage,
        str(predictions.get_array('split')[row]) or NEW_LABELS,
        float(np.sqrt((difference**2).mean())),
        float(np.linalg.norm(difference, axis=1).max()),
        float(energy),
    )


def judgements_of(potential: PotentialData) -> list[Judgement]:
    """Return the errors of a potential in each evaluation of it, by the split of the frames, oldest first."""
    query = orm.QueryBuilder().append(PotentialData, filters={'id': potential.pk}, tag='potential')
    query.append(
        orm.CalcJobNode,
        with_incoming='potential',
        edge_filters={'label': 'potential'},
        filters={'process_type': EVALUATE},
        project=['ctime', 'id'],
        tag='job',
    )
    query.append(orm.Dict, with_incoming='job', edge_filters={'label': 'metrics'}, project='attributes')
    query.append(FramesData, with_outgoing='job', edge_filters={'label': 'frames'}, project='id')
    rows = sorted(query.all(), key=lambda row: row[:2])
    stages = _stages_of([row[1] for row in rows])
    return [
        Judgement(job, stages.get(job, ''), name, frames, errors)
        for _, job, metrics, frames in rows
        for name, errors in sorted((metrics['by_split'] or {NEW_LABELS: metrics}).items(), reverse=True)
    ]
