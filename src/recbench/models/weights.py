"""Weights of a run: safetensors in and out, and nothing that could execute code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from recbench.core.errors import UserError
from recbench.core.run_folder import replacing
from recbench.models.base import Recommender

if TYPE_CHECKING:
    from torch import Tensor


def save_weights(model: Recommender, path: Path) -> None:
    """What the model stores, as safetensors."""
    save_tensors(model.stored_state(), path)


def load_weights(model: Recommender, path: Path) -> None:
    """Take back what ``save_weights`` stored. Raises UserError if the file is damaged or holds the weights of another model."""
    tensors = load_tensors(path)
    try:
        model.load_stored_state(tensors)
    except (RuntimeError, KeyError) as error:
        raise UserError(
            f"the weights {path} are not those of this model ({str(error).strip().splitlines()[0][:200]}); remove the folder {path.parent} "
            "and run again"
        ) from error


def check_checkpoint(path: Path) -> None:
    """Raise UserError for a checkpoint of a training that is damaged, or that holds anything but tensors and plain values.

    Nothing of it is executed, and of its tensors nothing is read.
    """
    import pickle

    import torch

    try:
        torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, AttributeError, OSError) as error:
        kind = (
            "holds more than tensors and plain values, which is not loaded"
            if "weights_only" in str(error)
            else "is damaged"
        )
        raise UserError(
            f"the checkpoint {path} {kind} ({str(error).strip().splitlines()[0][:120]}); delete it to train from the start"
        ) from error


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Tensors by name, as safetensors."""
    from safetensors.torch import save_file

    state = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    with replacing(path) as temporary:
        save_file(state, temporary)
        # safetensors makes files that only their owner may read; a colleague who may enter the folder may read these.
        temporary.chmod(path.parent.stat().st_mode & 0o666)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """What ``save_tensors`` stored. Raises UserError if the file is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"the weights {path} cannot be read ({error}); remove the folder {path.parent} and run again"
        ) from error
