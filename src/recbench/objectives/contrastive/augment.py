"""Random views of right-padded histories: crop, mask, reorder [CL4SRec, Xie et al., ICDE 2022, section 3.3].

With n events in a history and r the operator's share:

    crop      a random run of max(1, floor(r n)) events, moved to the front
    mask      floor(r n) random events keep their place and lose their item, which becomes 0; how 0 is read is the auxiliary's matter
    reorder   the items of a random run of floor(r n) events, shuffled

As in the released codes, the two views of a row come from two different operators. A history of one event stays as it is under all three.
When an event took place is no part of the item: a shuffled item takes the time of the place that it comes to, so times stay in order. The input
batch is never written to (the released CL4SRec masks and reorders in place, through a slice of the histories that it keeps).

Shapes: B rows, L positions.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from recbench.data.batches import Batch
from recbench.models.term_config import AugmentedConfig

CROP, MASK, REORDER = range(3)

#: Columns of a batch that belong to a place in the history, not to the item that stands there.
TIMES = ("timestamps", "next_timestamps")
#: Of a training batch alone; a view has none.
TRAINING_ONLY = ("targets", "windows", "target_weights", "next_behaviours", "starts")


def two_views(batch: Batch, shares: AugmentedConfig, generator: torch.Generator | None = None) -> tuple[Batch, Batch]:
    """Two views of each row, by two different operators. Random numbers come from torch's own generator unless one is given."""
    device = batch.items.device
    operators = torch.rand(len(batch), 3, generator=generator, device=device).argsort(1)
    first, second = (augmented(batch, operators[:, i], shares, generator) for i in (0, 1))
    return first, second


def augmented(
    batch: Batch, operator: Tensor, shares: AugmentedConfig, generator: torch.Generator | None = None
) -> Batch:
    """The batch with each row under the operator [B] that is given for it. As wide as before; has no targets."""
    n, width, device = batch.lengths, batch.items.shape[1], batch.items.device
    place = torch.arange(width, device=device)
    crop, mask, reorder = (operator == kind for kind in (CROP, MASK, REORDER))
    share = torch.tensor([shares.crop, shares.mask, shares.reorder], dtype=torch.float64, device=device)[operator]
    # The small number mends products such as 0.29 * 100 = 28.999..., which must count as 29.
    size = (share * n + 1e-9).floor().long().clamp(min=crop.long())
    noise = torch.rand(len(batch), width, generator=generator, device=device)
    start = _random_start(n - size, generator)

    # What stands at each place of the view: the item of which event, and the time of which.
    moved = torch.where(crop[:, None], place + start, place).clamp(max=width - 1)
    run = (place >= start) & (place < start + size[:, None])
    # Within the run, keys are drawn from its own range of places, so sorting shuffles it and moves nothing else.
    keys = torch.where(run & reorder[:, None], start + noise * size[:, None], place.float())
    shuffled = keys.argsort(dim=1, stable=True)
    source = torch.where(reorder[:, None], shuffled, moved)

    length = torch.where(crop, size, n)
    real = place < length[:, None]
    hidden = mask[:, None] & (noise.masked_fill(~real, torch.inf).argsort(1).argsort(1) < size[:, None])
    columns = {}
    for name in _columns(batch):
        where, kept = (moved, real) if name in TIMES else (source, real & ~hidden)
        columns[name] = getattr(batch, name).gather(1, where) * kept
    without: dict[str, Any] = dict.fromkeys(TRAINING_ONLY)
    return replace(batch, lengths=length, **without, **columns)


def _random_start(room: Tensor, generator: torch.Generator | None) -> Tensor:
    """[B, 1]: where a run begins that leaves ``room`` [B] events outside; every beginning is as likely."""
    u = torch.rand(len(room), generator=generator, device=room.device, dtype=torch.float64)
    return torch.minimum((u * (room + 1)).long(), room)[:, None]


def _columns(batch: Batch) -> list[str]:
    """Names of the columns [B, L] that a view has."""
    present = [field.name for field in fields(batch) if field.name not in TRAINING_ONLY]
    return [name for name in present if isinstance(value := getattr(batch, name), Tensor) and value.dim() == 2]
