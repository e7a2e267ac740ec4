"""Seed structures."""

from __future__ import annotations

from pydantic import Field

from aiida_mlip_autopipe.science.parameters.base import StageParameters

__all__ = ['GenerationParameters']


class GenerationParameters(StageParameters):
    """Seed structures made from one source structure: supercell, strain, rattle; isolated atoms for the E0s."""

    target_atoms: int = Field(
        8,
        ge=1,
        le=10_000,
        description='Target number of atoms of a seed: the supercell is the '
        'most isotropic one with at least this many atoms.',
    )
    n_strained: int = Field(3, ge=0, le=10_000, description='Seeds with a random symmetric strain of the cell.')
    max_strain: float = Field(0.04, ge=0, lt=0.5, description='Largest strain component (dimensionless).')
    n_rattled: int = Field(4, ge=0, le=10_000, description='Seeds with randomly displaced atoms (and a small strain).')
    rattle_stdev_A: float = Field(0.08, ge=0, le=1, description='Standard deviation of the displacements, in Å.')
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
