"""The schema of each compression option; light to import.

A compressed run takes the weights of a finished one, its *original*, makes them smaller or fewer without any further training, and
is evaluated as a run of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from recbench.core.errors import UserError, nearest


@dataclass
class CompressionConfig:
    """No compression: the run is trained as its model says."""

    name: str = "none"

    @property
    def label(self) -> str:
        """What tables call it; empty for none."""
        return ""

    def check(self, model: Any, trained: bool) -> None:
        """Raise UserError where the keys, or the config of the model, already say that this cannot be done.

        trained: whether the model learns by gradient. A computed one is a table of counts, and has no layers to change.
        """
        if self.name == "none":
            return
        if not trained:
            raise UserError(
                f"compression={self.name} changes the layers of a trained model, and '{model.name}' is computed; set compression=none"
            )
        if getattr(model, "precision", None) == "int8":
            raise UserError(
                f"with model.precision=int8 the backbone of '{model.name}' is compressed already; set it to float32 or bfloat16 for "
                f"compression={self.name}"
            )


@dataclass
class Int8Compression(CompressionConfig):
    """8-bit weights: see ``compression/int8.py``."""

    name: str = "int8"

    @property
    def label(self) -> str:
        return "int8"


@dataclass
class PruneCompression(CompressionConfig):
    """Fewer neurons, or fewer weights: see ``compression/prune.py``."""

    name: str = "prune"
    amount: float = 0.5
    method: str = "neurons"

    @property
    def label(self) -> str:
        return f"prune {self.amount:g}" + (" of weights" if self.method == "weights" else "")

    def check(self, model: Any, trained: bool) -> None:
        super().check(model, trained)
        if not 0 <= self.amount < 1:  # in this form it refuses NaN too
            raise UserError(f"compression.amount must be at least 0 and below 1, not {self.amount:g}")
        if self.method not in ("neurons", "weights"):
            raise UserError(
                f"unknown compression.method '{self.method}'; {nearest(self.method, ['neurons', 'weights'])}"
            )


@dataclass
class EarlyExitCompression(CompressionConfig):
    """Read out after an inner layer: see ``compression/early_exit.py``."""

    name: str = "early_exit"
    layer: int = 1
    final_norm: bool = True

    @property
    def label(self) -> str:
        return f"layer {self.layer}" + ("" if self.final_norm else " without norm")

    def check(self, model: Any, trained: bool) -> None:
        super().check(model, trained)
        depth = getattr(model, "n_layers", None)
        if depth is None:
            raise UserError(f"the model '{model.name}' has no layers to leave early; set compression=none")
        if not 1 <= self.layer <= depth:
            raise UserError(f"compression.layer must lie between 1 and model.n_layers={depth}, not {self.layer}")


_CONFIGS: dict[str, type[CompressionConfig]] = {
    "none": CompressionConfig,
    "int8": Int8Compression,
    "prune": PruneCompression,
    "early_exit": EarlyExitCompression,
}


def config_class(name: str) -> type[CompressionConfig]:
    """The dataclass of a compression option. Raises UserError for an unknown name."""
    if name not in _CONFIGS:
        raise UserError(f"unknown compression '{name}'; {nearest(name, sorted(_CONFIGS))}")
    return _CONFIGS[name]
