"""The parts of the recipe in words: for a paper, and as rows of a table."""

from __future__ import annotations

from collections.abc import Iterator

from aiida_mlip_autopipe.labelling.espresso.boundary import boundary_of
from aiida_mlip_autopipe.labelling.espresso.dispersion import DISPERSION_NAMES, dispersion_references
from aiida_mlip_autopipe.labelling.espresso.recipe import RecipeParameters
from aiida_mlip_autopipe.science.references import Reference

__all__ = ['recipe_references', 'recipe_rows', 'recipe_words']

DOI = 'https://doi.org/'
PLUS_U = (
    Reference('S. L. Dudarev et al., Phys. Rev. B 57, 1505 (1998)', f'{DOI}10.1103/PhysRevB.57.1505'),
    Reference('M. Cococcioni, S. de Gironcoli, Phys. Rev. B 71, 035105 (2005)', f'{DOI}10.1103/PhysRevB.71.035105'),
)
LAYERS = Reference(
    'T. Sohier, M. Calandra, F. Mauri, Phys. Rev. B 96, 075448 (2017)', f'{DOI}10.1103/PhysRevB.96.075448'
)
MOLECULES = Reference('G. J. Martyna, M. E. Tuckerman, J. Chem. Phys. 110, 2810 (1999)', f'{DOI}10.1063/1.477923')
BOUNDARIES = {
    '2d': ('a Coulomb interaction cut off along z', LAYERS),
    '0d': ('the electrostatics of an isolated molecule', MOLECULES),
}


def recipe_rows(asked: RecipeParameters) -> list[tuple[str, str]]:
    """Return the parts that are given as the rows of a table."""
    return list(_parts(asked))


def recipe_words(asked: RecipeParameters) -> str:
    """Return the parts that are given as phrases of the sentence on the labels, each with a comma at its end."""
    told = dict(_parts(asked))
    if '+U' in told:
        told['+U'] = f'DFT+U with {told["+U"]}'
    if 'total charge' in told:
        told['total charge'] = f'a total charge of {told["total charge"]}'
    if 'further entries' in told:
        told['further entries'] = f'the further input {told["further entries"]}'
    return ''.join(f'{phrase}, ' for phrase in told.values())


def recipe_references(asked: RecipeParameters) -> list[Reference]:
    """Return the publications of the parts that are given."""
    found = dispersion_references(asked.dispersion) + (list(PLUS_U) if asked.hubbard else [])
    boundary = boundary_of(asked.boundary)
    return found + ([BOUNDARIES[boundary][1]] if boundary in BOUNDARIES else [])


def _parts(asked: RecipeParameters) -> Iterator[tuple[str, str]]:
    """Yield the title and the words of each part that is given."""
    if asked.dispersion in DISPERSION_NAMES:
        three_body = f', with{"" if asked.dispersion_three_body else "out"} the three-body term'
        yield (
            'dispersion',
            DISPERSION_NAMES[asked.dispersion] + (three_body if asked.dispersion.startswith('d3') else ''),
        )
    if asked.hubbard:
        values = ', '.join(f'U({manifold}) = {value:g} eV' for manifold, value in sorted(asked.hubbard.items()))
        yield '+U', f'{values} on {asked.hubbard_projector} projectors'
    if asked.charge:
        yield 'total charge', f'{asked.charge:+d} e (isolated atoms are neutral)'
    if (boundary := boundary_of(asked.boundary)) in BOUNDARIES:
        yield 'electrostatics', BOUNDARIES[boundary][0]
    if asked.extra:
        yield 'further entries', _extra(asked)


def _extra(asked: RecipeParameters) -> str:
    return '; '.join(
        f'{namelist}: ' + ', '.join(f'{key} = {value}' for key, value in sorted(entries.items()))
        for namelist, entries in sorted(asked.extra.items())
    )
