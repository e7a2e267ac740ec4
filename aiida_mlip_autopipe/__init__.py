"""From a ten-line ``input.yaml`` to a trained MACE potential, with its provenance in AiiDA."""

__version__ = '0.1.0'
