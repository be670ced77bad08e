"""DIN's activation unit: a small network that says how much an event of the history matters to a candidate [KDD 2018, section 4.3].

    a_t = w . act(W [v, e_t, v - e_t, v * e_t] + b)

The four parts are never laid side by side: W (v, e, v - e, v * e) = (W1 + W3) v + (W2 - W3) e + W4 (v * e), so that the first two products are made
once a candidate and once an event. What is made of every pair is made of real events alone, whatever the padding.

Shapes: B rows, C candidates, L events, N real events of all rows, D width, H hidden units.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

#: Numbers of the products of pairs that exist at the same time (256 kB, so that they stay in cache).
PRODUCTS_AT_ONCE = 1 << 16


class Dice(nn.Module):
    """x where it is likely to be on, alpha x where not: p = sigma(normalised x), y = p x + (1 - p) alpha x. [..., H] -> [..., H].

    In training by mean and variance of the batch, in evaluation by their running means, as batch normalisation does.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, width: int, momentum: float = 0.1, eps: float = 1e-8) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.alpha = nn.Parameter(torch.zeros(width))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("variance", torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        own = self.training and x.numel() > 0
        mean, variance = self.mean, self.variance
        if own:
            with torch.no_grad():
                flat = x.reshape(-1, x.shape[-1])
                mean = flat.mean(0)
                variance = (
                    (flat - mean).square_().mean(0)
                )  # on a CPU torch.var_mean takes ten times as long over columns
                self.mean.lerp_(mean, self.momentum)
                self.variance.lerp_(variance, self.momentum)
        return DiceOfPairs.apply(x, self.alpha, mean, (variance + self.eps).rsqrt(), own)


class DiceOfPairs(torch.autograd.Function):
    """(x [..., H], alpha [H], mean [H], 1 / deviation [H], whether these two are those of x) -> [..., H]. Its backward pass keeps nothing but x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: Tensor, mean: Tensor, scale: Tensor, own: bool) -> Tensor:
        ctx.save_for_backward(x, alpha, mean, scale)
        ctx.own = own
        on = torch.addcmul(-mean * scale, x, scale).sigmoid_()
        return on.mul_(1.0 - alpha).add_(alpha).mul_(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        x, alpha, mean, scale = ctx.saved_tensors
        (gradient,) = gradients
        over = tuple(range(x.ndim - 1))
        normed = torch.addcmul(-mean * scale, x, scale)
        on, received = normed.sigmoid(), gradient * x
        of_alpha = received.sum(over) - (received * on).sum(over)
        # d sigma: on (1 - on).
        of_normed = received.mul_(torch.addcmul(on, on, on, value=-1.0)).mul_(1.0 - alpha)
        of_x = on.mul_(1.0 - alpha).add_(alpha).mul_(gradient)
        if ctx.own:
            count = x[..., 0].numel()
            shift = of_normed.sum(over) / count
            slope = (of_normed * normed).sum(over) / count
            of_normed = of_normed.sub_(shift).sub_(normed.mul_(slope))
        return of_x.addcmul_(of_normed, scale), of_alpha, None, None, None


class ProductsOfPairs(torch.autograd.Function):
    """W (v_c * e_n) of every candidate c of the row of event n: candidates [B, C, D], events [N, D], row [N], W [H, D] -> [N, C, H].

    The products are made piece by piece, in the backward pass anew: as one tensor [N, C, D] they would be the largest of a training step.
    """

    @staticmethod
    def forward(ctx: Any, candidates: Tensor, events: Tensor, row: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(candidates, events, row, weight)
        c, (h, d) = candidates.shape[1], weight.shape
        out = events.new_empty(len(row), c, h)
        for part in pieces(len(row), c * d):
            product = candidates.index_select(0, row[part]).mul_(events[part][:, None])
            torch.mm(product.view(-1, d), weight.T, out=out[part].view(-1, h))
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        candidates, events, row, weight = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        c, (h, d) = candidates.shape[1], weight.shape
        of_candidates, of_events, of_weight = map(torch.zeros_like, (candidates, events, weight))
        for part in pieces(len(row), c * d):
            mine, given, event = (
                candidates.index_select(0, row[part]),
                gradient[part].view(-1, h),
                events[part][:, None],
            )
            received = (given @ weight).view_as(mine)
            torch.sum(received * mine, 1, out=of_events[part])
            of_candidates.index_add_(0, row[part], received.mul_(event))
            of_weight.addmm_(given.T, mine.mul_(event).view(-1, d))
        return of_candidates, of_events, None, of_weight


def pieces(n: int, size: int) -> list[slice]:
    """Runs of n rows of ``size`` numbers each, PRODUCTS_AT_ONCE numbers or one row at a time."""
    step = max(1, PRODUCTS_AT_ONCE // max(1, size))
    return [slice(first, min(first + step, n)) for first in range(0, n, step)]


class ActivationUnit(nn.Module):
    """candidates [B, C, D], events [B, L, D], real [B, L] -> weights [B, C, L], not normalised. What stands at pads means nothing."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.first = nn.Linear(4 * width, hidden)
        self.activation = Dice(hidden)
        self.last = nn.Linear(hidden, 1)
        for layer in (self.first, self.last):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, candidates: Tensor, events: Tensor, real: Tensor) -> Tensor:
        of_candidate, of_event, of_difference, of_product = self.first.weight.chunk(4, dim=1)
        left = candidates @ (of_candidate + of_difference).T + self.first.bias
        of_events = of_event - of_difference
        if not self.training and candidates.shape[1] > len(of_product):
            # Many candidates share each event: W4 (v * e) = (W4 * e) v, one small map an event and no product of pairs.
            maps = (events[:, :, None] * of_product).flatten(1, 2)
            both = (candidates @ maps.transpose(1, 2)).view(*left.shape[:2], events.shape[1], -1)
            hidden = both.add_(left[:, :, None]).add_((events @ of_events.T)[:, None])
            return self.last(self.activation(hidden)).squeeze(-1)
        row, place = real.nonzero(as_tuple=True)
        flat = events[row, place]
        both = ProductsOfPairs.apply(candidates, flat, row, of_product)
        hidden = both + left[row] + (flat @ of_events.T)[:, None]
        found = self.last(self.activation(hidden)).squeeze(-1)
        weights = found.new_zeros(*real.shape, candidates.shape[1])
        return weights.index_put((row, place), found).transpose(1, 2)
