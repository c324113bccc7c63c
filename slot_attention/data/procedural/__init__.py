"""Generators of the benchmark scenes in pure JAX, without files."""
