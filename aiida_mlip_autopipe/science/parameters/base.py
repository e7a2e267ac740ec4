"""What all parameter models share: unknown keys are errors, and the kinds of numbers."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

__all__ = ['FiniteFloat', 'NotNegative', 'PositiveFloat', 'SparseParameters', 'StageParameters']

PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
FiniteFloat = Annotated[float, Field(allow_inf_nan=False)]


class StageParameters(BaseModel):
    """Base of all parameter models: unknown keys are errors, values are not changed after validation."""

    model_config = ConfigDict(extra='forbid', frozen=True, validate_default=True)


class SparseParameters(StageParameters):
    """A section of alternatives: those that are not given are left out of what is written."""

    @model_serializer(mode='wrap')
    def _given_only(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if value is not None}
