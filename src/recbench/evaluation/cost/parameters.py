"""Which of a model's parameters are read when one answer is made.

Read means: some operation of the answer takes the parameter, or a view of it, as an operand. A look-up in an embedding table reads a few rows of
it and a product with it all of them; so tables are counted apart, whole, and what is left is the network that every answer runs through.
An embedding table is the weight of an ``nn.Embedding``, or any parameter whose rows an answer looks up by number.

Buffers (what closed-form models compute, frozen item vectors) are no parameters; their values are counted by ``buffer_values``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from recbench.evaluation.cost.operations import OperationMode

#: Operations that look rows of their first operand up by number.
LOOK_UPS = ("aten::embedding", "aten::index_select", "aten::index.Tensor", "aten::_embedding_bag", "aten::gather")


@dataclass(frozen=True)
class Active:
    """Number of parameter values that an answer reads: outside of embedding tables, and in them."""

    network: int
    tables: int


def active_parameters(model: nn.Module, answer: Callable[[], Any]) -> Active:
    """What ``answer()`` reads of the model's parameters. Parameters that share their memory count once."""
    owners = {_address(p): p for p in model.parameters() if p.numel()}
    tables = {_address(m.weight) for m in model.modules() if isinstance(m, nn.Embedding) and m.weight.numel()}
    with _Watch(set(owners)) as watch, torch.no_grad():
        answer()
    tables |= watch.looked_up
    read = {address: owners[address].numel() for address in watch.read}
    return Active(
        network=sum(n for address, n in read.items() if address not in tables),
        tables=sum(n for address, n in read.items() if address in tables),
    )


def buffer_values(model: nn.Module) -> int:
    """Number of values in the buffers."""
    return sum(buffer.numel() for buffer in model.buffers())


class _Watch(OperationMode):
    """Notes which of the wanted memory addresses the operations within it read."""

    def __init__(self, wanted: set[int]) -> None:
        super().__init__()
        self.wanted = wanted
        self.read: set[int] = set()
        self.looked_up: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # A view reads nothing; what is done with it does.
        if not func.is_view:
            operands = list(_addresses(tree_leaves((args, kwargs or {}))))
            self.read |= self.wanted.intersection(operands)
            if func.name() in LOOK_UPS and operands:
                self.looked_up |= self.wanted.intersection(operands[:1])
        return func(*args, **(kwargs or {}))


def _addresses(values: Iterable[Any]) -> Iterable[int]:
    return (_address(value) for value in values if isinstance(value, Tensor) and value.layout == torch.strided)


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
