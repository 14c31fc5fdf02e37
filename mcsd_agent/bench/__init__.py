"""Benchmarks, each a module with `add_arguments(parser)` and `run(options)`; importing one imports no torch."""
