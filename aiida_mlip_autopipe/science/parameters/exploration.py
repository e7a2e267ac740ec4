"""Molecular dynamics and the selection of its frames in one section."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import Field, model_validator

from aiida_mlip_autopipe.science.parameters.dynamics import DynamicsParameters
from aiida_mlip_autopipe.science.parameters.sampling import SamplingParameters

__all__ = ['ExplorationParameters', 'MeltingFractions']

MeltingFractions = Annotated[list[Annotated[float, Field(gt=0, le=5)]], Field(min_length=1)]


class ExplorationParameters(DynamicsParameters, SamplingParameters):
    """Molecular dynamics on a grid of conditions, then a selection of its frames."""

    melting_fractions: MeltingFractions | None = Field(
        None,
        description='Temperatures as fractions of the estimated melting temperature; replaces temperatures_K and is '
        'expanded into it.',
    )
    n_jobs: int = Field(1, ge=1, le=1000, description='Number of MD jobs over which the replicas are distributed.')
    max_concurrent: int = Field(
        1,
        ge=1,
        le=100,
        description='Maximum number of MD jobs at the same time; each sequence runs its jobs one after the other. A '
        'computer without a queue starts all submitted jobs at once: use one sequence per GPU, or one in total.',
    )
    keep_frames: Literal['keep', 'clean', 'stash'] = Field(
        'keep',
        description='Treatment of the MD folders after the sampling. keep: kept; clean: deleted; '
        'stash: the frames are copied to stash_folder and compared with the manifest, then the folders are '
        'deleted.',
    )
    stash_folder: str | None = Field(
        None, description='Absolute path of a folder on the computer of the MD jobs; for keep_frames: stash.'
    )

    @model_validator(mode='after')
    def _is_resolved(self) -> ExplorationParameters:
        if self.melting_fractions is not None:
            raise ValueError(
                f'melting_fractions {self.melting_fractions} needs the melting estimate of a system; expand '
                'the input with ConfigExpander, or give temperatures_K'
            )
        return self

    @model_validator(mode='after')
    def _has_its_folder(self) -> ExplorationParameters:
        if self.keep_frames == 'stash' and self.stash_folder is None:
            raise ValueError("keep_frames 'stash' needs a stash_folder; give the path of a folder on the computer")
        if self.keep_frames != 'stash' and self.stash_folder is not None:
            raise ValueError(
                f'stash_folder {self.stash_folder!r} is used with keep_frames: stash only, but keep_frames is '
                f'{self.keep_frames!r}; change it or remove the folder'
            )
        if self.stash_folder is not None and not PurePosixPath(self.stash_folder).is_absolute():
            raise ValueError(
                f'stash_folder {self.stash_folder!r} is not an absolute path; give one that begins with / '
                'on the computer of the MD jobs'
            )
        return self

    def dynamics(self) -> DynamicsParameters:
        """Return the part that the MD job reads."""
        return DynamicsParameters(**{name: getattr(self, name) for name in DynamicsParameters.model_fields})

    def sampling(self) -> SamplingParameters:
        """Return the part that the sampling job reads."""
        return SamplingParameters(**{name: getattr(self, name) for name in SamplingParameters.model_fields})
