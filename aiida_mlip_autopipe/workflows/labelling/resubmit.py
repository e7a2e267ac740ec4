"""Labelling again what failed, and only that."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.engine import ProcessBuilder

from aiida_mlip_autopipe.labelling.base import labeller_of_process
from aiida_mlip_autopipe.provenance.earlier_labels import failed_jobs, job_options
from aiida_mlip_autopipe.workflows.labelling.engine import LabellingEngineWorkChain

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
    options = job_options(stage)
    if wallclock_seconds is not None:
        options['max_wallclock_seconds'] = wallclock_seconds
    builder: Any = LabellingEngineWorkChain.get_builder()
    builder.candidates = inputs.candidates
    builder.only = orm.List(only)
    builder.parameters = parameters
    builder.labelling = labeller_of_process(stage).nodes
    builder.options = options
    return builder


def forget_failures(stage: orm.WorkChainNode) -> None:
    """Keep AiiDA from answering out of its cache with the failures of a stage: they are not reused any more."""
    for job in failed_jobs(stage):
        source = job.base.caching.get_cache_source()
        for node in [job, *([orm.load_node(uuid=source)] if source else [])]:
            node.base.caching.is_valid_cache = False
