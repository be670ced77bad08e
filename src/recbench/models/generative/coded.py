"""What generators share: the codes of the items, taken from the tokenizer's run and kept in the generator's own checkpoint.

Shapes: V = n_items + 1, M levels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from recbench.core.errors import UserError
from recbench.models.base import ModelContext, Recommender
from recbench.models.fallback import DenseFallback
from recbench.models.registry import lookup, model_names
from recbench.models.tokenizers.tokenizer import ItemTokenizer


class CodedItems(Recommender):
    """A model over item codes. A subclass gives ``build``, which makes what depends on the number of codes.

    Buffers: codes [V, M] int64, -1 in the row of the pad; sizes [M] int64, the number of codes of each level. Both are empty in a model that
    was built without its tokenizer, until ``load_stored_state`` brings them.
    """

    codes: Tensor
    sizes: Tensor
    #: What ``model.fallback`` laid over it.
    fallback: DenseFallback | None

    @classmethod
    def dependencies(cls, config: Any) -> dict[str, dict[str, Any]]:
        # Asked before anything is trained. A name that is no registered model may be a variant under conf/; its run is looked at when it is built.
        named = config.tokenizer.get("model")
        if named in model_names() and not issubclass(lookup(named).model, ItemTokenizer):
            raise _not_a_tokenizer(named)
        return {"tokenizer": config.tokenizer}

    def __init__(self, config: Any, context: ModelContext) -> None:
        super().__init__(config, context)
        self.fallback = None
        self._level_sizes: list[int] | None = None
        source = context.dependencies.get("tokenizer")
        if source is not None and not hasattr(source, "codes"):
            raise _not_a_tokenizer(source.config.name)
        for name in ("codes", "sizes"):
            taken: Any = torch.empty(0, dtype=torch.int64) if source is None else getattr(source, name)
            self.register_buffer(name, taken.detach().cpu().clone())

    def build(self) -> None:
        """Make the parts whose shapes follow from ``codes`` and ``sizes``."""
        raise NotImplementedError

    @property
    def level_sizes(self) -> list[int]:
        """S_l of each level."""
        # Kept as numbers, for a program that is exported cannot ask a tensor for its values.
        if self._level_sizes is None:
            self._level_sizes = [int(size) for size in self.sizes.tolist()]
        return self._level_sizes

    def tokens(self) -> Tensor:
        """[V, M] int64: the codes of all levels numbered in one go, level after level; 0 in the row of the pad."""
        offset = self.sizes.cumsum(0) - self.sizes
        return torch.where(self.codes >= 0, self.codes + offset, 0)

    def take_codes(self, state: Mapping[str, Tensor]) -> None:
        """Make room for a stored state with other codes than those that are here."""
        if self.fallback is not None:
            self.fallback.make_room(state, "fallback.")
        if self.codes.shape != state["codes"].shape or not torch.equal(self.sizes.cpu(), state["sizes"].cpu()):
            self.codes, self.sizes, self._level_sizes = state["codes"].clone(), state["sizes"].clone(), None
            self.build()

    def load_stored_state(self, state: Mapping[str, Tensor]) -> None:
        self.take_codes(state)
        super().load_stored_state(state)


def _not_a_tokenizer(name: str) -> UserError:
    return UserError(f"model.tokenizer.model={name} makes no codes; name a tokenizer, such as rq_kmeans")
