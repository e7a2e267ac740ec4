"""The parts of the level of theory beside functional, cutoffs, k-points, smearing and spin.

A part that is left at its default is in neither the fingerprint nor the key of a label: labels of before stay valid.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from ase import Atoms
from pydantic import BeforeValidator, Field, model_validator

from aiida_mlip_autopipe.labelling.espresso.boundary import boundary_entries, boundary_of
from aiida_mlip_autopipe.labelling.espresso.dispersion import (
    dispersion_entries,
    refused_dispersion,
    xdm_problem,
)
from aiida_mlip_autopipe.labelling.espresso.extra import Extra, extra_entries
from aiida_mlip_autopipe.labelling.espresso.functionals import functional_problem
from aiida_mlip_autopipe.labelling.espresso.hubbard import (
    hubbard_card,
    hubbard_entries,
    hubbard_problems,
    missing_orbitals,
    refused_projector,
)
from aiida_mlip_autopipe.labelling.espresso.magnetism import element_of, species_of
from aiida_mlip_autopipe.labelling.espresso.upf import Header
from aiida_mlip_autopipe.science.parameters.labelling import LabellingParameters
from aiida_mlip_autopipe.science.systems import is_isolated_atom

if TYPE_CHECKING:
    from aiida_mlip_autopipe.labelling.espresso.parameters import EspressoParameters

__all__ = [
    'RECIPE_FIELDS',
    'RecipeParameters',
    'cards',
    'given_parts',
    'pseudo_problems',
    'total_charge',
    'with_recipe',
]

Dispersion = Annotated[Literal['none', 'd2', 'd3', 'd3bj', 'xdm'], BeforeValidator(refused_dispersion)]
HubbardU = Annotated[float, Field(gt=0, le=20)]
Projector = Annotated[Literal['atomic', 'ortho-atomic'], BeforeValidator(refused_projector)]


class RecipeParameters(LabellingParameters):
    """The parts of the recipe that are off by default."""

    dispersion: Dispersion = Field('none', description='Dispersion correction.')
    dispersion_three_body: bool = Field(False, description='Whether d3 and d3bj have their three-body term.')
    hubbard: dict[str, HubbardU] = Field(
        default_factory=dict,
        description='Hubbard U of manifolds, in eV, as {Ni-3d: 6.0} (DFT+U of Dudarev).',
        examples=[{'Si-3p': 4.0}],
    )
    hubbard_projector: Projector = Field(
        'ortho-atomic',
        description='Orbitals that the occupations of +U are projected on; each has values of U of its own.',
    )
    hubbard_syntax: Literal['namelist', 'card'] = Field(
        'namelist', description='How pw.x is told of U: namelist before version 7.1, card from then on.'
    )
    charge: int = Field(
        0,
        ge=-20,
        le=20,
        description='Total charge of each structure, in units of e; isolated atoms are neutral. A periodic cell has a '
        'uniform background against it.',
    )
    boundary: Literal['auto', '3d', '2d', '0d'] = Field(
        'auto',
        description='Boundary condition of the electrostatics: 3d is periodic, 2d cuts the interaction off along z, '
        '0d in all directions; auto: as the vacuum of the structures asks for, where their cells suit it, else 3d.',
    )
    extra: Extra = Field(
        default_factory=dict,
        description='Further entries of the namelists CONTROL, SYSTEM and ELECTRONS, as {SYSTEM: {nosym: true}}; all '
        'of them are part of the level of theory.',
        examples=[{'SYSTEM': {'nosym': True}}],
    )

    @model_validator(mode='after')
    def _recipe_fits(self) -> RecipeParameters:
        if problems := list(hubbard_problems(self.hubbard, self.hubbard_syntax)):
            raise ValueError('; '.join(f'hubbard.{problem}' for problem in problems))
        return self


#: The parts that decide the energy.
RECIPE_FIELDS = ('dispersion', 'dispersion_three_body', 'hubbard', 'hubbard_projector', 'charge', 'boundary', 'extra')


def given_parts(asked: RecipeParameters) -> dict[str, Any]:
    """Return the parts that are not at their default, as plain data."""
    plain = asked.model_dump(mode='json', include=set(RECIPE_FIELDS))
    default = type(asked)().model_dump(mode='json', include=set(RECIPE_FIELDS))
    return {name: value for name, value in plain.items() if value != default[name]}


def total_charge(atoms: Atoms, asked: RecipeParameters) -> int:
    """Return the charge of a candidate, in units of e: that of the data set, but for an isolated atom."""
    return 0 if is_isolated_atom(atoms) else asked.charge


def with_recipe(
    namelists: Mapping[str, Mapping[str, Any]], atoms: Atoms, asked: EspressoParameters, dft: str | None
) -> dict[str, dict[str, Any]]:
    """Return namelists with the entries of the recipe.

    Parameters
    ----------
    namelists : mapping
        Namelist -> key -> value.
    atoms : Atoms
        The candidate.
    asked : EspressoParameters
    dft : str or None
        The functional, where it is not that of the pseudopotentials.
    """
    found = {name: dict(entries) for name, entries in namelists.items()}
    for entries in _entries(atoms, asked, dft):
        for name, values in entries.items():
            found[name] |= values
    return found


def _entries(atoms: Atoms, asked: EspressoParameters, dft: str | None) -> Iterator[dict[str, dict[str, Any]]]:
    species = _species(atoms, asked)
    if dft is not None:
        yield {'SYSTEM': {'input_dft': dft}}
    yield dispersion_entries(asked.dispersion, asked.dispersion_three_body)
    yield hubbard_entries(asked.hubbard, asked.hubbard_projector, asked.hubbard_syntax, species)
    if charge := total_charge(atoms, asked):
        yield {'SYSTEM': {'tot_charge': charge}}
    if not is_isolated_atom(atoms):
        yield boundary_entries(boundary_of(asked.boundary))
    yield extra_entries(asked.extra, species)


def cards(atoms: Atoms, asked: EspressoParameters) -> list[str]:
    """Return the lines of further cards."""
    return hubbard_card(asked.hubbard, asked.hubbard_projector, asked.hubbard_syntax, _species(atoms, asked))


def _species(atoms: Atoms, asked: EspressoParameters) -> dict[str, str]:
    """Return the species, as pw.x is told them -> element."""
    return {kind: element_of(kind) for kind in sorted(set(species_of(atoms, asked)))}


def pseudo_problems(asked: RecipeParameters, functional: str, headers: Mapping[str, Header]) -> list[str]:
    """Return what of a recipe the pseudopotentials cannot do, each with the way out.

    Parameters
    ----------
    asked : RecipeParameters
    functional : str
    headers : mapping
        Header of the pseudopotential of each element.
    """
    found = [functional_problem(functional, headers)]
    if asked.dispersion == 'xdm':
        found.append(xdm_problem({element: header.kind for element, header in headers.items()}))
    orbitals = {element: header.orbitals for element, header in headers.items()}
    return [problem for problem in found if problem] + missing_orbitals(asked.hubbard, orbitals)
