"""Whether the source of the seeds is relaxed first, and what of it: asked by the expansion, with the reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ase import Atoms

from aiida_mlip_autopipe.config.heuristics import Suggestion
from aiida_mlip_autopipe.science.parameters import LABELLERS
from aiida_mlip_autopipe.science.parameters.labelling import kind_of
from aiida_mlip_autopipe.science.systems import Dimensionality, recognised

__all__ = ['NONE', 'relaxation_of']

RELAX, AUTO, NONE = 'system.relax', 'auto', 'none'
BY_VACUUM = {0: 'cell', 1: 'in-plane'}
"""Number of axes along which there is vacuum -> what is relaxed; with more, positions."""


def relaxation_of(
    data: dict[str, Any], sources: Sequence[Atoms], found: Sequence[Dimensionality], recommended: Any
) -> tuple[dict[str, Suggestion], list[str]]:
    """Return what of the sources is relaxed where the user leaves it open, put into ``data``; and the problems.

    Parameters
    ----------
    data : dict
        All values of the configuration but this one, nested.
    sources : sequence of Atoms
        The structures that the seeds are made from.
    found : sequence of Dimensionality
        What they are.
    recommended : any
        What the profile recommends to the labelling code.
    """
    section, system = data.get('labelling', {}), data.get('system')
    if not isinstance(section, Mapping) or not isinstance(system, Mapping) or kind_of(section) not in LABELLERS:
        return {}, []
    bare = [recognised(atoms) for atoms in sources]
    if system.get('relax') not in (None, AUTO):
        return {}, _unfit(system['relax'], bare, found, section, recommended)
    suggestion = _suggested(data, bare, found, section, recommended)
    data['system'] = {**system, 'relax': suggestion.value}
    return {RELAX: suggestion}, []


def _suggested(
    data: Mapping[str, Any],
    sources: Sequence[Atoms],
    found: Sequence[Dimensionality],
    section: Mapping[str, Any],
    recommended: Any,
) -> Suggestion:
    if data.get('data') is not None:
        return Suggestion(NONE, 'auto: the run goes on from data, which lies where it lies')
    if len(sources) > 1:
        return Suggestion(NONE, f'auto: {len(sources)} structures, which are perhaps meant as they are')
    what = BY_VACUUM.get(len(found[0].vacuum_axes), 'positions')
    problem = LABELLERS[kind_of(section)].relaxation_problem(what, sources[0], section, recommended)
    if problem is not None:
        return Suggestion(NONE, f'auto: the structure stays as it is given, as {problem}')
    note = '; positions keeps the lattice of a slab that was cut from a crystal' if what == 'in-plane' else ''
    return Suggestion(what, f'auto: {found[0].kind}, relaxed with the method of the labels{note}')


def _unfit(
    what: Any,
    sources: Sequence[Atoms],
    found: Sequence[Dimensionality],
    section: Mapping[str, Any],
    recommended: Any,
) -> list[str]:
    """Return why what the user wants to relax cannot be, as problems of the input."""
    if what == NONE or not isinstance(what, str):
        return []
    if with_vacuum := next((one for one in found if what == 'cell' and one.vacuum_axes), None):
        return [f'{RELAX}: cell: a source is a {with_vacuum}, which would close; give in-plane, positions or none']
    labeller = LABELLERS[kind_of(section)]
    problems = (labeller.relaxation_problem(what, atoms, section, recommended) for atoms in sources)
    told = dict.fromkeys(problem for problem in problems if problem is not None)
    return [f'{RELAX}: {what}: {problem}; give another one, or none' for problem in told]
