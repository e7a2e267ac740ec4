"""The processes that a run called, level by level, without loading a node.

A run of the pipeline is a tree of calls six levels deep at most. One query per level gives all that its progress, its
failures and what it reused are told from; loading the nodes would cost a query each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from aiida import orm

from aiida_mlip_autopipe.pipeline.exit_codes import WARNINGS

__all__ = ['Call', 'call_tree', 'children', 'in_time', 'jobs_with_figures', 'pk_of', 'stage_of']

_DRAWING = tuple(f'aiida.calculations:mlip_autopipe.{name}' for name in ('direct_sampling', 'evaluate', 'physics'))
_TERMINAL = ('finished', 'excepted', 'killed')
_PROJECT = (
    'id',
    'process_type',
    'attributes.process_label',
    'attributes.process_state',
    'attributes.exit_status',
    'attributes.exit_message',
    'attributes.exception',
    'attributes.paused',
    'attributes.process_status',
    'extras._aiida_cached_from',
    'ctime',
    'mtime',
)


@dataclass(frozen=True)
class Call:
    """One process of a run.

    Attributes
    ----------
    pk, parent : int
        The process and the one that called it; ``parent`` is 0 for the run itself.
    link : str
        The label under which it was called.
    process_type, label : str
        Entry point of its class (or the module of a function), and its name.
    state : str
        AiiDA's process state.
    exit_status, message
        Exit status and message; an exception's text where there was one.
    paused : str or None
        Why it is paused, in AiiDA's words; None where it is not.
    cached_from : str or None
        UUID of the process whose results it took.
    started, changed : datetime
        When it was made and last written.
    """

    pk: int
    parent: int
    link: str
    process_type: str
    label: str
    state: str
    exit_status: int | None
    message: str
    paused: str | None
    cached_from: str | None
    started: datetime
    changed: datetime

    @property
    def seconds(self) -> float:
        """Return the time since its start, or what it took."""
        return (self.end - self.started).total_seconds()

    @property
    def end(self) -> datetime:
        """Return when it ended; now, while it is at work."""
        return self.changed if self.is_terminated else datetime.now(UTC)

    @property
    def is_terminated(self) -> bool:
        """Return whether it finished, excepted or was killed."""
        return self.state in _TERMINAL

    @property
    def is_ok(self) -> bool:
        """Return whether it finished, with exit status 0 or with a warning (7xx)."""
        return self.state == 'finished' and (self.exit_status == 0 or self.exit_status in WARNINGS)

    @property
    def is_failed(self) -> bool:
        """Return whether it terminated otherwise."""
        return self.is_terminated and not self.is_ok


def call_tree(pk: int) -> list[Call]:
    """Return a process and all that it called, directly or not, parents first.

    Raises
    ------
    ValueError
        If there is no such process.
    """
    query = orm.QueryBuilder().append(orm.ProcessNode, filters={'id': pk}, project=list(_PROJECT))
    rows = query.all()
    if not rows:
        raise ValueError(f'{pk} is not the PK of a process; `mlip-autopipe status` lists the runs')
    tree = [_call(0, '', rows[0])]
    level = tree
    while level:
        level = children(call.pk for call in level)
        tree = [*tree, *level]
    return tree


def children(pks: Iterable[int]) -> list[Call]:
    """Return what the given processes called themselves, oldest first."""
    query = orm.QueryBuilder()
    query.append(orm.ProcessNode, filters={'id': {'in': list(pks)}}, project='id', tag='parent')
    query.append(orm.ProcessNode, with_incoming='parent', project=list(_PROJECT), edge_project='label', tag='child')
    query.order_by({'child': 'ctime'})
    return [_call(parent, link, values) for parent, *values, link in query.all()]


def in_time(calls: Iterable[Call]) -> list[Call]:
    """Return calls in the order in which they were made; after an import the order of their PKs is another one."""
    return sorted(calls, key=lambda call: (call.started, call.pk))


def stage_of(call: Call, tree: Mapping[int, Call], run: int) -> str:
    """Return the link label of the ancestor that the run itself called; ``tree`` holds the calls by their PK."""
    while call.parent not in (0, run):
        call = tree[call.parent]
    return call.link or call.label


def jobs_with_figures(run: int) -> dict[str, int]:
    """Return the PK of the finished job of each stage of a run that brought figures, in the order of the stages."""
    tree = {call.pk: call for call in call_tree(run)}
    jobs = [call for call in tree.values() if call.process_type in _DRAWING and call.is_ok]
    return {stage_of(call, tree, run): call.pk for call in in_time(jobs)}


def count_nodes() -> int:
    """Return the number of nodes in the profile."""
    return orm.QueryBuilder().append(orm.Node).count()


def pk_of(node: orm.Node) -> int:
    """Return the PK of a stored node."""
    if node.pk is None:
        raise ValueError(f'{node} is not stored: it has no place in the provenance graph yet')
    return node.pk


def _call(parent: int, link: str, values: list) -> Call:
    pk, process_type, label, state, status, message, exception, paused, words, cached_from, started, changed = values
    return Call(
        pk,
        parent,
        link,
        process_type or '',
        label or '',
        state or 'created',
        status,
        message or exception or '',
        (words or '') if paused and state not in _TERMINAL else None,
        cached_from,
        started,
        changed,
    )
