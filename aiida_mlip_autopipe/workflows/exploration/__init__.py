"""The exploration stage."""
