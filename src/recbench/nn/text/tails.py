"""Continuations of a prompt, one after another in one row behind it; a mask keeps them apart.

    row of a prompt   [prompt 0 .. P-1][tail 0][tail 1] ... [tail K-1]
    a tail sees       the prompt, and itself up to here; each stands at the positions P, P + 1, ...

Nothing is padded within a row, however unequal the tails; rows are padded to the longest.

Shapes: B prompts, P tokens of the longest, S tokens of all tails of a prompt, at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


class Tails(NamedTuple):
    """[B, S] each: tokens, 0 behind the last · which tail of its prompt a token belongs to, -1 behind the last · its place in the tail."""

    ids: Tensor
    tail: Tensor
    step: Tensor

    @classmethod
    def of(cls, tails: Sequence[Sequence[Sequence[int]]], device: torch.device | str = "cpu") -> Tails:
        """Of each prompt its tails.

        >>> Tails.of([[[7, 8], [9]], [[5]]]).tail.tolist()
        [[0, 0, 1], [0, -1, -1]]
        """
        lengths = [torch.tensor([len(tail) for tail in some]) for some in tails]
        ids = [torch.tensor([token for tail in some for token in tail], dtype=torch.int64) for some in tails]
        tail = [torch.arange(len(n)).repeat_interleave(n) for n in lengths]
        step = [torch.cat([torch.arange(k) for k in n.tolist()]) for n in lengths]
        padded = (
            pad_sequence(ids, batch_first=True),
            pad_sequence(tail, batch_first=True, padding_value=-1),
            pad_sequence(step, batch_first=True),
        )
        return cls(*(part.to(device) for part in padded))

    @property
    def real(self) -> Tensor:
        """[B, S] bool: what is no padding."""
        return self.tail >= 0

    @property
    def last(self) -> Tensor:
        """[B, S] bool: the last token of each tail."""
        return self.real & (self.tail != torch.nn.functional.pad(self.tail, (0, 1), value=-1)[:, 1:])


def who_sees_whom(length: Tensor, width: int, tails: Tails) -> tuple[Tensor, Tensor]:
    """With tails behind prompts, N = width + S: (mask [B, N, N] bool, positions [B, N]).

    length [B] of the prompts, ``width`` of the widest. Pads see themselves.
    """
    b, s = tails.ids.shape
    device, n = length.device, width + s
    place = torch.arange(n, device=device)
    in_prompt = place[:width] < length[:, None]
    mask = torch.zeros(b, n, n, dtype=torch.bool, device=device)
    mask[:, :width, :width] = (place[:width] <= place[:width, None]) & in_prompt[:, None]
    mask[:, width:, :width] = in_prompt[:, None]
    same_tail = (tails.tail[:, :, None] == tails.tail[:, None]) & tails.real[:, None]
    mask[:, width:, width:] = same_tail & (place[:s] <= place[:s, None])
    mask |= torch.eye(n, dtype=torch.bool, device=device)
    return mask, torch.cat([place[:width].expand(b, -1), length[:, None] + tails.step], 1)
