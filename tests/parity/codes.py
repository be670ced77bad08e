"""What the checks of models over item codes share."""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch


def tokenizer(codes: np.ndarray, sizes: Iterable[int]) -> Any:
    """What a generator reads of a tokenizer that gave items 1.. these codes [n_items, levels]; the pad has none."""
    table = torch.full((len(codes) + 1, codes.shape[1]), -1, dtype=torch.int64)
    table[1:] = torch.from_numpy(codes)
    return SimpleNamespace(
        codes=table, sizes=torch.tensor([int(n) for n in sizes]), config=SimpleNamespace(name="golden")
    )
