"""Weights of a run: safetensors in and out, and nothing that could execute code."""

from __future__ import annotations

from pathlib import Path

from recbench.errors import UserError
from recbench.models.base import Recommender
from recbench.runs import replacing


def save_weights(model: Recommender, path: Path) -> None:
    """What the model stores, as safetensors."""
    from safetensors.torch import save_file

    state = {name: value.detach().cpu().contiguous().clone() for name, value in model.stored_state().items()}
    with replacing(path) as temporary:
        save_file(state, temporary)
        # safetensors makes files that only their owner may read; a colleague who may enter the folder may read these.
        temporary.chmod(path.parent.stat().st_mode & 0o666)


def load_weights(model: Recommender, path: Path) -> None:
    """Take back what ``save_weights`` stored. Raises UserError if the file is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"the weights {path} cannot be read ({error}); remove the folder {path.parent} and run again"
        ) from error
    model.load_stored_state(state)
