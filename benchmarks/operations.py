"""Which kind of work an operation is, what it needs at the least, and both for a whole training step.

An operation's kind follows from its name, or from the module in whose ``forward`` it ran: a multiplication in a dropout is dropout. What the
backward pass does belongs to the kind of the forward operation whose gradient it takes; torch numbers both alike.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from benchmarks.floor import Speeds

CATALOGUE, PRODUCTS, ATTENTION, LOSS = "catalogue products", "other matrix products", "attention", "softmax and loss"
DROPOUT, NORM, LOOKUP = "dropout", "normalisation", "look-ups and their gradients"
OPTIMISER, DATA, REST, PYTHON = "optimiser", "data", "the rest", "Python and torch between operations"
#: In the order of the table.
KINDS = (CATALOGUE, PRODUCTS, ATTENTION, LOSS, DROPOUT, NORM, LOOKUP, OPTIMISER, DATA, REST, PYTHON)

MATRIX = {"mm", "addmm", "bmm", "baddbmm", "convolution", "convolution_backward", "mkldnn_convolution"}
SOFTMAX = {
    "_softmax",
    "_log_softmax",
    "logsumexp",
    "_softmax_backward_data",
    "_log_softmax_backward_data",
    "nll_loss_forward",
}
LOOKED_UP = {
    "embedding", "embedding_dense_backward", "index", "index_select", "index_put_", "_index_put_impl_", "index_put", "gather", "scatter",
    "scatter_", "scatter_add", "scatter_add_", "index_add_", "index_add", "take_along_dim", "index_select_backward", "gather_backward",
}  # fmt: skip
#: Of what they are given, these read only the rows that they are asked for.
ROWS_ONLY = {
    "embedding",
    "index",
    "index_select",
    "gather",
    "index_put_",
    "_index_put_impl_",
    "scatter_",
    "scatter_add_",
    "index_add_",
}
#: A name of a record_function that opens the scope of a kind.
MARK = "kind: "
#: Bytes below which an operation's operands can be found in cache.
IN_CACHE = 8 * 2**20


def kind_of(name: str, scope: str | None) -> str:
    """name: as in "mm", without "aten::". scope: the kind of the innermost module or section around it that has one.

    >>> kind_of("mm", LOSS), kind_of("mm", None), kind_of("mul", DROPOUT), kind_of("mul", None)
    ('catalogue products', 'other matrix products', 'dropout', 'the rest')
    """
    if scope in (OPTIMISER, DATA):
        return scope
    if name in MATRIX:
        return CATALOGUE if scope == LOSS else PRODUCTS
    if name.startswith("_scaled_dot_product"):
        return ATTENTION
    if scope in (LOSS, DROPOUT, NORM):
        return scope
    if name in SOFTMAX:
        return ATTENTION
    if "norm" in name:
        return NORM
    if "dropout" in name or name == "bernoulli_":
        return DROPOUT
    if name in LOOKED_UP or scope == LOOKUP:
        return LOOKUP
    return REST


def scope_of(module: nn.Module) -> str | None:
    """The kind of everything that a module's forward does; None where it says nothing."""
    name = type(module).__name__
    if name == "CatalogueLoss":
        return LOSS
    if "Dropout" in name:
        return DROPOUT
    if "Norm" in name:
        return NORM
    return LOOKUP if name == "Embedding" else None


class Scopes:
    """Marks the forward of every module that has a kind: for the profiler by a record_function, for the counter on a stack."""

    def __init__(self, model: nn.Module) -> None:
        self.stack: list[str] = []
        self.open: list[Any] = []
        for module in model.modules():
            kind = scope_of(module)
            if kind is not None:
                module.register_forward_pre_hook(lambda _module, _given, kind=kind: self.enter(kind))
                module.register_forward_hook(lambda _module, _given, _out: self.leave(), always_call=True)

    def enter(self, kind: str) -> None:
        self.stack.append(kind)
        self.open.append(torch.profiler.record_function(MARK + kind))
        self.open[-1].__enter__()

    def leave(self) -> None:
        self.stack.pop()
        self.open.pop().__exit__(None, None, None)

    @contextmanager
    def section(self, kind: str) -> Iterator[None]:
        self.enter(kind)
        try:
            yield
        finally:
            self.leave()


