"""Physics checks: what the potential is asked beside its errors, and what passes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from aiida_mlip_autopipe.science.parameters.base import PositiveFloat, StageParameters
from aiida_mlip_autopipe.science.parameters.dynamics import GuardParameters
from aiida_mlip_autopipe.science.registry import PHYSICS_CHECKS

__all__ = ['PhysicsParameters']


class PhysicsParameters(StageParameters):
    """Properties that the potential must share with DFT, how they are computed, and how far off they may be."""

    checks: list[Annotated[str, PHYSICS_CHECKS]] = Field(
        default=[],
        description='The checks to make, by name. Those that compare with DFT need labels.',
    )
    max_volume_error_percent: PositiveFloat | None = Field(
        1.0, description='Tolerance of the equilibrium volume, in percent; null: reported without a verdict.'
    )
    max_bulk_modulus_error_percent: PositiveFloat | None = Field(
        10.0, description='Tolerance of the bulk modulus of the equation of state, in percent.'
    )
    max_elastic_error_percent: PositiveFloat | None = Field(
        15.0,
        description='Tolerance of each elastic constant and modulus, in percent of its value; for small ones, in '
        'percent of a tenth of the largest.',
    )
    max_phonon_rmse_THz: PositiveFloat | None = Field(
        0.3, description='Tolerance of the phonon frequencies (root mean square over a mesh), in THz.'
    )
    max_vacancy_error_eV: PositiveFloat | None = Field(
        0.2, description='Tolerance of the vacancy formation energy, in eV.'
    )
    max_cohesive_error_percent: PositiveFloat | None = Field(
        2.0,
        description='Tolerance of the cohesive energy, in percent: a third of the error of density functionals.',
    )
    max_drift_meV_ps: PositiveFloat | None = Field(
        0.1, description='Tolerance of the drift of the total energy with nve, in meV per atom and ps.'
    )
    max_volume_strain: float = Field(
        0.06, gt=0, le=0.3, description='Largest relative change of the volume in the equation of state.'
    )
    n_volumes: int = Field(7, ge=5, le=51, description='Number of volumes in the equation of state; odd.')
    max_elastic_strain: float = Field(
        0.005, gt=0, le=0.05, description='Largest component of the strain for elastic constants (engineering shear).'
    )
    n_elastic_strains: int = Field(
        2, ge=2, le=10, description='Number of strains of each component; even, half of them are negative.'
    )
    displacement_A: float = Field(0.02, gt=0, le=0.2, description='Displacement of an atom for phonons, in Å.')
    supercell_atoms: int = Field(
        64,
        ge=1,
        le=10_000,
        description='Atoms of the supercell of phonons, vacancy, nve and stability: the most isotropic one with at '
        'least this many.',
    )
    temperature_K: float = Field(300.0, gt=0, le=20_000, description='Temperature of nve and stability, in K.')
    timestep_fs: float = Field(1.0, gt=0, le=10, description='Time step of nve and stability, in fs.')
    nve_steps: int = Field(2000, ge=100, description='Number of steps of nve.')
    stability_steps: int = Field(10_000, ge=100, description='Number of steps of stability.')
    friction_per_fs: PositiveFloat = Field(0.01, description='Langevin friction of stability, in 1/fs.')
    guards: GuardParameters = Field(default_factory=GuardParameters, description='Guards of nve and stability.')
    symprec_A: float = Field(1e-3, gt=0, le=0.5, description='Tolerance of the symmetry analysis, in Å.')
    dtype: Literal['float32', 'float64'] = Field('float64', description='Precision of the potential.')
    device: Literal['auto', 'cpu', 'cuda'] = Field('auto', description='auto: the GPU if there is one.')
    random_seed: int = Field(0, ge=0, lt=2**32, description='Seed of all random numbers of this stage.')

    @field_validator('checks')
    @classmethod
    def _once_each(cls, checks: list[str]) -> list[str]:
        if twice := sorted({name for name in checks if checks.count(name) > 1}):
            raise ValueError(f'{", ".join(twice)} is given twice: name each check once')
        return checks

    @field_validator('n_volumes')
    @classmethod
    def _odd(cls, number: int) -> int:
        if number % 2 == 0:
            raise ValueError(f'{number} is even: give an odd number, so that the given volume is among them')
        return number

    @field_validator('n_elastic_strains')
    @classmethod
    def _even(cls, number: int) -> int:
        if number % 2:
            raise ValueError(f'{number} is odd: give an even number, half of the strains are negative')
        return number
