"""The labelling stage."""
