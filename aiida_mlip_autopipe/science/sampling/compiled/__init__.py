"""What Numba compiles for the selection."""
