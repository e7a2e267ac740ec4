"""How wrong a potential is: errors of energy, forces and stress against the labels."""

from aiida_mlip_autopipe.science.evaluation.errors import Evaluation, evaluate

__all__ = ['Evaluation', 'evaluate']
