"""Rows of a batch that are drawn from histories of every length, put into groups of like length."""

from __future__ import annotations

import numpy as np


def groups_of_like_length(lengths: np.ndarray) -> list[np.ndarray]:
    """Row numbers by length: up to 4 events, up to 16, up to 64 and so on.

    What is drawn is of any length, unlike the rows of a batch. In one piece it would be padded to the longest, which on Beauty makes most
    of the step.
    """
    size = np.ceil(np.log2(np.maximum(lengths, 2)) / 2)
    return [np.flatnonzero(size == each) for each in np.unique(size)]
