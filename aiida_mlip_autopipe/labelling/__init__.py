"""Labelling codes: one folder each, behind the interface of `base`."""

from aiida_mlip_autopipe.labelling.answers import CodeSetup, PastLabel, SetupOption, Task
from aiida_mlip_autopipe.labelling.base import Labeller, labeller_of
from aiida_mlip_autopipe.science.label import Label
from aiida_mlip_autopipe.science.parameters.labelling import LABELLERS, LabellingParameters
from aiida_mlip_autopipe.science.references import Reference

__all__ = [
    'LABELLERS',
    'CodeSetup',
    'Label',
    'Labeller',
    'LabellingParameters',
    'PastLabel',
    'Reference',
    'SetupOption',
    'Task',
    'labeller_of',
]
