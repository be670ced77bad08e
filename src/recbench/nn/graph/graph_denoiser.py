"""A diffusion over the rows of a graph, which says how plausible each edge of a node is [DiffKG].

For each head the row of zeros and ones over all entities is noised and restored by a small network; an edge that the network restores weakly from
the other edges of its head is taken for noise.

    x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) noise,    x0_hat = net(x_t, t),    loss = SNR-weighted |x0_hat - x_0|^2

with betas from 1e-4 to 2e-2 times ``scale`` over ``steps`` steps. Restoring starts from the clean row and runs all steps by their means.

Shapes: H heads of a batch, N entities, E edges, T steps.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbench.nn.graph.strongest import strongest_first
from recbench.nn.optimizers import uncompiled

#: Width of the vector of a step's number.
TIME_WIDTH = 10
#: Rows that are noised or restored at once.
ROWS_AT_ONCE = 512


class RowDenoiser(nn.Module):
    """The network: length-1 rows with dropout, one hidden layer with tanh, and an output over all entities."""

    def __init__(self, n_entities: int, width: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.dropout = dropout
        self.time = nn.Linear(TIME_WIDTH, TIME_WIDTH)
        self.inner = nn.Linear(n_entities + TIME_WIDTH, width)
        self.outer = nn.Linear(width, n_entities)

    def forward(self, rows: Tensor, step: Tensor) -> Tensor:
        """rows [H, N], step [H] -> restored rows [H, N]."""
        rows = F.dropout(F.normalize(rows, dim=1), self.dropout, self.training)
        return self.outer(torch.tanh(self.inner(torch.cat([rows, self.time(of_steps(step))], dim=1))))


def of_steps(step: Tensor) -> Tensor:
    """[H, TIME_WIDTH] sines and cosines of steps [H]."""
    half = TIME_WIDTH // 2
    rate = torch.exp(-math.log(10_000) * torch.arange(half, device=step.device) / half)
    angle = step[:, None].float() * rate
    return torch.cat([angle.cos(), angle.sin()], dim=1)


class Diffusion:
    """The noise of each step. Of the three terms that a step back is made of, all follow from abar [T]."""

    def __init__(self, steps: int, scale: float) -> None:
        beta = scale * torch.linspace(1e-4, 2e-2, steps, dtype=torch.float64)
        kept = (1 - beta).cumprod(0)
        before = F.pad(kept[:-1], (1, 0), value=1.0)
        self.steps, self.abar = steps, kept.float()
        #: The mean of step back t is of_clean[t] * x_0 + of_noisy[t] * x_t.
        self.of_clean = (before.sqrt() * beta / (1 - kept)).float()
        self.of_noisy = ((1 - beta).sqrt() * (1 - before) / (1 - kept)).float()
        ratio, ratio_before = kept / (1 - kept), before / (1 - before).clamp(min=1e-12)
        weight = F.pad(((ratio_before - ratio) / 2)[1:], (1, 0), value=1.0)
        self.weight = (weight / weight.mean()).float()  # the scale is left to the learning rate

    def noised(self, rows: Tensor, step: Tensor, generator: torch.Generator) -> Tensor:
        """[H, N] rows after steps [H]."""
        noise = torch.randn(rows.shape, generator=generator).to(rows.device)
        kept = self.abar.to(rows.device)[step][:, None]
        return kept.sqrt() * rows + (1 - kept).sqrt() * noise

    @torch.no_grad()
    def restored(self, network: RowDenoiser, rows: Tensor) -> Tensor:
        """[H, N]: rows after all steps back, taken by their means, from the clean rows."""
        found = rows
        for step in reversed(range(self.steps)):
            clean = network(found, torch.full((len(rows),), step, device=rows.device))
            found = self.of_clean[step] * clean + self.of_noisy[step] * found
        return found


def edge_scores(
    head: Tensor,
    tail: Tensor,
    n_entities: int,
    diffusion: Diffusion,
    width: int,
    passes: int,
    agreement: tuple[float, Tensor, Tensor],
    generator: torch.Generator,
    lr: float = 1e-3,
) -> Tensor:
    """[E] how strongly each edge (head, tail [E] int64, sorted by head) is restored by a network that learns these rows, ``passes`` times each.

    agreement: (weight e, guess [N, D], entities [N, D]): of the loss, (1 - e) is restoring, and e that the restored row, as weights of the entities'
    guesses, gives the head's own vector (DiffKG's collaborative term; there a guess is the sum of an item's users).
    """
    share, guess, entities = agreement
    device = entities.device
    heads, row = head.unique(return_inverse=True)
    start = F.pad(torch.bincount(row, minlength=len(heads)).cumsum(0), (1, 0))
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
        network = RowDenoiser(n_entities, width).to(device)
        optimizer = uncompiled(torch.optim.Adam)(network.parameters(), lr=lr)

        def rows_of(chosen: Tensor) -> Tensor:
            count = start[chosen + 1] - start[chosen]
            place = torch.repeat_interleave(torch.arange(len(chosen), device=device), count)
            edge = torch.arange(len(place), device=device) + (start[chosen] - (count.cumsum(0) - count))[place]
            rows = torch.zeros(len(chosen), n_entities, device=device)
            rows[place, tail[edge]] = 1.0
            return rows

        network.train()
        for _ in range(passes):
            for chosen in torch.randperm(len(heads), generator=generator).to(device).split(ROWS_AT_ONCE):
                rows = rows_of(chosen)
                step = torch.randint(diffusion.steps, (len(chosen),), generator=generator).to(device)
                found = network(diffusion.noised(rows, step, generator), step)
                loss = (1 - share) * (diffusion.weight.to(device)[step] * (found - rows).square().mean(dim=1)).mean()
                if share:
                    loss = loss + share * (found @ guess - entities[heads[chosen]]).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        network.eval()
        score = torch.empty(len(head), device=device)
        for chosen in torch.arange(len(heads), device=device).split(ROWS_AT_ONCE):
            first, last = start[chosen[0]], start[chosen[-1] + 1]
            restored = diffusion.restored(network, rows_of(chosen))
            score[first:last] = restored[row[first:last] - chosen[0], tail[first:last]]
    return score


def strongest_edges(head: Tensor, score: Tensor, k: int) -> Tensor:
    """[E] bool: of the edges of each head (sorted by head), the k of the largest scores.

    >>> strongest_edges(torch.tensor([0, 0, 2, 2, 2]), torch.tensor([1.0, 3.0, 5.0, 4.0, 6.0]), 2).tolist()
    [True, True, True, False, True]
    """
    order, place = strongest_first(head, score)
    kept = torch.zeros(len(head), dtype=torch.bool, device=head.device)
    kept[order[place < k]] = True
    return kept
