"""What the graph costs: nodes, processes by state, bytes of the database and of the files; and what the jobs cost."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

from aiida import orm
from aiida.manage import get_manager
from sqlalchemy import text

from aiida_mlip_autopipe.worker.files import RESULT_FILE

from .calls import call_tree, stage_of

__all__ = ['ProfileCost', 'core_hours', 'profile_cost']

DATABASE_BYTES = {
    'sqlite': 'SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()',
    'postgresql': 'SELECT pg_database_size(current_database())',
}
FILES_ON_DISK = ('total_size_packfiles_on_disk', 'total_size_packindexes_on_disk', 'total_size_loose')


@dataclass(frozen=True)
class ProfileCost:
    """Nodes, processes by outcome ('ok', 'failed', 'active'), and bytes of the loaded profile."""

    n_nodes: int
    processes: dict[str, int]
    database_bytes: int
    repository_bytes: int


def profile_cost() -> ProfileCost:
    """Return what the loaded profile holds."""
    query = orm.QueryBuilder().append(orm.ProcessNode, project=['attributes.process_state', 'attributes.exit_status'])
    outcomes = Counter(_outcome(*row) for row in query.all())
    backend: Any = get_manager().get_profile_storage()
    sizes = backend.get_repository().get_info(detailed=True)['Size (MB)']
    return ProfileCost(
        n_nodes=orm.QueryBuilder().append(orm.Node).count(),
        processes=dict(outcomes),
        database_bytes=_database_bytes(backend),
        repository_bytes=round(sum(sizes[name] for name in FILES_ON_DISK) * 1024**2),
    )


def _outcome(state: str | None, exit_status: int | None) -> str:
    if state == 'finished':
        return 'ok' if exit_status == 0 else 'failed'
    return 'failed' if state in ('excepted', 'killed') else 'active'


def _database_bytes(backend: Any) -> int:
    session = backend.get_session()
    return int(session.execute(text(DATABASE_BYTES[session.get_bind().dialect.name])).scalar_one())


def core_hours(run: int) -> dict[str, float]:
    """Return what each stage of a run has cost, in core hours: wall time times cores, of jobs that really ran.

    A job that left no word of its wall time, as it was killed, counts from its submission to its end.
    """
    tree = {call.pk: call for call in call_tree(run)}
    calls = [call for call in tree.values() if call.is_terminated and call.cached_from is None]
    cores = _cores([call.pk for call in calls])
    said = _wall_seconds(list(cores))
    spent: dict[str, float] = defaultdict(float)
    for call in calls:
        if call.pk in cores:
            seconds = said.get(call.pk, (call.changed - call.started).total_seconds())
            spent[stage_of(call, tree, run)] += seconds * cores[call.pk] / 3600
    return dict(spent)


def _cores(pks: list[int]) -> dict[int, int]:
    """Return the cores that each job asked for; processes that are no jobs are left out."""
    if not pks:
        return {}
    query = orm.QueryBuilder()
    query.append(orm.CalcJobNode, filters={'id': {'in': pks}}, project=['id', 'attributes.resources'])
    return {pk: _cores_of(resources or {}) for pk, resources in query.all()}


def _cores_of(resources: dict[str, Any]) -> int:
    machines = resources.get('num_machines') or 1
    processes = resources.get('tot_num_mpiprocs') or machines * (resources.get('num_mpiprocs_per_machine') or 1)
    return processes * (resources.get('num_cores_per_mpiproc') or 1)


def _wall_seconds(pks: list[int]) -> dict[int, float]:
    """Return the wall times that jobs have told: those of pw.x in its output, the worker's in its result file."""
    if not pks:
        return {}
    query = orm.QueryBuilder()
    query.append(orm.CalcJobNode, filters={'id': {'in': pks}}, project='id', tag='job')
    query.append(orm.Dict, with_incoming='job', project='attributes.wall_time_seconds')
    told = {pk: float(seconds) for pk, seconds in query.all() if seconds is not None}
    others = [pk for pk in pks if pk not in told]
    if not others:
        return told
    query = orm.QueryBuilder()
    query.append(orm.CalcJobNode, filters={'id': {'in': others}}, project='id', tag='job')
    query.append(orm.FolderData, with_incoming='job', edge_filters={'label': 'retrieved'}, project='*')
    for pk, retrieved in query.all():
        if RESULT_FILE in retrieved.base.repository.list_object_names():
            told[pk] = json.loads(retrieved.base.repository.get_object_content(RESULT_FILE))['wall_s']
    return told
