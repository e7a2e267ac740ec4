"""How wrong a potential is: errors of energy, forces and stress against the labels; and whether that is good enough."""

from aiida_mlip_autopipe.science.evaluation.calibration import calibrate
from aiida_mlip_autopipe.science.evaluation.errors import Evaluation, evaluate
from aiida_mlip_autopipe.science.evaluation.learning_curve import fit_learning_curve
from aiida_mlip_autopipe.science.evaluation.parity import write_parity
from aiida_mlip_autopipe.science.evaluation.stopping import (
    REASONS_TO_STOP,
    has_converged,
    missed_tolerances,
    tell_missed,
    why_to_stop,
)

__all__ = [
    'REASONS_TO_STOP',
    'Evaluation',
    'calibrate',
    'evaluate',
    'fit_learning_curve',
    'has_converged',
    'missed_tolerances',
    'tell_missed',
    'why_to_stop',
    'write_parity',
]
