"""Fewer neurons or fewer weights, chosen by their size alone, with no training afterwards.

``neurons`` takes out whole neurons of every feed-forward layer, which becomes a smaller dense layer: less to store and less to compute. The
importance of neuron i is the product of the lengths of all weight vectors that lead into it and of the one that leads out,

    importance_i = |w_in_i| * |w_out_i|                     two matrices (SASRec, BERT, GPT-NeoX)
    importance_i = |w_gate_i| * |w_up_i| * |w_down_i|       three matrices (Llama, Qwen)

so it asks for no data and no activation. Scaling the one side of a ReLU neuron up and the other down, which changes no output, does not
change it either. Each layer loses the same share.

``weights`` sets the smallest weights of all linear layers together to 0 (global magnitude pruning, through ``torch.nn.utils.prune``).
The layers keep their shape, so it saves no time; stored are the weights that are left and a bit for each place (``compression/packed.py``).

Shapes: D width of the states, F neurons of a feed-forward layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recbench.core.errors import UserError
from recbench.models.base import Recommender

#: (projections into the neurons, projection out of them) by path within a layer, as the families name them.
LAYOUTS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("expand",), "contract"),
    (("gate_proj", "up_proj"), "down_proj"),
    (("intermediate.dense",), "output.dense"),
    (("dense_h_to_4h",), "dense_4h_to_h"),
    (("fc1",), "fc2"),
    (("lin1",), "lin2"),
)


@dataclass(frozen=True)
class FeedForward:
    """The linear layers around F neurons: each of ``inward`` has weight [F, D], ``outward`` has [D, F]."""

    inward: tuple[nn.Linear, ...]
    outward: nn.Linear

    @property
    def n_neurons(self) -> int:
        return self.outward.in_features

    def importance(self) -> Tensor:
        """[F], the formula in the head of this file."""
        lengths = [linear.weight.detach().float().norm(dim=1) for linear in self.inward]
        return torch.stack([*lengths, self.outward.weight.detach().float().norm(dim=0)]).prod(dim=0)

    def keep(self, kept: Tensor) -> None:
        """Leave only the neurons ``kept`` (ascending)."""
        for linear in self.inward:
            linear.weight = nn.Parameter(linear.weight.detach()[kept].clone(), linear.weight.requires_grad)
            if linear.bias is not None:
                linear.bias = nn.Parameter(linear.bias.detach()[kept].clone(), linear.bias.requires_grad)
            linear.out_features = len(kept)
        weight = self.outward.weight
        self.outward.weight = nn.Parameter(weight.detach()[:, kept].contiguous(), weight.requires_grad)
        self.outward.in_features = len(kept)


def feed_forwards(model: nn.Module) -> Iterator[FeedForward]:
    """Every feed-forward layer of a known layout, in the order of the model's modules."""
    for module in model.modules():
        for inward, outward in LAYOUTS:
            linears = [_linear(module, path) for path in (*inward, outward)]
            if all(linear is not None for linear in linears):
                found = FeedForward(tuple(linears[:-1]), linears[-1])  # type: ignore[arg-type]
                if all(linear.out_features == found.n_neurons for linear in found.inward):
                    yield found


def _linear(module: nn.Module, path: str) -> nn.Linear | None:
    found: object = module
    for name in path.split("."):
        found = getattr(found, name, None)
    return found if isinstance(found, nn.Linear) else None


def prune_neurons(model: Recommender, amount: float) -> None:
    """Take the least important share of the neurons out of every feed-forward layer, in place; at least one stays.

    Raises UserError for a model without such a layer.
    """
    layers = list(feed_forwards(model))
    if not layers:
        known = ", ".join(f"{'+'.join(inward)}/{outward}" for inward, outward in LAYOUTS)
        raise UserError(
            f"the model '{model.config.name}' has no feed-forward layer that compression=prune knows ({known}); "
            "set compression.method=weights or compression=none"
        )
    for layer in layers:
        n_kept = max(1, layer.n_neurons - round(amount * layer.n_neurons))
        if n_kept < layer.n_neurons:
            layer.keep(layer.importance().topk(n_kept).indices.sort().values)


def prune_weights(model: Recommender, amount: float) -> None:
    """Set the smallest share of the weights of all linear layers to 0, in place. Raises UserError for a model without one."""
    from torch.nn.utils import prune

    chosen = [(module, "weight") for module in model.modules() if isinstance(module, nn.Linear)]
    if not chosen:
        raise UserError(
            f"the model '{model.config.name}' has no linear layer for compression=prune; set compression=none"
        )
    if amount == 0:
        return
    prune.global_unstructured(chosen, pruning_method=prune.L1Unstructured, amount=amount)
    for module, name in chosen:
        prune.remove(module, name)
