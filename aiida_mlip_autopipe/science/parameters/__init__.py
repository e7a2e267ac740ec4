"""The parameters of every stage: each default, unit, bound and its reason, written once.

The schema of ``input.yaml`` composes these models, the AiiDA ports validate their ``Dict`` with them, the worker reads
them back from JSON, and the tables of the documentation are generated from them.
"""

from typing import TYPE_CHECKING, Any

from aiida_mlip_autopipe.science.parameters.base import (
    SparseParameters,
    StageParameters,
)
from aiida_mlip_autopipe.science.parameters.descriptors import (
    AceParameters,
    CompressionParameters,
    DescriptorParameters,
    MaceFeaturesParameters,
    SoapParameters,
    WeightingParameters,
    descriptor_parameters,
    named_kind,
)
from aiida_mlip_autopipe.science.parameters.doctor import (
    DoctorParameters,
)
from aiida_mlip_autopipe.science.parameters.dynamics import (
    DynamicsParameters,
    EarlyStopParameters,
    GuardParameters,
)
from aiida_mlip_autopipe.science.parameters.exploration import (
    ExplorationParameters,
)
from aiida_mlip_autopipe.science.parameters.labelling import (
    LABELLERS,
    LabellingParameters,
    labelling_parameters,
)
from aiida_mlip_autopipe.science.parameters.physics import (
    PhysicsParameters,
)
from aiida_mlip_autopipe.science.parameters.sampling import (
    LimitParameters,
    SamplingParameters,
)
from aiida_mlip_autopipe.science.parameters.training import (
    EvaluationParameters,
    LoopParameters,
    TrainingParameters,
)

if TYPE_CHECKING:
    from aiida_mlip_autopipe.science.parameters.generation import GenerationParameters

__all__ = [
    'LABELLERS',
    'AceParameters',
    'CompressionParameters',
    'DescriptorParameters',
    'DoctorParameters',
    'DynamicsParameters',
    'EarlyStopParameters',
    'EvaluationParameters',
    'ExplorationParameters',
    'GenerationParameters',
    'GuardParameters',
    'LabellingParameters',
    'LimitParameters',
    'LoopParameters',
    'MaceFeaturesParameters',
    'PhysicsParameters',
    'SamplingParameters',
    'SoapParameters',
    'SparseParameters',
    'StageParameters',
    'TrainingParameters',
    'WeightingParameters',
    'descriptor_parameters',
    'labelling_parameters',
    'named_kind',
]


def __getattr__(name: str) -> Any:
    """Make ``GenerationParameters`` when asked for it: from the registered methods, whose modules import this one."""
    if name == 'GenerationParameters':
        from aiida_mlip_autopipe.science.parameters.generation import GenerationParameters

        return GenerationParameters
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
