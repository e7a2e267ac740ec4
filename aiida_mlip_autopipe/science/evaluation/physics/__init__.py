"""Physics that the potential must share with DFT: what errors of single points do not tell.

`reference_structures` makes what needs a label, `check_physics` compares; one module for each check.
``base.py`` says how one is written.
"""

from aiida_mlip_autopipe.science.evaluation.physics.checks import (
    check_calculator,
    check_physics,
    reference_structures,
)
from aiida_mlip_autopipe.science.evaluation.physics.figures import write_physics_figures

__all__ = ['check_calculator', 'check_physics', 'reference_structures', 'write_physics_figures']
