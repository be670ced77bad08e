"""Distillation as an axis of a run: any teacher that is a run, any student that exposes what the objective needs."""
