"""The schema of each compression option; light to import.

A compressed run takes the weights of a finished one, its *original*, makes them smaller or fewer without any further training, and
is evaluated as a run of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbench.core.errors import UserError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from recbench.models.base import Recommender

    #: (model config, what stands for its dependencies, by role) -> the model, with weights as drawn.
    Build = Callable[[Any, Mapping[str, Any]], Recommender]


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

    @property
    def takes_weights(self) -> bool:
        """Whether single weights are set to zero, which are then left out of the file."""
        return False

    @property
    def depth(self) -> int | None:
        """Layers that the compressed model has; None for as many as the original."""
        return None

    def change(self, model: Recommender) -> None:
        """Give a model the layers of its compressed form, in place, with what its weights become there. Raises UserError if it has none."""

    def try_out(self, model: Any, build: Build) -> None:
        """Build the compressed form of a model config on random weights. Raises UserError for a model to which this cannot be done."""
        from recbench.posthoc.compression.apply import skeleton

        skeleton({}, model, self, build)

    def make(self, original: Recommender, path: Path, build: Build) -> tuple[Recommender, dict[str, float]]:
        """Store the compressed form of a finished model: see ``apply.make_compressed``."""
        from recbench.posthoc.compression.apply import make_compressed

        return make_compressed(original, self, path, build)

    def load(self, path: Path, model: Any, build: Build) -> Recommender:
        """The model of a stored compressed run: see ``apply.load_compressed``."""
        from recbench.posthoc.compression.apply import load_compressed

        return load_compressed(path, model, self, build)


@dataclass
class Int8Compression(CompressionConfig):
    """8-bit weights: see ``compression/int8.py``."""

    name: str = "int8"

    @property
    def label(self) -> str:
        return "int8"

    def change(self, model: Recommender) -> None:
        from recbench.posthoc.compression.int8 import quantise

        quantise(model)


@dataclass
class PruneCompression(CompressionConfig):
    """Fewer neurons, or fewer weights: see ``compression/prune.py``."""

    name: str = "prune"
    amount: float = 0.5
    method: str = "neurons"

    @property
    def label(self) -> str:
        return f"prune {self.amount:g}" + (" of weights" if self.takes_weights else "")

    @property
    def takes_weights(self) -> bool:
        return self.method == "weights"

    def change(self, model: Recommender) -> None:
        from recbench.posthoc.compression.prune import prune_neurons, prune_weights

        (prune_weights if self.takes_weights else prune_neurons)(model, self.amount)

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

    @property
    def depth(self) -> int:
        return self.layer

    def change(self, model: Recommender) -> None:
        """The read-out itself is made by building fewer layers; here the model only loses its final norm, where that is asked for."""
        from recbench.posthoc.compression.early_exit import drop_final_norm

        if not self.final_norm:
            drop_final_norm(model)

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
