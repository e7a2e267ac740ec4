"""Pseudopotential families of the profile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aiida import orm
from aiida.plugins import GroupFactory

if TYPE_CHECKING:
    from aiida_pseudo.data.pseudo import UpfData
    from aiida_pseudo.groups.family import CutoffsPseudoPotentialFamily

__all__ = ['family_cutoffs', 'family_pseudos', 'installed_families', 'load_family']


def installed_families() -> dict[str, CutoffsPseudoPotentialFamily]:
    """Return the installed families with recommended cutoffs, of whatever library, by label."""
    query = orm.QueryBuilder().append(GroupFactory('pseudo.family'))
    return {family.label: family for family in query.all(flat=True) if hasattr(family, 'get_recommended_cutoffs')}


def load_family(label: str) -> CutoffsPseudoPotentialFamily:
    """Return an installed pseudopotential family with recommended cutoffs.

    :raises ValueError: if there is none of that label.
    """
    families = installed_families()
    if label not in families:
        installed = ', '.join(sorted(families)) or 'none'
        raise ValueError(
            f'labelling.pseudo_family: {label!r} is not installed (installed: {installed}); run '
            ' `mlip-autopipe init`, or `aiida-pseudo install`'
        )
    return families[label]


def family_cutoffs(label: str) -> dict[str, tuple[float, float]]:
    """Return the recommended cutoffs (wavefunctions, density) of each element of a family, in Ry."""
    family = load_family(label)
    return {element: family.get_recommended_cutoffs(elements=element, unit='Ry') for element in sorted(family.elements)}


def family_pseudos(label: str, elements: Sequence[str]) -> dict[str, UpfData]:
    """Return the pseudopotential of each element.

    :raises ValueError: if the family is not installed, or an element has none.
    """
    family = load_family(label)
    missing = sorted(set(elements) - set(family.elements))
    if missing:
        raise ValueError(
            f'labelling.pseudo_family: {label!r} has no pseudopotential for {", ".join(missing)}; install a family '
            'that has one, or add one to it'
        )
    pseudos: dict[str, UpfData] = family.get_pseudos(elements=list(elements))
    return pseudos
