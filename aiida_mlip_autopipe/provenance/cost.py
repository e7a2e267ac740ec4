"""What the graph costs: nodes, processes by state, bytes of the database and of the files."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from aiida import orm
from aiida.manage import get_manager
from sqlalchemy import text

__all__ = ['ProfileCost', 'profile_cost']

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
