"""Molecular dynamics of many replicas in one batch, for GPUs."""
