"""A backbone in bfloat16 on a processor that would emulate its products."""

import pytest
import torch

from recbench.nn import bfloat16
from recbench.nn.language.backbone import Backbone
from recbench.nn.language.backbone_config import BackboneConfig

LENGTHS = torch.tensor([3, 5])


@pytest.fixture
def emulating(native_bfloat16, monkeypatch):
    monkeypatch.setattr(bfloat16, "_has_bfloat16", lambda device: False)


def made(stored, **more) -> Backbone:
    torch.manual_seed(0)
    return Backbone(BackboneConfig(backbone=str(stored("llama")), n_layers=2, **more), 30)


def vectors() -> torch.Tensor:
    return torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))


def test_it_is_built_in_bfloat16_and_computes_in_float32_with_those_numbers(stored, emulating):
    backbone = made(stored, precision="bfloat16").eval()
    frozen = {n: p for n, p in backbone.named_parameters() if not p.requires_grad}
    assert {p.dtype for p in frozen.values()} == {torch.bfloat16}
    before = {name: p.detach().float() for name, p in frozen.items()}
    with torch.no_grad():
        found = backbone(vectors())
    assert {p.dtype for p in backbone.parameters()} == {torch.float32}
    assert all(torch.equal(p, before[name]) for name, p in backbone.named_parameters() if name in before)
    exact = made(stored).eval()
    exact.load_state_dict({**exact.state_dict(), **backbone.state_dict()})
    with torch.no_grad():
        for one, other in zip(found, exact(vectors()), strict=True):
            torch.testing.assert_close(one, other)


def test_its_states_at_the_end_and_its_gradients_are_those_of_float32(stored, emulating):
    backbone = made(stored, precision="bfloat16").eval()
    with torch.inference_mode():
        ends = backbone.last(vectors(), LENGTHS, inner=False)[0]
        whole = backbone(vectors())[-1][torch.arange(2), LENGTHS - 1]
    torch.testing.assert_close(ends, whole)
    backbone.train()(vectors())[-1].square().sum().backward()
    assert all(p.grad is not None for p in backbone.parameters() if p.requires_grad)


def test_normed_comes_first_as_well(stored, emulating):
    backbone = made(stored, precision="bfloat16")
    assert backbone.normed(torch.randn(2, 16)).dtype == torch.float32
    assert backbone.dtype == torch.float32


@pytest.mark.parametrize("prompt", ["learned"])
def test_it_reads_a_prompt(stored, emulating, prompt):
    backbone = made(stored, precision="bfloat16", prompt=prompt, prompt_lengths=[3, 2]).eval()
    with torch.no_grad():
        ends = backbone.last(vectors(), LENGTHS, inner=False)[0]
        whole = backbone(vectors())[-1][torch.arange(2), LENGTHS - 1]
    torch.testing.assert_close(ends, whole, atol=1e-5, rtol=1e-4)
