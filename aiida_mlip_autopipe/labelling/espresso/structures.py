"""Structures as aiida-quantumespresso takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiida_mlip_autopipe.labelling.espresso.hubbard import manifolds
from aiida_mlip_autopipe.labelling.espresso.recipe import RecipeParameters

if TYPE_CHECKING:
    from aiida.orm import StructureData

__all__ = ['with_hubbard']


def with_hubbard(structure: StructureData, asked: RecipeParameters) -> StructureData:
    """Return a structure that has its values of U, where pw.x is to read them from the card; else as it is."""
    given = {kind.name: manifolds(asked.hubbard).get(kind.symbol) for kind in structure.kinds}
    if asked.hubbard_syntax == 'namelist' or not any(given.values()):
        return structure
    from aiida_quantumespresso.common.hubbard import Hubbard
    from aiida_quantumespresso.data.hubbard_structure import HubbardStructureData

    names = [site.kind_name for site in structure.sites]
    rows = []
    for name, value in given.items():
        if value is not None:
            first, (manifold, u_eV) = names.index(name), value
            rows.append((first, manifold, first, manifold, u_eV, (0, 0, 0), 'Ueff'))
    found = HubbardStructureData.from_structure(structure, Hubbard.from_list(rows, projectors=asked.hubbard_projector))
    found.label = structure.label
    return found
