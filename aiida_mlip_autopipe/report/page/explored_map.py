"""The map of what was explored: all frames in the plane of the first two components, and what became of the picks.

A pick has a structure in the graph and a lineage; an explored frame has neither, but a candidate that represents it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms

from aiida_mlip_autopipe.provenance.rounds import CandidateRecord, Explored, RunRecord
from aiida_mlip_autopipe.provenance.states import CandidateState
from aiida_mlip_autopipe.report.page.blocks import Section, Text, Widget, encoded, title_of
from aiida_mlip_autopipe.report.page.dynamics import conditions, plane
from aiida_mlip_autopipe.report.page.structures import structures_data

__all__ = ['explored_map', 'lineage']


def explored_map(record: RunRecord) -> Section:
    """Return the map of each exploration, the structures of all candidates, and where each comes from."""
    mapped = [one for one in record.explored if one.figures]
    if not mapped:
        return Section('map', 'Map of explored frames', [Text('There is no selection yet.')])
    chosen = record.candidates
    structures, places = structures_data([candidate.atoms for candidate in chosen])
    replicas = {
        (job.manifest['md_job'], replica['replica']): (job.pk, conditions(replica))
        for one in record.explored
        for job in one.jobs
        for replica in job.manifest['replicas']
    }
    candidates = [
        {
            'frame_id': candidate.atoms.info['frame_id'],
            'group': title_of(candidate.stage),
            'state': candidate.state.value,
            'structure': place,
            'lineage': lineage(candidate, replicas),
        }
        for candidate, place in zip(chosen, places, strict=True)
    ]
    index = {one['frame_id']: number for number, one in enumerate(candidates)}
    numbers = {one.stage: number for number, one in enumerate(record.explored)}
    explorations = [{**_map_data(one, index), 'exploration': numbers[one.stage]} for one in mapped]
    data = {'explorations': explorations, 'candidates': candidates, 'structures': structures}
    return Section('map', 'Map of explored frames', [Widget('map', data)])


def lineage(candidate: CandidateRecord, replicas: dict[tuple[str, int], tuple[int, str]]) -> list[tuple[str, str]]:
    """Return where a candidate comes from, why it was chosen and what became of it, in words, line by line.

    Parameters
    ----------
    candidate : CandidateRecord
        The candidate.
    replicas : dict
        Name of an MD job and number of a replica -> PK of the job and conditions.
    """
    info = candidate.atoms.info
    rows = [('frame', info['frame_id']), ('formula', candidate.atoms.get_chemical_formula()), ('seed', info['origin'])]
    if 'md_job' in info:
        pk, told = replicas.get((info['md_job'], info['replica']), (None, ''))
        job = info['md_job'] if pk is None else f'{info["md_job"]} <{pk}>'
        rows += [('MD job', job), ('replica, step', f'{info["replica"]}, {info["step"]}')]
        rows += [('conditions', told or f'{info["temperature_K"]:g} K')]
    if 'reason' in info:
        cluster = 'none' if info['cluster'] < 0 else str(info['cluster'])
        rows += [('reason', info['reason']), ('cluster, rank', f'{cluster}, {info["rank"]}')]
        rows += [('represents', f'{info["represents"]} frames')]
    for key, name in (('novelty', 'distance from labelled frames'), ('disagreement_eV_A', 'disagreement (eV/Å)')):
        if np.isfinite(info.get(key, np.nan)):
            rows.append((name, f'{info[key]:.4g}'))
    return [*rows, *_label(candidate)]


def _label(candidate: CandidateRecord) -> list[tuple[str, str]]:
    rows = [('label', f'{candidate.state.value}: {candidate.reason}' if candidate.reason else candidate.state.value)]
    if candidate.label_job_pk is not None:
        rows.append(('DFT calculation', f'<{candidate.label_job_pk}> {candidate.label_job_uuid or ""}'.rstrip()))
    if candidate.energy_eV is not None:
        rows.append(
            ('energy (DFT)', f'{candidate.energy_eV:.6f} eV, {candidate.energy_eV / len(candidate.atoms):.6f} eV/atom')
        )
        rows.append(('largest force (DFT)', f'{candidate.max_force_eV_A:.3f} eV/Å'))
    if candidate.state is CandidateState.LABELLED:
        used = ', '.join(f'{name}: {split}' for name, split in candidate.used.items())
        rows.append(('used for', used or 'not used yet'))
    return rows


def _map_data(one: Explored, index: dict[str, int]) -> dict[str, Any]:
    """Return the picks of a map, what was known, the axes; and the density, where the frames are not there."""
    shown = one.figures['explained_variance']
    chosen = _candidates_by_rank(one)
    ranks = {rank: index[atoms.info['frame_id']] for rank, atoms in chosen.items()}
    data = {
        'title': title_of(one.stage),
        'axes': [
            f'component {axis + 1} ({100 * shown["ratios"][axis]:.3g} % of the variance)' if axis < len(shown["ratios"])
            else '' for axis in (0, 1)
        ],
        'picks': _picks(one, chosen, ranks),
        'by_rank': [ranks.get(rank, -1) for rank in range(max(ranks, default=-1) + 1)],
        'known': {axis: encoded(one.figures['known'][axis]) for axis in 'xy'},
    }  # fmt: skip
    if not one.frames:
        data['density'] = one.figures['density']
    return data


def _candidates_by_rank(one: Explored) -> dict[int, Atoms]:
    """Return the rank of each candidate of a selection -> itself."""
    return {atoms.info['rank']: atoms for atoms in one.candidates.get_atoms()} if one.candidates is not None else {}


def _picks(one: Explored, chosen: dict[int, Atoms], ranks: dict[int, int]) -> dict[str, Any]:
    """Return where the picks are, why they were chosen, and which candidate each is.

    All of them where the frames are there; the figures hold no more than a thinned list.
    """
    if one.frames:
        rows = np.flatnonzero(one.frames['rank'] >= 0)
        shown, points = one.frames['rank'][rows].tolist(), plane(one.frames['components'][rows])
    else:
        picks = one.figures['picks']
        shown, points = picks['rank'], np.array([picks['x'], picks['y']])
    kept = [number for number, rank in enumerate(shown) if rank in ranks]
    return {
        'x': encoded(points[0][kept]),
        'y': encoded(points[1][kept]),
        'reason': [chosen[shown[number]].info['reason'] for number in kept],
        'candidate': [ranks[shown[number]] for number in kept],
    }
