"""The MD jobs among the calls of a run: the last attempt of each, and what their manifests tell."""

from __future__ import annotations

from collections.abc import Iterable

from aiida import orm

from aiida_mlip_autopipe.provenance.calls import Call, in_time
from aiida_mlip_autopipe.provenance.states import MACE_MD
from aiida_mlip_autopipe.science.frames import Manifest

__all__ = ['MD_LINK', 'last_attempts', 'manifests_of', 'md_workchains']

MD_LINK = 'md_'
"""What the name of an MD job begins with, under which its sequence calls it; its number follows."""


def last_attempts(calls: Iterable[Call]) -> list[Call]:
    """Return the last attempt of each MD job among calls: it has the frames of those before."""
    return list({call.parent: call for call in in_time(calls) if call.process_type == MACE_MD}.values())


def manifests_of(jobs: Iterable[Call]) -> dict[int, Manifest]:
    """Return the manifests of MD jobs: PK -> manifest, in the order of the jobs; those without one are left out."""
    wanted = [job.pk for job in jobs]
    if not wanted:
        return {}
    query = orm.QueryBuilder()
    query.append(orm.CalcJobNode, filters={'id': {'in': wanted}}, project='id', tag='job')
    query.append(orm.Dict, with_incoming='job', edge_filters={'label': 'manifest'}, project='attributes')
    found = dict(query.all())
    return {pk: found[pk] for pk in wanted if pk in found}


def md_workchains(exploration: int) -> dict[str, orm.WorkChainNode]:
    """Return the WorkChain of each MD job of an exploration (its PK): name -> node, in the order of their numbers."""
    query = orm.QueryBuilder()
    query.append(orm.WorkChainNode, filters={'id': exploration}, tag='stage')
    query.append(orm.WorkChainNode, with_incoming='stage', tag='sequence')
    query.append(orm.WorkChainNode, with_incoming='sequence', edge_project='label', project='*')
    jobs = {label: node for node, label in query.all() if label.startswith(MD_LINK)}
    return dict(sorted(jobs.items(), key=lambda job: int(job[0].removeprefix(MD_LINK))))
