"""Triton kernels, one file an operation; importable without a GPU."""
