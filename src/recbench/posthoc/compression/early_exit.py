"""Early read-out: rank from the state after layer j of a trained model, as if it had ended there.

The state after layer j passes the model's own head, which was trained on the state after the last layer; with ``final_norm`` it passes
the final norm first, as the last state does, without it not. The layers above j are not built, so that the model is as cheap as one of
depth j. [What SLMRec shows in its figure on inner layers, arXiv 2405.17890, section 2.]
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from recbench.core.errors import UserError
from recbench.models.base import Recommender
from recbench.nn.language.pretrained import final_norm


def lower_part(state: Mapping[str, Tensor], shallow: nn.Module) -> dict[str, Tensor]:
    """What a shallower model needs of the tensors of a deeper one."""
    return {name: state[name] for name in shallow.state_dict()}


def drop_final_norm(model: Recommender) -> None:
    """Let states pass as they are where the final norm was, in place. Raises UserError for a model that has none."""
    path = final_norm(model)
    if path is None:
        raise UserError(
            f"the model '{model.config.name}' has no final norm to leave out; compression.final_norm=true reads its states as they are"
        )
    owner, _, leaf = path.rpartition(".")
    setattr(model.get_submodule(owner), leaf, nn.Identity())
