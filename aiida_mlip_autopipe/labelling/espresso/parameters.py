"""What Quantum ESPRESSO is asked."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from aiida_mlip_autopipe.labelling.espresso.dispersion import dispersion_problem
from aiida_mlip_autopipe.labelling.espresso.recipe import RecipeParameters
from aiida_mlip_autopipe.science.parameters.base import PositiveFloat

__all__ = ['EspressoParameters']


class EspressoParameters(RecipeParameters):
    """Quantum ESPRESSO single points."""

    kind: Literal['espresso'] = Field('espresso', description='Labelling code.')
    pseudo_family: str = Field('autopipe/pbe', description='Label of an installed aiida-pseudo family.')
    functional: str = Field('PBE', description='Exchange-correlation functional.')
    ecutwfc_Ry: float = Field(40.0, gt=0, le=500, description='Cutoff of the wavefunctions, in Ry.')
    ecutrho_Ry: float = Field(160.0, gt=0, le=5000, description='Cutoff of the density, in Ry.')
    kpoints_distance: float = Field(0.3, gt=0, le=5, description='Largest distance between k-points, in 1/Å.')
    smearing: Literal['cold', 'gaussian', 'methfessel-paxton', 'fermi-dirac'] = Field(
        'cold', description='Smearing; fixed occupations may never converge on displaced atoms.'
    )
    degauss_Ry: PositiveFloat = Field(0.01, description='Width of the smearing, in Ry.')
    conv_thr_per_atom_Ry: PositiveFloat = Field(
        1e-8, description='Convergence threshold of the energy, in Ry per atom.'
    )
    spin_polarised: bool = Field(False, description='Spin-polarised bulk; isolated atoms always are spin-polarised.')
    atomic_magnetization: dict[str, int] = Field(
        default_factory=dict, description='Unpaired electrons of each isolated atom (element: number).'
    )

    @model_validator(mode='after')
    def _consistent(self) -> EspressoParameters:
        if self.ecutrho_Ry < 4 * self.ecutwfc_Ry * (1 - 1e-9):
            raise ValueError(
                f'ecutrho_Ry ({self.ecutrho_Ry}) is below 4 x ecutwfc_Ry ({4 * self.ecutwfc_Ry}): the '
                'density would be truncated; raise ecutrho_Ry'
            )
        if problem := dispersion_problem(self.dispersion, self.dispersion_three_body, self.functional):
            raise ValueError(problem)
        return self
