"""What a checkpoint holds of a model whose backbone is frozen: the backbone's own weights are read from where they came from, or drawn again."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import Tensor, nn


def learned_state(model: nn.Module, frozen: bool, buffers: Collection[str]) -> dict[str, Tensor]:
    """All of the state, or if something is ``frozen`` what is trained and these buffers."""
    state = model.state_dict()
    if not frozen:
        return state
    learned = trained_names(model) | set(buffers)
    return {name: value for name, value in state.items() if name in learned}


def trained_names(model: nn.Module) -> set[str]:
    """Parameters that are trained; of a model that was frozen as a whole since this was asked last, those of then."""
    names = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    if names:
        model.__dict__["_names_when_trained"] = names
    return set(model.__dict__.get("_names_when_trained", ()))


def load_learned(model: nn.Module, state: Mapping[str, Tensor], wanted: Collection[str]) -> None:
    """Take back a ``learned_state``. Raises RuntimeError if one of the ``wanted`` names is missing or one is unknown."""
    outcome = model.load_state_dict(dict(state), strict=False)
    lost = set(outcome.missing_keys) & set(wanted)
    if lost or outcome.unexpected_keys:
        raise RuntimeError(f"the checkpoint does not fit this model: {sorted(lost | set(outcome.unexpected_keys))}")
