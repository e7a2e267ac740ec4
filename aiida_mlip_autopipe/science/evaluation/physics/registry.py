"""The physics checks, by name, in the order in which they are made.

A further check is one module with a `Check`, its line in ``CHECKS``, and its name in the parameters.
"""

from __future__ import annotations

from aiida_mlip_autopipe.science.evaluation.physics import (
    elastic,
    equation_of_state,
    nve,
    phonons,
    stability,
    vacancy,
)
from aiida_mlip_autopipe.science.evaluation.physics.base import Check

__all__ = ['CHECKS']

CHECKS: dict[str, Check] = {
    'equation_of_state': equation_of_state.CHECK,
    'elastic': elastic.CHECK,
    'phonons': phonons.CHECK,
    'vacancy': vacancy.CHECK,
    'nve': nve.CHECK,
    'stability': stability.CHECK,
}
