"""States at every event of a batch from a model that reads whole prefixes: one row a prefix, made here and never stored.

What a graph says of an event depends on the whole prefix that ends there, so no event's state can be read off another row. The rows of a batch are
sorted by length and computed piece by piece, each piece no wider than its longest prefix: half of all slots would otherwise be pads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from recbench.data.batches import Batch, prefixes

#: Slots (rows times events) of a piece, on a CPU and elsewhere: a GPU wants few and large ones.
PIECE_SLOTS = {"cpu": 8_192, "gpu": 262_144}


def prefix_pieces(batch: Batch) -> Iterator[tuple[Tensor, Batch]]:
    """(numbers [R], the prefixes of these numbers) in pieces, shortest first; numbers count the real positions in the order of ``batch.mask``."""
    whole = prefixes(batch)
    order = whole.lengths.argsort(stable=True)
    slots = PIECE_SLOTS["cpu" if batch.items.device.type == "cpu" else "gpu"]
    for chosen in order.split(max(1, slots // max(1, batch.items.shape[1]))):
        width = int(whole.lengths[chosen[-1]])
        behaviours = None if whole.behaviours is None else whole.behaviours[chosen, :width]
        yield (
            chosen,
            replace(
                whole,
                items=whole.items[chosen, :width],
                timestamps=whole.timestamps[chosen, :width],
                lengths=whole.lengths[chosen],
                user=whole.user[chosen],
                behaviours=behaviours,
            ),
        )


def states_of_prefixes(last_states: Callable[[Batch], list[Tensor]], batch: Batch) -> list[Tensor]:
    """States at every real position [B, L, D] each, 0 at pads, from a function that gives those at the end of each row [R, D]."""
    numbers, pieces = [], []
    for chosen, piece in prefix_pieces(batch):
        numbers.append(chosen)
        pieces.append(last_states(piece))
    real, place = batch.mask, torch.cat(numbers).argsort()
    found = []
    for parts in zip(*pieces, strict=True):
        states = torch.cat(parts)[place]
        found.append(states.new_zeros(*real.shape, states.shape[1]).index_put(real.nonzero(as_tuple=True), states))
    return found
