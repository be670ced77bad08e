"""Where the dropouts of a model stand, found by running it: what no evaluation shows, because dropout is off there.

A place is named by the part that finished last before it, as in ``layers.*.attention.output``; ``weights after layers.*.query`` is dropout
of attention weights, and ``start`` what stands before any part. Numbered parts are one place. For tests: a model says in writing where it drops,
and the recorder says where it does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbench.nn.transformer.dropout import Dropout

#: What is to be done with a dropout: its rate and its input -> its output.
Instead = Callable[[float, Tensor], Tensor]


@contextmanager
def replaced_dropout(instead: Instead, instead_of_weights: Instead | None = None) -> Iterator[None]:
    """While training, every dropout of a rate above 0 is ``instead``; that of attention weights ``instead_of_weights``, if it is given.

    Ours, torch's modules and functions, and ``scaled_dot_product_attention``, which is written out for it.
    """
    on_weights = instead_of_weights or instead

    def own(module: Any, x: Tensor) -> Tensor:
        rate = module.rate if isinstance(module, Dropout) else module.p
        return instead(rate, x) if module.training and rate > 0 else x

    def function(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        return instead(p, x) if training and p > 0 else x

    def attention(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        if enable_gqa:
            repeat = query.shape[-3] // key.shape[-3]
            key, value = key.repeat_interleave(repeat, -3), value.repeat_interleave(repeat, -3)
        scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
        if is_causal:
            scores = scores.masked_fill(~torch.ones(scores.shape[-2:], dtype=torch.bool).tril(), -torch.inf)
        if attn_mask is not None:
            scores = scores.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
        weights = scores.softmax(-1)
        return (on_weights(dropout_p, weights) if dropout_p > 0 else weights) @ value

    others: tuple[tuple[Any, str, Callable[..., Tensor]], ...] = (
        (Dropout, "forward", own),
        (nn.Dropout, "forward", own),
        (F, "dropout", function),
        (F, "scaled_dot_product_attention", attention),
    )
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in others]
    try:
        for owner, name, other in others:
            setattr(owner, name, other)
        yield
    finally:
        for owner, name, original in before:
            setattr(owner, name, original)


@contextmanager
def constant_dropout(factor: float) -> Iterator[None]:
    """Every dropout multiplies by ``factor``: no chance is left, and where a dropout stands shows in what comes out."""
    with replaced_dropout(lambda rate, x: factor * x):
        yield


def dropout_places(model: nn.Module, run: Callable[[], Any]) -> tuple[str, ...]:
    """The places at which ``run()``, which trains ``model`` for a step or so, drops something; each once, in order of first use."""
    found: dict[str, None] = {}
    last = ["start"]

    def note(prefix: str) -> Instead:
        def instead(rate: float, x: Tensor) -> Tensor:
            found[prefix + last[0]] = None
            return x

        return instead

    def finished(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, given: Any, made: Any) -> None:
            last[0] = re.sub(r"\.\d+(?=\.|$)", ".*", name)

        return hook

    parts = [
        (name, part) for name, part in model.named_modules() if name and not isinstance(part, Dropout | nn.Dropout)
    ]
    handles = [part.register_forward_hook(finished(name)) for name, part in parts]
    was_training = model.training
    model.train()
    try:
        with replaced_dropout(note(""), note("weights after ")):
            run()
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    return tuple(found)
