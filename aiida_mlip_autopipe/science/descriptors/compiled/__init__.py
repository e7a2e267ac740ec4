"""What Numba compiles for the descriptors."""
