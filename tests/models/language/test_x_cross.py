"""X-Cross: adapters of other runs side by side, and integrators that start as nothing."""

from __future__ import annotations

import shutil
from dataclasses import asdict

import pytest
import torch

from recbench.core.errors import UserError
from recbench.core.run_folder import RunFolder
from recbench.models.language.llamarec import LlamaRec, LlamaRecConfig
from recbench.models.language.x_cross import XCross, XCrossConfig
from recbench.models.weights import save_weights
from tests.fixtures.titles import first_windows
from tests.models.language.test_prompted import CLUSTERED, TINY, all_words, context_of, named

KEYS = {
    "k": 5,
    "history": 4,
    "dropout": 0.0,
    "lora_rank": 2,
    "lora_alpha": 3,
    "lora_targets": ["v_proj", "up_proj", "down_proj"],
}


@pytest.fixture(scope="module")
def clustered(prepared_of):
    return prepared_of(CLUSTERED)


@pytest.fixture(scope="module")
def context(clustered):
    return context_of(*clustered)


@pytest.fixture(scope="module")
def backbone(copying_model, context):
    return named(copying_model(all_words(context.item_texts)))


@pytest.fixture
def source(tmp_path, backbone, context):
    """source(name, seed) -> (folder of a finished run with adapters of its own, its model)."""

    def build(name, seed, **keys):
        torch.manual_seed(1)
        model = LlamaRec(LlamaRecConfig(**{**backbone, **KEYS, **keys}), context).eval()
        torch.manual_seed(seed)
        for part, parameter in model.named_parameters():
            if "lora_" in part:
                parameter.data.normal_(std=0.3)
        run = RunFolder(tmp_path / name)
        run.path.mkdir()
        run.write("config.yaml", {"model": asdict(model.config)})
        run.set_state("finished")
        save_weights(model, run.weights)
        return str(run.path), model

    return build


def build(context, backbone, **keys):
    torch.manual_seed(5)
    config = XCrossConfig(**{**backbone, **KEYS, **keys})
    XCross.dependencies(config)
    return XCross(config, context).eval()


def letters(model, batch):
    return torch.stack(model.by_letters(model.histories(batch), [[1, 2, 4, 6, 8]] * len(batch)))


def test_one_source_and_fresh_integrators_are_that_run(source, context, backbone, clustered):
    folder, model = source("llamarec-a", 7)
    batch = first_windows(*clustered, 4)
    crossed = build(context, backbone, sources=[folder])
    with torch.no_grad():
        torch.testing.assert_close(letters(crossed, batch), letters(model, batch), atol=1e-5, rtol=1e-5)
        plain = build(context, backbone, sources=[folder])
        plain.cross.adapted[next(iter(plain.cross.adapted))].up.zero_()
        assert not torch.allclose(letters(plain, batch), letters(model, batch), atol=1e-5)


def test_sources_may_stand_in_any_order_and_like_ones_leave_their_interactions_alone(
    source, context, backbone, clustered
):
    (one, _), (other, _) = source("llamarec-a", 7), source("llamarec-b", 8)
    batch = first_windows(*clustered, 4)
    forth, back = build(context, backbone, sources=[one, other]), build(context, backbone, sources=[other, one])
    width = forth.cross.width
    with torch.no_grad():
        for here, there in zip(forth.cross.integrators(), back.cross.integrators(), strict=True):
            here.mix.weight.normal_(std=0.02)
            turned = here.mix.weight.view(2, 2, 2, width).flip(0, 1, 2)
            there.mix.weight.copy_(turned.reshape(4, 2 * width))
        torch.testing.assert_close(letters(forth, batch), letters(back, batch), atol=1e-5, rtol=1e-5)
    shutil.copytree(one, f"{one}-again")
    twins = build(context, backbone, sources=[one, f"{one}-again"]).train()
    twins.training_loss(batch).backward()
    gradient = twins.cross.integrators()[0].mix.weight.grad.view(2, 2, -1)
    assert gradient[0, 0].abs().max() > 0
    assert gradient[0, 1].abs().max() < 1e-6 * gradient[0, 0].abs().max()


def test_the_integrators_alone_are_trained_and_a_stored_run_needs_no_source(source, context, backbone, clustered):
    (one, _), (other, _) = source("llamarec-a", 7), source("llamarec-b", 8)
    batch = first_windows(*clustered, 4)
    model = build(context, backbone, sources=[one, other])
    n, layers, width = 2, backbone["n_layers"], model.cross.width
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == layers * (n * n * n * width + n * n)
    model.train().training_loss(batch).backward()
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0).step()
    expected = letters(model.eval(), batch).detach()
    state = {name: value.clone() for name, value in model.stored_state().items()}
    for folder in (one, other):
        shutil.rmtree(folder)
    from dataclasses import replace

    again = XCross(model.config, replace(context, dependencies={})).eval()
    again.retriever = model.retriever
    again.load_stored_state(state)
    with torch.no_grad():
        torch.testing.assert_close(letters(again, batch), expected)
    assert model.config.source_keys == ["llamarec-a", "llamarec-b"]


def test_shares_are_one_stream_and_one_number_a_source(source, context, backbone, clustered):
    (one, first), (other, _) = source("llamarec-a", 7), source("llamarec-b", 8)
    batch = first_windows(*clustered, 4)
    model = build(context, backbone, sources=[one, other], merge="shares")
    assert [name for name, p in model.named_parameters() if p.requires_grad] == ["reader.backbone.shares"]
    with torch.no_grad():
        model.cross.shares.copy_(torch.tensor([40.0, 0.0]))
        torch.testing.assert_close(letters(model, batch), letters(first, batch), atol=1e-5, rtol=1e-5)


def test_what_cannot_be_a_source_is_refused_by_name(source, context, backbone, tmp_path):
    folder, _ = source("llamarec-a", 7)
    wide, _ = source("llamarec-wide", 7, lora_rank=3)
    for keys, message in (
        ({"sources": [str(tmp_path / "none")]}, r"model.sources: .*none holds no finished run"),
        ({"sources": [wide]}, r"has model.lora_rank=3, and this run 2; they must be the same"),
        ({"sources": [folder, folder]}, r"model.sources names the run llamarec-a twice"),
        ({"merge": "sum"}, r"unknown model.merge 'sum'"),
        ({"sources": [folder], "lora_targets": ["all"]}, r"is not for 'x_cross'"),
    ):
        with pytest.raises(UserError, match=message):
            build(context, backbone, **keys)
    with pytest.raises(UserError, match=r"fit a backbone that all of them share"):
        build(context, TINY, sources=[folder])
    RunFolder(tmp_path / "llamarec-a").write("config.yaml", {"model": {"name": "e4srec"}})
    with pytest.raises(UserError, match=r"is a run of 'e4srec'; adapters are taken from runs of llamarec"):
        build(context, backbone, sources=[folder])
