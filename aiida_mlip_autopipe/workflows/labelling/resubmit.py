"""Labelling again what failed, and only that."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.engine import ProcessBuilder

from aiida_mlip_autopipe.labelling.base import job_types, labeller_of_process
from aiida_mlip_autopipe.workflows.labelling.engine import LabellingEngineWorkChain
from aiida_mlip_autopipe.workflows.labelling.sequence import LABEL_LINK

__all__ = ['build_resubmission', 'forget_failures']


def build_resubmission(
    stage: orm.WorkChainNode,
    only: list[int],
    *,
    max_concurrent: int | None = None,
    wallclock_seconds: int | None = None,
) -> ProcessBuilder:
    """Return a labelling stage with the inputs of an earlier one, for some of its candidates.

    :param stage: the earlier stage.
    :param only: the places of the candidates in its set.
    :param max_concurrent: sequences; those of the earlier stage if None.
    :param wallclock_seconds: time limit of each job; that of the earlier stage if None.
    """
    inputs = stage.inputs
    parameters = inputs.parameters
    if max_concurrent is not None and max_concurrent != parameters['max_concurrent']:
        parameters = orm.Dict({**parameters.get_dict(), 'max_concurrent': max_concurrent})
    options = _options_of(stage)
    if wallclock_seconds is not None:
        options['max_wallclock_seconds'] = wallclock_seconds
    builder: Any = LabellingEngineWorkChain.get_builder()
    builder.candidates = inputs.candidates
    builder.only = orm.List(only)
    builder.parameters = parameters
    builder.labelling = labeller_of_process(stage).nodes
    builder.options = options
    return builder


def _options_of(stage: orm.WorkChainNode) -> dict[str, Any]:
    """Return the options that the jobs of a stage were submitted with; only they remember them."""
    for node in stage.called_descendants:
        if isinstance(node, orm.CalcJobNode):
            return dict(node.base.attributes.get('metadata_inputs')['metadata']['options'])
    return {}


def forget_failures(stage: orm.WorkChainNode) -> None:
    """Keep AiiDA from answering out of its cache with the failures of a stage: they are not reused any more."""
    query = orm.QueryBuilder()
    query.append(orm.WorkChainNode, filters={'id': stage.pk}, tag='stage')
    query.append(orm.WorkChainNode, with_incoming='stage', tag='sequence')
    query.append(
        orm.ProcessNode, with_incoming='sequence', edge_filters={'label': {'like': f'{LABEL_LINK}%'}}, project='*'
    )
    known = job_types()
    for label in query.all(flat=True):
        for job in (node for node in (label, *label.called) if node.process_type in known and not node.is_finished_ok):
            source = job.base.caching.get_cache_source()
            for node in [job, *([orm.load_node(uuid=source)] if source else [])]:
                node.base.caching.is_valid_cache = False
