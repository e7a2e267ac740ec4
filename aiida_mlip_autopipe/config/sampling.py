"""The parameters of a selection that is asked for by itself, with the problems told as those of an ``input.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from aiida_mlip_autopipe.config.errors import ConfigError, translate
from aiida_mlip_autopipe.science.parameters import SamplingParameters

__all__ = ['sampling_parameters']


class _Asked(BaseModel):
    exploration: SamplingParameters


def sampling_parameters(data: Mapping[str, Any], source: str = 'options') -> SamplingParameters:
    """Return the parameters of a selection; what is not given is as in the pipeline.

    Parameters
    ----------
    data : mapping
        Keys and values of the section ``exploration`` that the sampling reads.
    source : str
        What was read, for the first line of the message.

    Raises
    ------
    ConfigError
        With all keys that do not exist and all values that are out of bounds.
    """
    asked = {'exploration': dict(data)}
    try:
        return _Asked.model_validate(asked, strict=True).exploration
    except ValidationError as error:
        raise ConfigError(translate(error, asked), source) from error
