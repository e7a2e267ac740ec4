"""Evaluations on labelled frames, and physics checks."""
