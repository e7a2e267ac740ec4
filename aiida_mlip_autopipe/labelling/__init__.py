"""Labelling codes: one folder each."""
