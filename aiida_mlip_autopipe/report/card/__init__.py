"""The model card of a potential: what it is good for and what not, as plain values and as text."""

from .contents import POTENTIAL_FILE, model_card

__all__ = ['POTENTIAL_FILE', 'model_card']
