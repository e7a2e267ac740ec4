"""Molecular dynamics of one replica with ASE, and replicas side by side as processes."""
