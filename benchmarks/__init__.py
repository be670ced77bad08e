"""Rivals and ours on the same work, in turn, as ratios. See README.md beside this file."""
