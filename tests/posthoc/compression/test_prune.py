"""Neurons and weights that are taken out: which ones, from which layers, and what is left."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from recbench.core.errors import UserError
from recbench.models.base import ModelContext, Recommender
from recbench.nn.transformer.attention import TransformerLayer
from recbench.posthoc.compression.prune import feed_forwards, prune_neurons, prune_weights


def owner_of(*modules):
    model = Recommender(SimpleNamespace(name="owner"), ModelContext(5, 1, 5))
    model.parts = nn.ModuleList(modules)
    return model.eval()


def llama():
    from transformers import LlamaConfig, LlamaModel

    sizes = {"vocab_size": 1, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2}
    return LlamaModel(LlamaConfig(**sizes, num_attention_heads=2, num_key_value_heads=2))


def bert():
    from transformers import BertConfig, BertModel

    sizes = {"vocab_size": 5, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2}
    return BertModel(BertConfig(**sizes, num_attention_heads=2, is_decoder=True))


def neox():
    from transformers import GPTNeoXConfig, GPTNeoXModel

    sizes = {"vocab_size": 5, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2}
    return GPTNeoXModel(GPTNeoXConfig(**sizes, num_attention_heads=2))


FAMILIES = {
    "ours": (lambda: nn.Sequential(*(TransformerLayer(8, 2, 12, 0.1) for _ in range(2))), 1),
    "llama": (llama, 2),
    "bert": (bert, 1),
    "gpt_neox": (neox, 1),
}


def states(part, x):
    return part(x) if isinstance(part, nn.Sequential) else part(inputs_embeds=x).last_hidden_state


@pytest.mark.parametrize("family", FAMILIES)
def test_neurons_that_do_nothing_go_first_and_nothing_changes_without_them(family):
    torch.manual_seed(1)
    build, n_inward = FAMILIES[family]
    model = owner_of(build())
    layers = list(feed_forwards(model))
    assert [(len(layer.inward), layer.n_neurons) for layer in layers] == [(n_inward, 12)] * 2
    idle = torch.tensor([1, 4, 5, 11])
    with torch.no_grad():
        for layer in layers:
            layer.outward.weight[:, idle] = 0.0
    x = torch.randn(3, 6, 8)
    before = states(model.parts[0], x)
    size = sum(p.numel() for p in model.parameters())
    prune_neurons(model, 1 / 3)
    assert [layer.n_neurons for layer in feed_forwards(model)] == [8, 8]
    assert [tuple(layer.outward.weight.shape) for layer in feed_forwards(model)] == [(8, 8)] * 2
    assert sum(p.numel() for p in model.parameters()) < size
    torch.testing.assert_close(states(model.parts[0], x), before)
    # The share is taken of what is there, and one neuron stays whatever is asked.
    prune_neurons(model, 0.99)
    assert [layer.n_neurons for layer in feed_forwards(model)] == [1, 1]
    assert states(model.parts[0], x).shape == x.shape


def test_importance_is_the_product_of_the_lengths():
    layer = TransformerLayer(2, 1, 3, 0.0)
    with torch.no_grad():
        layer.expand.weight.copy_(torch.tensor([[3.0, 4.0], [1.0, 0.0], [0.0, 2.0]]))  # lengths 5, 1, 2
        layer.contract.weight.copy_(torch.tensor([[0.1, 3.0, 0.0], [0.0, 4.0, 1.0]]))  # lengths 0.1, 5, 1
        layer.expand.bias.copy_(torch.tensor([7.0, 8.0, 9.0]))
    (found,) = feed_forwards(layer)
    torch.testing.assert_close(found.importance(), torch.tensor([0.5, 5.0, 2.0]))
    prune_neurons(owner_of(layer), 1 / 3)
    assert layer.expand.bias.tolist() == [8.0, 9.0]  # in the order in which they stood
    assert layer.expand.weight.tolist() == [[1.0, 0.0], [0.0, 2.0]]
    assert layer.contract.weight.tolist() == [[3.0, 0.0], [4.0, 1.0]]


@pytest.mark.parametrize("prune", [prune_neurons, prune_weights])
def test_none_taken_changes_no_bit(prune):
    model = owner_of(TransformerLayer(8, 2, 12, 0.1))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    prune(model, 0.0)
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_the_smallest_weights_of_all_layers_together_become_zero():
    torch.manual_seed(1)
    layer = TransformerLayer(8, 2, 12, 0.1)
    model = owner_of(layer)
    with torch.no_grad():
        layer.contract.weight.mul_(100.0)
    before = {name: tensor.clone() for name, tensor in model.named_parameters()}
    prune_weights(model, 0.5)
    assert {name for name, _ in model.named_parameters()} == set(before)  # no masks are left behind
    linear = [module.weight for module in model.modules() if isinstance(module, nn.Linear)]
    zero, total = sum(int((w == 0).sum()) for w in linear), sum(w.numel() for w in linear)
    assert zero == total // 2
    assert (layer.contract.weight != 0).float().mean() > 0.95  # a share of all, not of each
    largest_lost = max(float(old[new == 0].abs().max()) for old, new in pairs(before, model) if (new == 0).any())
    smallest_kept = min(float(new[new != 0].abs().min()) for old, new in pairs(before, model))
    assert largest_lost <= smallest_kept
    assert all(torch.equal(old[new != 0], new[new != 0]) for old, new in pairs(before, model))


def pairs(before, model):
    return [(before[name].detach(), new.detach()) for name, new in model.named_parameters() if new.ndim == 2]


def test_a_model_without_such_layers_is_refused_by_name():
    with pytest.raises(UserError, match=r"'owner' has no feed-forward layer.*expand/contract.*compression\.method"):
        prune_neurons(owner_of(nn.Linear(3, 3)), 0.5)
    with pytest.raises(UserError, match=r"'owner' has no linear layer"):
        prune_weights(owner_of(nn.Embedding(3, 3)), 0.5)
