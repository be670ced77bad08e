"""Other frameworks, each in its own pinned environment. ``python -m benchmarks.rivals`` makes the environments."""
