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
    magnetic_order: Literal['auto', 'ferromagnetic', 'antiferromagnetic', 'from_file', 'non_magnetic', 'try'] = Field(
        'auto',
        description='Order of the moments that each label must have, one for all labels. auto: with spin_polarised, '
        'moments start parallel and may end in any way. antiferromagnetic: signs are chosen in the source structure. '
        'from_file: the initial moments of the structure file. try: the relaxed structure is labelled with parallel '
        'and antiparallel moments and without, and the order with the lowest energy is taken.',
    )
    magnetic_moments: dict[str, float] = Field(
        default_factory=dict,
        description='Initial moment of the atoms of an element, or of one species of it (Ni1: element and tag), in µB. '
        'By default, the largest that a magnetic element has.',
    )
    magnetic_pattern: str | None = Field(
        None, description='The order of the initial moments in the source structure; found when the input is read.'
    )
    atomic_magnetization: dict[str, int] = Field(
        default_factory=dict, description='Unpaired electrons of each isolated atom (element: number).'
    )

    @model_validator(mode='after')
    def _spin(self) -> EspressoParameters:
        order, moments = self.magnetic_order, self.magnetic_moments
        if self.spin_polarised and order == 'non_magnetic':
            raise ValueError('magnetic_order: non_magnetic, but spin_polarised is true; remove one of them')
        if not self.spin_polarised and (order not in ('auto', 'non_magnetic') or moments):
            given = f'magnetic_order: {order}' if order != 'auto' else f'magnetic_moments: {moments}'
            raise ValueError(f'{given}, but spin_polarised is false: labels would have no moments; set it to true')
        if moments and order in ('from_file', 'non_magnetic'):
            raise ValueError(f'magnetic_moments: {moments}, but magnetic_order is {order}; remove one of them')
        if moments and not any(moments.values()):
            raise ValueError(f'magnetic_moments: {moments} are all zero; give magnetic_order: non_magnetic instead')
        return self

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