@dataclass
class Need:
    """What the operations of a kind need: multiplications and additions by type, and bytes read and written, near and far."""

    flop: Counter[str] = field(default_factory=Counter)
    bytes_far: int = 0
    bytes_near: int = 0
    softmax: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


class Counting(TorchDispatchMode):
    """What each kind of operation of a step needs. ``scopes`` are those of the model that takes the step."""

    def __init__(self, scopes: Scopes, speeds: Speeds) -> None:
        super().__init__()
        self.scopes, self.speeds = scopes, speeds
        self.forward_scope: dict[int, str | None] = {}
        self.needs: dict[str, Need] = defaultdict(Need)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = func._overloadpacket._qualified_op_name.split("::")[-1]
        if not func.is_view and not name.startswith(("empty", "_unsafe_view", "detach", "_local_scalar")):
            self._add(func, name, args, kwargs, out)
        return out

    def _scope(self) -> str | None:
        node = torch._C._current_autograd_node()
        if node is not None and not self.scopes.stack:
            return self.forward_scope.get(node._sequence_nr())
        scope = self.scopes.stack[-1] if self.scopes.stack else None
        # Of the operations with one number the last makes the node that the backward pass comes back to.
        self.forward_scope[torch.autograd._get_sequence_nr()] = scope
        return scope

    def _add(self, func: Any, name: str, args: Any, kwargs: Any, out: Any) -> None:
        need = self.needs[kind_of(name, self._scope())]
        taken = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        given = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
        moved = bytes_of(name, taken, given)
        narrow = "bf16" if any(t.dtype == torch.bfloat16 for t in given) else "fp32"
        formula = flop_registry.get(func._overloadpacket)
        flop = int(formula(*args, **kwargs, out_val=out)) if formula is not None else attention_flop(name, taken)
        near = moved < IN_CACHE
        seconds = moved / (self.speeds.copy_cached if near else self.speeds.copy)
        if name in SOFTMAX and given:
            values = max(t.numel() for t in given)
            need.softmax[narrow] += values
            seconds = values / self.speeds.softmax(narrow)
        if flop:
            need.flop[narrow] += flop
            # An operation's arithmetic and its traffic can go on at the same time.
            seconds = max(seconds, flop / self.speeds.product(narrow))
        need.bytes_near += moved if near else 0
        need.bytes_far += 0 if near else moved
        need.seconds += seconds


def attention_flop(name: str, taken: list[Tensor]) -> int:
    """Operations of the fused attention of a CPU, for which torch has no formula; 0 for any other operation.

    taken: query, key and value [B, H, L, E] first, or in the backward pass after the gradient of the output. Two products forward; backward the
    weights again and four more.
    """
    if not name.endswith("flash_attention_for_cpu") and not name.endswith("flash_attention_for_cpu_backward"):
        return 0
    backward = name.endswith("backward")
    query, key = taken[1:3] if backward else taken[:2]
    return (10 if backward else 4) * query.numel() * key.shape[-2]


def bytes_of(name: str, taken: list[Tensor], given: list[Tensor]) -> int:
    """Bytes that an operation must read and write."""
    if name.startswith("_fused_adam"):
        # Of parameters, gradients and two moments all are read, and all but the gradients written.
        return sum(t.nbytes for t in taken) * 7 // 4
    if name in ROWS_ONLY:
        sizes = sorted(t.nbytes for t in taken[1:])
        rows = given[0].nbytes if given and not name.endswith("_") else (sizes[-1] if sizes else 0)
        return 2 * rows + sum(t.nbytes for t in taken[1:] if t.dtype == torch.int64)
    return sum(t.nbytes for t in taken) + sum(t.nbytes for t in given)
