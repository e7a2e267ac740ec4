"""Quantum ESPRESSO single points."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from aiida_mlip_autopipe.science.parameters.base import PositiveFloat, StageParameters

__all__ = ['LabellingParameters']


class LabellingParameters(StageParameters):
    """Quantum ESPRESSO single points: energy, forces and stress of each candidate."""

    pseudo_family: str = Field('autopipe/pbe', description='Label of an installed aiida-pseudo family.')
    functional: str = Field('PBE', description='Exchange-correlation functional of the pseudopotentials.')
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
    max_concurrent: int = Field(2, ge=1, le=1000, description='Number of sequences: labels computed at the same time.')
    batch_size: int = Field(
        1,
        ge=1,
        le=1000,
        description='Maximum number of candidates that one job of pw.x labels, one after the other; above 1 for short '
        'calculations or slow queues. The time limit of a job then applies to all of them.',
    )
    min_success_fraction: float = Field(0.5, ge=0, le=1, description='The stage fails below this fraction of labels.')
    max_force_eV_A: PositiveFloat = Field(50.0, description='Labels with a larger force are rejected, in eV/Å.')
    max_stress_GPa: PositiveFloat | None = Field(
        200.0,
        description='Labels with a larger stress component are rejected, in GPa; not for isolated atoms.',
    )
    energy_window_eV: PositiveFloat | None = Field(
        20.0,
        description='Labels whose energy per atom differs more from the median for the same composition in the '
        'set are rejected, in eV; not for isolated atoms and compositions with fewer than three labels.',
    )
    n_data_checks: int = Field(
        3, ge=1, description='Number of frames of the existing data (data) that are labelled again as a check.'
    )
    max_data_energy_meV: PositiveFloat = Field(
        5.0, description='The existing data are refused if the energies differ by more, in meV per atom.'
    )
    max_data_force_meV_A: PositiveFloat = Field(
        20.0, description='The existing data are refused if the forces differ by more (RMSE), in meV/Å.'
    )

    @model_validator(mode='after')
    def _density_cutoff(self) -> LabellingParameters:
        if self.ecutrho_Ry < 4 * self.ecutwfc_Ry * (1 - 1e-9):
            raise ValueError(
                f'ecutrho_Ry ({self.ecutrho_Ry}) is below 4 x ecutwfc_Ry ({4 * self.ecutwfc_Ry}): the '
                'density would be truncated; raise ecutrho_Ry'
            )
        return self
