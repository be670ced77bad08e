"""RPG's layers against GPT-2's of ``transformers``, in evaluation and in training with every dropout replaced by a constant factor."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from recbench.models.dropout_places import constant_dropout
from recbench.nn.transformer.gpt2_layer import ACTIVATIONS, GPT2Layer

WIDTH, HEADS, INNER = 16, 2, 24


def reference(attention, residual, activation):
    """A GPT-2 of two layers, its embeddings left out: what it makes of given input vectors."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        n_embd=WIDTH, n_layer=2, n_head=HEADS, n_inner=INNER, n_positions=9, vocab_size=3, activation_function=activation,
        attn_pdrop=attention, resid_pdrop=residual, embd_pdrop=0.0, layer_norm_epsilon=1e-12, attn_implementation="sdpa",
    )  # fmt: skip
    model = transformers.GPT2Model(config)
    for parameter in model.parameters():  # biases start at 0, which would hide a wrong one
        nn.init.normal_(parameter, std=0.3)
    nn.init.zeros_(model.wpe.weight)
    return model


def ours(model, attention, residual, activation):
    """Our layers with the same weights."""
    layers = nn.Sequential(*(GPT2Layer(WIDTH, HEADS, INNER, attention, residual, activation) for _ in range(2)))
    names = {
        "attention_norm": "ln_1", "attention.query_key_value": "attn.c_attn", "attention.output": "attn.c_proj",
        "feedforward_norm": "ln_2", "expand": "mlp.c_fc", "contract": "mlp.c_proj",
    }  # fmt: skip
    for layer, given in zip(layers, model.h, strict=True):
        values = dict(given.named_parameters())
        for mine, theirs in names.items():
            part = layer.get_submodule(mine)
            weight = values[f"{theirs}.weight"].data
            part.weight.data = weight.T.contiguous() if isinstance(part, nn.Linear) else weight
            part.bias.data = values[f"{theirs}.bias"].data
    return layers


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize(("attention", "residual"), [(0.2, 0.0), (0.2, 0.3), (0.0, 0.2)])
def test_layers_are_gpt2s_in_evaluation_and_in_training(attention, residual, activation):
    model = reference(attention, residual, activation)
    layers = ours(model, attention, residual, activation)
    x = torch.randn(3, 7, WIDTH)

    def states():
        with torch.no_grad():
            return layers(x), model(inputs_embeds=x, output_hidden_states=True)

    layers.eval(), model.eval()
    found, expected = states()
    torch.testing.assert_close(model.ln_f(found), expected.last_hidden_state)
    evaluated = found
    layers.train(), model.train()
    with constant_dropout(0.8):
        found, expected = states()
    torch.testing.assert_close(model.ln_f(found), expected.last_hidden_state)
    assert not torch.allclose(found, evaluated)  # the factor was at work
