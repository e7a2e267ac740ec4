"""The model card of a potential: what it is good for and what not, as plain values and as text."""

from aiida_mlip_autopipe.report.card.contents import POTENTIAL_FILE, card_of, model_card

__all__ = ['POTENTIAL_FILE', 'card_of', 'model_card']
