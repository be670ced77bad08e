"""The cross-entropy of each row over the whole catalogue, for those who weigh rows by it and want no gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from recbench.nn.losses.buffers import workspace
from recbench.nn.losses.catalogue import CHUNK_VALUES, softmax_into
from recbench.nn.losses.forward_gradients import surprise


@torch.no_grad()
def losses_of_rows(hidden: Tensor, table: Tensor, targets: Tensor, bfloat16: bool = False) -> Tensor:
    """-log softmax(``hidden @ table.T``)[target] over items 1..n_items, [N] float32; the pad row takes no part.

    hidden [N, D], table [V, D], targets [N]. With ``bfloat16`` product and softmax are in bfloat16, as those of ``full_softmax`` are.
    """
    dtype = torch.bfloat16 if bfloat16 else torch.float32
    narrow_hidden, narrow_table = hidden.detach().to(dtype), table.detach().to(dtype)
    n, rows = len(targets), max(1, CHUNK_VALUES // len(table))
    logits = workspace(min(rows, n) * len(table), dtype, table.device)
    found = []
    with torch.autocast(hidden.device.type, enabled=False):
        for first in range(0, n, rows):
            p = softmax_into(logits, narrow_hidden[first : first + rows], narrow_table)
            found.append(p.gather(1, targets[first : first + rows, None])[:, 0].float())
    return surprise(torch.cat(found) if found else hidden.new_zeros(0, dtype=torch.float32))
