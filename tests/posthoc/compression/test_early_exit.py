"""What is kept of a deeper model, and the norm that is left out."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from recbench.core.errors import UserError
from recbench.models.base import ModelContext, Recommender
from recbench.posthoc.compression.early_exit import drop_final_norm, lower_part


def owner_of(part):
    model = Recommender(SimpleNamespace(name="owner"), ModelContext(5, 1, 5))
    model.part = part
    return model.eval()


def stack(n_layers):
    return nn.ModuleDict({"layers": nn.ModuleList(nn.Linear(2, 2) for _ in range(n_layers)), "norm": nn.LayerNorm(2)})


def test_the_lower_layers_and_what_surrounds_them_are_kept():
    deep, shallow = stack(3), stack(2)
    kept = lower_part(deep.state_dict(), shallow)
    assert kept.keys() == shallow.state_dict().keys()
    assert all(torch.equal(tensor, deep.state_dict()[name]) for name, tensor in kept.items())


def test_only_the_final_norm_of_a_language_model_goes():
    from transformers import LlamaConfig, LlamaModel

    sizes = {"vocab_size": 1, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2}
    model = owner_of(LlamaModel(LlamaConfig(**sizes, num_attention_heads=2)))
    x = torch.randn(1, 3, 8)
    raw = []
    model.part.layers[-1].register_forward_hook(lambda module, args, out: raw.append(out))
    drop_final_norm(model)
    assert torch.equal(model.part(inputs_embeds=x).last_hidden_state, raw[0])


def test_a_model_that_ends_in_no_norm_is_refused():
    from transformers import BertConfig, BertModel

    sizes = {"vocab_size": 5, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2}
    with pytest.raises(UserError, match=r"'owner' has no final norm to leave out; compression\.final_norm=true"):
        drop_final_norm(owner_of(BertModel(BertConfig(**sizes, num_attention_heads=2))))
