"""What all labelling codes are asked; what one of them is asked beside stands in its own folder.

A labelling code is registered in the group ``aiida_mlip_autopipe.labellers``; see `aiida_mlip_autopipe.labelling.base`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from aiida_mlip_autopipe.science.parameters.base import PositiveFloat, StageParameters
from aiida_mlip_autopipe.science.registry import Registry

__all__ = ['DEFAULT_LABELLER', 'LABELLERS', 'LabellingParameters', 'kind_of', 'labelling_parameters']

#: The classes (`aiida_mlip_autopipe.labelling.base.Labeller`) by kind.
LABELLERS: Registry[Any] = Registry('aiida_mlip_autopipe.labellers', 'labelling code')
DEFAULT_LABELLER = 'espresso'


class LabellingParameters(StageParameters):
    """Energy, forces and stress of each candidate: what does not depend on the labelling code."""

    kind: str = Field('', description='Labelling code.')
    max_concurrent: int = Field(2, ge=1, le=1000, description='Number of sequences: labels computed at the same time.')
    batch_size: int = Field(
        1,
        ge=1,
        le=1000,
        description='Maximum number of candidates that one job labels, one after the other; above 1 for short '
        'calculations or slow queues. The time limit of a job then applies to all of them.',
    )
    min_success_fraction: float = Field(0.5, ge=0, le=1, description='The stage fails below this fraction of labels.')
    max_force_eV_A: PositiveFloat = Field(50.0, description='Labels with a larger force are rejected, in eV/Å.')
    max_stress_GPa: PositiveFloat | None = Field(
        200.0,
        description='Labels with a larger stress component are rejected, in GPa; not for isolated atoms.',
    )
    energy_window_eV: PositiveFloat | None = Field(
        1.0,
        description='Labels whose energy per atom differs more from the median for the same composition in the '
        'set are rejected, in eV; not for isolated atoms and compositions with fewer than three labels. What dynamics '
        'and displacements make of a crystal stays within 1; clusters and broken molecules need more.',
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
    max_data_stress_GPa: PositiveFloat | None = Field(
        0.5, description='The existing data are refused if a stress component differs by more, in GPa.'
    )
    data_energy_window_eV: PositiveFloat | None = Field(
        3.0,
        description='The existing data are refused if the energy per atom of a frame is further from a line fitted to '
        'the compositions, in eV; dimers and clusters may need more.',
    )


def kind_of(labelling: Any) -> Any:
    """Return the kind that a section ``labelling`` names; the default one where it names none."""
    return labelling.get('kind', DEFAULT_LABELLER) if isinstance(labelling, Mapping) else DEFAULT_LABELLER


def labelling_parameters(**values: Any) -> LabellingParameters:
    """Return the parameters of the labelling code that ``kind`` names.

    Raises
    ------
    ValueError
        If no code of that kind is registered, or a value is out of its bounds.
    """
    return LABELLERS[kind_of(values)].parameters_class(**values)
