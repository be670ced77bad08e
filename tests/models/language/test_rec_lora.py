"""RecLoRA: E4SRec's body with adapters that a frozen recommender mixes."""

from __future__ import annotations

import pytest
import torch

from recbench.core.errors import UserError
from recbench.experiment.model_contract.world import fresh, world
from recbench.models.language.rec_lora import RecLoRA, RecLoRAConfig
from tests.fixtures.model_sizes import SIZES

KEYS = SIZES["rec_lora"]


def build(**keys):
    return fresh("rec_lora", {**KEYS, **keys})


def take(model, other):
    """The weights of another model, layer by layer; those of a linear layer lie a step deeper here."""
    theirs = {name.replace(".base.", "."): name for name in model.state_dict()}
    state = {theirs[name]: value for name, value in other.state_dict().items() if name in theirs}
    model.load_state_dict(state, strict=False)
    assert len(state) == len(other.state_dict())
    return model


def test_adapters_that_add_nothing_leave_e4srec_and_equal_ones_need_no_gate():
    plain, histories = fresh("e4srec", SIZES["e4srec"]), world().histories
    model = take(build(adapter_start=0.0), plain)
    with torch.no_grad():
        torch.testing.assert_close(model.score(histories), plain.score(histories), atol=1e-5, rtol=1e-5)
        equal = build()
        for module in equal.modules():
            if hasattr(module, "down"):
                module.up[1], module.down[1] = module.up[0], module.down[0]
        before = equal.score(histories)
        equal.gate[-1].bias[0] += 30.0
        torch.testing.assert_close(equal.score(histories), before, atol=1e-5, rtol=1e-5)


def test_the_mixture_follows_the_user_and_sums_to_one():
    model, histories = build(temperature=0.1), world().histories
    with torch.no_grad():
        found = model.mixtures(histories)
    assert found.shape == (*histories.items.shape, 2)
    torch.testing.assert_close(found.sum(-1), torch.ones(histories.items.shape))
    last = found[torch.arange(len(histories)), histories.lengths - 1, 0]
    assert last.std() > 1e-3
    constant = build(gate="constant").mixtures(histories)
    assert constant.std(dim=(0, 1)).max() == 0
    assert not any(part.requires_grad for part in model.recommender.parameters())


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"n_adapters": 0}, r"model.n_adapters must be at least 1"),
        ({"compose": "product"}, r"unknown model.compose 'product'"),
        ({"gate": "item"}, r"unknown model.gate 'item'"),
        ({"temperature": 0.0}, r"model.temperature must be positive"),
        ({"prompt": "learned"}, r"set model.prompt=none"),
    ],
)
def test_bad_keys_are_refused_by_name(keys, message):
    with pytest.raises(UserError, match=message):
        RecLoRA.dependencies(RecLoRAConfig(**keys))
