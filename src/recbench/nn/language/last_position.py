"""Reading a language model at one position of each row: its last layer need not compute the others.

Keys and values of all positions are needed in every layer, and states of all in every layer but the last. There the feed-forward part, three
quarters of a layer, works on each position by itself, so the one that is read is enough; and so does the map that ends attention. Their results
at the others are left at 0, and nobody reads them.

Shapes: B rows, L positions, H width.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

#: What families call the feed-forward part of a layer where it takes and gives [B, L, H] and sees one position at a time.
FEEDFORWARD_PART = re.compile(r"(?:^|\.)(\d+)\.mlp$")
#: What they call the map that ends attention, where it sees one position at a time.
ATTENTION_END = re.compile(r"(?:^|\.)(\d+)\.(?:self_attn\.o_proj|attn\.c_proj)$")


def last_feedforward(model: nn.Module) -> nn.Module | None:
    """The feed-forward part of the last layer of a decoder; None in families that build it otherwise, as BERT's, or with several experts."""
    part = _last(model, FEEDFORWARD_PART)
    return None if hasattr(part, "experts") else part


def last_attention_end(model: nn.Module) -> nn.Module | None:
    """The map that ends attention in the last layer of a decoder; None in families that build it otherwise."""
    return _last(model, ATTENTION_END)


def _last(model: nn.Module, called: re.Pattern[str]) -> nn.Module | None:
    """The one part of the topmost layer that is called so."""
    found = [(int(match[1]), part) for name, part in model.named_modules() if (match := called.search(name))]
    if not found:
        return None
    number, part = max(found, key=lambda pair: pair[0])
    return part if sum(other == number for other, _ in found) == 1 else None


@contextmanager
def read_at(parts: Sequence[nn.Module | None], position: Tensor, length: int, learning: bool = False) -> Iterator[None]:
    """While this is open, the parts compute one position of each row only, in a pass of ``length`` positions. position [B].

    Nothing happens where a part is None, in a program that is traced, and where a gradient is wanted, for then every position may be read. With
    ``learning`` none but ``position`` is; then only parts with dropout are left alone, so that a seed draws what it drew.
    """
    if is_traced() or (torch.is_grad_enabled() and not learning):
        yield
        return
    cut = [part for part in parts if part is not None and not (learning and part.training and _draws(part))]
    handles = [handle for part in cut for handle in _cut(part, position, length)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _draws(part: nn.Module) -> bool:
    """Whether anything in it is random in training, as the dropout of an adapter."""
    return any("dropout" in type(inner).__name__.lower() for inner in part.modules())


def _cut(part: nn.Module, position: Tensor, length: int) -> list[RemovableHandle]:
    """Hooks that give a part one position of each row, and spread its answer."""
    rows = torch.arange(len(position), device=position.device)
    whole: list[Tensor] = []

    def cut(module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        states = given[0]
        # A pass over a prompt's prefix, for one row, is not the one that is read.
        if states.shape[:2] != (len(position), length):
            return given
        whole.append(states)
        return (states[rows, position][:, None], *given[1:])

    def put_back(module: nn.Module, given: tuple[Any, ...], result: Tensor) -> Tensor:
        if not whole:
            return result
        states = whole.pop()
        full = result.new_zeros(*states.shape[:2], result.shape[-1])
        full[rows, position] = result[:, 0]
        return full

    return [part.register_forward_pre_hook(cut), part.register_forward_hook(put_back)]


def is_traced() -> bool:
    """Whether torch is making a program of what runs, for any number of rows."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()
