"""What a computer is asked when it is examined."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from aiida_mlip_autopipe.science.parameters.base import StageParameters

__all__ = ['DoctorParameters']


class DoctorParameters(StageParameters):
    """What a computer offers: how large the trials are that measure it."""

    n_atoms: list[Annotated[int, Field(ge=1, le=10_000)]] = Field(
        default=[8, 64],
        min_length=1,
        max_length=8,
        description='Sizes, in atoms, of the crystals whose molecular dynamics is timed, one at a time.',
    )
    n_steps: int = Field(
        20, ge=1, le=10_000, description='Timed steps for each size, after warm-up steps; the median is reported.'
    )
    write_megabytes: float = Field(
        64.0, gt=0, le=100_000, description="Size of a temporary file written in the job's folder, in MB."
    )
    max_probe_seconds: float = Field(
        300.0, gt=0, le=86_400, description='Time limit of each test, in s; the other tests continue.'
    )
    dtype: Literal['float32', 'float64'] = Field('float32', description='Precision of the potential.')
    device: Literal['auto', 'cpu', 'cuda'] = Field('auto', description='auto: the GPU if there is one.')
    random_seed: int = Field(
        0, ge=0, lt=2**32, description='Seed of the velocities and of the weights of an untrained potential.'
    )
