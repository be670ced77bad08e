"""Provenance of a run, and MLflow, which hears of a run only when it is complete on disk."""
