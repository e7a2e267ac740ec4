"""Whether the source of the seeds is relaxed first, and what of it: asked by the expansion, with the reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ase import Atoms

from aiida_mlip_autopipe.config.heuristics import Suggestion
from aiida_mlip_autopipe.science.parameters import LABELLERS
from aiida_mlip_autopipe.science.parameters.labelling import kind_of

__all__ = ['AUTO', 'NONE', 'RELAX', 'suggested_relaxation', 'unfit_relaxation']

RELAX, AUTO, NONE = 'system.relax', 'auto', 'none'
BY_PERIODIC = {3: 'cell', 2: 'in-plane'}
"""Periodic directions -> what is relaxed."""


def suggested_relaxation(sources: Sequence[Atoms], configuration: Mapping[str, Any], recommended: Any) -> Suggestion:
    """Return what is relaxed of the sources where the user does not say, and why.

    Parameters
    ----------
    sources : sequence of Atoms
        The structures that the seeds are made from.
    configuration : mapping
        All values but this one, nested.
    recommended : any
        What the profile recommends to the labelling code.
    """
    if configuration.get('data') is not None:
        return Suggestion(NONE, 'auto: the run goes on from data, which lies where it lies')
    if len(sources) > 1:
        return Suggestion(NONE, f'auto: {len(sources)} structures, which are perhaps meant as they are')
    section = configuration.get('labelling', {})
    labeller = LABELLERS[kind_of(section)]
    n_periodic = int(sources[0].pbc.sum())
    what = BY_PERIODIC.get(n_periodic, 'positions')
    problem = labeller.relaxation_problem(what, sources[0], section, recommended)
    if problem is not None:
        return Suggestion(NONE, f'auto: the structure stays as it is given, as {problem}')
    return Suggestion(what, f'auto: periodic in {n_periodic} directions, relaxed with the method of the labels')


def unfit_relaxation(what: Any, sources: Sequence[Atoms], section: Mapping[str, Any], recommended: Any) -> list[str]:
    """Return why what the user wants to relax cannot be, as problems of the input."""
    if what == NONE or not isinstance(what, str):
        return []
    labeller = LABELLERS[kind_of(section)]
    found = (labeller.relaxation_problem(what, atoms, section, recommended) for atoms in sources)
    return [f'{RELAX}: {what}: {problem}; give another one, or none' for problem in dict.fromkeys(filter(None, found))]
