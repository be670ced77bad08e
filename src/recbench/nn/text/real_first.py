"""Words of several texts in one row, without gaps."""

from __future__ import annotations

from torch import Tensor


def real_first(ids: Tensor, beside: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """ids [N, M], 0 where nothing stands -> (ids [N, M'], without zeros before the end of a row; ``beside`` [N, M], or places, in the same order).

    M' is the length of the longest row.

    >>> import torch
    >>> ids, place = real_first(torch.tensor([[5, 0, 7], [0, 0, 9]]))
    >>> ids.tolist(), place.tolist()
    ([[5, 7], [9, 0]], [[0, 2], [2, 0]])
    """
    order = (ids == 0).byte().argsort(dim=1, stable=True)
    ids = ids.gather(1, order)
    width = int((ids > 0).sum(1).max()) if len(ids) else 0
    return ids[:, :width], (order if beside is None else beside.gather(1, order))[:, :width]
