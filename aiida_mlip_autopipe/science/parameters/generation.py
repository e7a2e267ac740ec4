"""Seed structures: what all methods share, and a section for each method that is registered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field, create_model, model_validator

from aiida_mlip_autopipe.science.generate.base import SeedGenerator
from aiida_mlip_autopipe.science.parameters.base import StageParameters
from aiida_mlip_autopipe.science.registry import GENERATORS

__all__ = ['GenerationParameters']


class _Shared(StageParameters):
    target_atoms: int = Field(
        8,
        ge=1,
        le=10_000,
        description='Target number of atoms of a seed: the supercell is the '
        'most isotropic one with at least this many atoms.',
    )
    n_test_seeds: int = Field(
        2,
        ge=1,
        le=1000,
        description='Separate rattled seeds for the test set, which is '
        'generated from them; no training frame descends from them.',
    )
    min_distance_factor: float = Field(
        0.7,
        gt=0,
        le=1.2,
        description='Shortest allowed distance in a generated '
        'structure, as a fraction of the sum of the covalent radii.',
    )
    isolated_atom_box_A: float = Field(9.0, ge=5, le=40, description='Edge of the cubic box of an isolated atom, in Å.')
    random_seed: int = Field(0, ge=0, lt=2**32, description='Seed of all random numbers of this stage.')


def _with_methods() -> type[_Shared]:
    sections: dict[str, Any] = {
        name: (method, Field(default_factory=method, description=(method.__doc__ or name).splitlines()[0]))
        for name, method in GENERATORS.items()
    }
    return create_model('_WithMethods', __base__=_Shared, **sections)


if TYPE_CHECKING:
    _WithMethods = _Shared
else:
    _WithMethods = _with_methods()


class GenerationParameters(_WithMethods):
    """Seed structures made from one source structure, each method with its own section; isolated atoms for the E0s."""

    def methods(self) -> dict[str, SeedGenerator]:
        """Return the methods of making seeds by name, in the order in which their structures appear."""
        return {name: getattr(self, name) for name, _ in GENERATORS.items()}

    @model_validator(mode='after')
    def _makes_a_seed(self) -> GenerationParameters:
        if not any(method.count() for method in self.methods().values()):
            raise ValueError(f'none of {", ".join(self.methods())} makes a seed; raise n of one of them')
        return self
