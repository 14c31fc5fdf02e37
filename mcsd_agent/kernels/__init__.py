"""Fused kernels of the cell: NumPy-typed loops compiled by Numba on CPUs, Triton on CUDA."""
