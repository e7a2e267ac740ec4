"""Labels that were computed before, candidate by candidate, and the jobs of a stage that gave none.

AiiDA's cache knows whole calculations. That is right for a candidate that is labelled alone, but a batch with one
candidate more is another calculation. So what is looked for here is the key of each candidate, which says what is
asked for: a batch lists the keys of its labels, a calculation alone has its key as its label.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from aiida import orm
from aiida.manage.caching import get_use_cache

from aiida_mlip_autopipe.labelling.base import Labeller
from aiida_mlip_autopipe.labelling.kinds import job_types
from aiida_mlip_autopipe.provenance.states import LABEL_LINK

__all__ = ['computed_alone', 'computed_in_batches', 'failed_jobs', 'job_options']

VALID_CACHE = 'extras._aiida_valid_cache'


def computed_in_batches(labeller: Labeller, keys: Iterable[str]) -> dict[str, orm.ArrayData]:
    """Return, for each key whose label a finished batch of the same code has, the labels of that batch.

    :param labeller: the labelling code, with its nodes.
    :param keys: see `Labeller.key`.
    :returns: empty where caching is not enabled for batches.
    """
    if labeller.batch_type is None or not get_use_cache(identifier=labeller.batch_type):
        return {}
    query = _jobs(labeller, labeller.batch_type, {})
    query.append(orm.ArrayData, with_incoming='job', project=['id', 'attributes.keys'], tag='labels')
    wanted, holder = set(keys), dict[str, int]()
    for valid, pk, found in query.all():
        if valid is not False:
            holder |= dict.fromkeys(wanted.intersection(found), pk)
    nodes = {pk: orm.load_node(pk) for pk in set(holder.values())}
    return {key: nodes[pk] for key, pk in holder.items()}


def computed_alone(labeller: Labeller, keys: Iterable[str]) -> dict[str, orm.CalcJobNode]:
    """Return, for each key that a calculation of its own was finished for, that calculation.

    :returns: empty where caching is not enabled for these jobs.
    """
    wanted = list(keys)
    if not wanted or not get_use_cache(identifier=labeller.job_type):
        return {}
    query = _jobs(labeller, labeller.job_type, {'label': {'in': wanted}, 'attributes.exit_status': 0}, ['*'])
    return {node.label: node for valid, node in query.all() if valid is not False}


def _jobs(
    labeller: Labeller, process_type: str, filters: dict[str, Any], project: Sequence[str] = ()
) -> orm.QueryBuilder:
    """Return a query for the finished jobs of a code, oldest first; the first projection: whether it counts."""
    query = orm.QueryBuilder()
    query.append(orm.AbstractCode, filters={'id': labeller.nodes['code'].pk}, tag='code')
    query.append(
        orm.CalcJobNode,
        with_incoming='code',
        filters={'process_type': process_type, 'attributes.sealed': True, **filters},
        project=[VALID_CACHE, *project],
        tag='job',
    )
    query.order_by({'job': 'id'})
    return query


def failed_jobs(stage: orm.WorkChainNode) -> list[orm.ProcessNode]:
    """Return the jobs of candidates that were labelled alone in a stage and have failed."""
    query = orm.QueryBuilder()
    query.append(orm.WorkChainNode, filters={'id': stage.pk}, tag='stage')
    query.append(orm.WorkChainNode, with_incoming='stage', tag='sequence')
    query.append(
        orm.ProcessNode, with_incoming='sequence', edge_filters={'label': {'like': f'{LABEL_LINK}%'}}, project='*'
    )
    known = job_types()
    below = [node for label in query.all(flat=True) for node in (label, *label.called)]
    return [node for node in below if node.process_type in known and not node.is_finished_ok]


def job_options(stage: orm.WorkChainNode) -> dict[str, Any]:
    """Return the options that the jobs of a stage were submitted with; only they remember them."""
    for node in stage.called_descendants:
        if isinstance(node, orm.CalcJobNode):
            return dict(node.base.attributes.get('metadata_inputs')['metadata']['options'])
    return {}
