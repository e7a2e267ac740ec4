"""All labelling codes that are registered: their jobs, and the check of their parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiida_mlip_autopipe.science.parameters.labelling import LABELLERS, kind_of

if TYPE_CHECKING:
    from aiida.orm import Dict

__all__ = ['job_types', 'validate_labelling']


def job_types() -> set[str]:
    """Return the process types of the jobs of all labelling codes."""
    codes = [labeller for _, labeller in LABELLERS.items()]
    return {labeller.job_type for labeller in codes} | {one.batch_type for one in codes if one.batch_type is not None}


def validate_labelling(node: Dict | None, port: object) -> str | None:
    """Return what is wrong with the parameters of a labelling code, if anything: the validator of a port."""
    from aiida_mlip_autopipe.calculations.worker_job import validate_parameters

    if node is None:
        return None
    try:
        labeller = LABELLERS[kind_of(node.get_dict())]
    except ValueError as error:
        return f'kind: {error}'
    return validate_parameters(labeller.parameters_class)(node, port)
