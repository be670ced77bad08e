"""The loss of each row against torch's own cross-entropy."""

from __future__ import annotations

import pytest
import torch

from recbench.nn.losses import row_losses
from recbench.nn.losses.row_losses import losses_of_rows


@pytest.mark.parametrize("chunk", [7, 1 << 20])
def test_each_row_has_the_cross_entropy_over_all_items_but_the_pad(monkeypatch, chunk):
    monkeypatch.setattr(row_losses, "CHUNK_VALUES", chunk)
    generator = torch.Generator().manual_seed(3)
    hidden, table = torch.randn(11, 8, generator=generator), torch.randn(6, 8, generator=generator)
    targets = torch.randint(1, 6, (11,), generator=generator)
    logits = hidden @ table.T
    logits[:, 0] = -torch.inf
    wanted = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    torch.testing.assert_close(losses_of_rows(hidden, table, targets), wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(losses_of_rows(hidden, table, targets, bfloat16=True), wanted, rtol=0.03, atol=0.05)
    assert losses_of_rows(hidden[:0], table, targets[:0]).tolist() == []
