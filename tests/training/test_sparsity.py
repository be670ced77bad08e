"""``training.sparsity``: exact counts, masked weights at 0, plain at density 1."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from recbench.config.settings import SparsityConfig, TrainingConfig
from recbench.core.errors import UserError
from recbench.core.key_fields import key_values
from recbench.experiment.model_contract.world import fresh, world
from recbench.experiment.run import run
from recbench.training.sparsity import Sparsity

SHORT = ("training.max_epochs=2", "tuned=off", "model.hidden_size=16", "model.n_layers=1")


@pytest.mark.parametrize("host", ["sasrec", "gru4rec", "lrurec"])
def test_counts_are_exact_at_every_step_and_the_moments_of_what_changed_are_gone(host):
    model = fresh(host, {"hidden_size": 16}).train()
    sparse = Sparsity(SparsityConfig(density=0.25, every=1, update_ratio=0.5), model, 1, 20)
    name = next(iter(sparse.tensors))
    tensor = sparse.tensors[name]
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    wanted = round(0.25 * tensor.numel())
    changed = 0
    for _ in range(4):
        optimizer.zero_grad()
        model.training_loss(world().rows["windows"]).backward()
        optimizer.step()
        before = sparse.masks[name].clone()
        sparse.steps += 1
        sparse.update(optimizer)
        sparse.apply()
        assert int(sparse.masks[name].sum()) == wanted
        assert not tensor[~sparse.masks[name]].any()
        grown = sparse.masks[name] & ~before
        changed += int(grown.sum())
        assert not optimizer.state[tensor]["exp_avg"][grown].any()
        assert not tensor[grown].any()
    assert changed > 0


def test_density_1_is_the_plain_run_bit_for_bit_and_a_break_changes_nothing(run_config, tmp_path):
    plain = run(run_config(tmp_path / "a", "model=sasrec", *SHORT))
    same = run(run_config(tmp_path / "a", "model=sasrec", *SHORT, "training.sparsity.density=1"))
    assert plain.folder.key == same.folder.key
    thin = run(
        run_config(tmp_path / "a", "model=sasrec", *SHORT, "training.sparsity.density=0.3", "training.sparsity.every=2")
    )
    table = load_file(thin.folder.weights)["item_embedding.weight"]
    assert int((table != 0).sum()) <= round(0.3 * table.numel())
    assert thin.metrics["sparsity/nonzeros"] == round(0.3 * table.numel())
    assert thin.metrics["test/ndcg@10"] > 0


def test_the_masks_survive_in_the_checkpoint():
    model = fresh("sasrec", {"hidden_size": 16})
    one = Sparsity(SparsityConfig(density=0.5), model, 1, 10)
    other = Sparsity(SparsityConfig(density=0.5), model, 2, 10)
    other.load_state_dict(one.state_dict())
    assert all(torch.equal(one.masks[name], other.masks[name]) for name in one.masks)


def test_planted_weights_are_found_where_a_static_mask_misses_them():
    """Planted: a regression on 8 of 400 weights. After some exchanges most of the 8 are among 20 non-zeros; a static mask holds few."""
    torch.manual_seed(0)

    class Table(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.config = type("C", (), {"name": "planted"})
            self.item_embedding = torch.nn.Embedding(20, 20)

    found = {}
    true = torch.zeros(20, 20)
    true.view(-1)[torch.randperm(400)[:8]] = 3.0
    for ratio in (0.5, 0.0):
        model = Table()
        sparse = Sparsity(SparsityConfig(density=0.05, every=5, update_ratio=ratio, stop=1.0), model, 3, 200)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.0)
        for _ in range(200):
            optimizer.zero_grad()
            (model.item_embedding.weight - true).square().sum().backward()
            optimizer.step()
            sparse.steps += 1
            if sparse.steps % 5 == 0:
                sparse.update(optimizer)
            sparse.apply()
        found[ratio] = float(sparse.masks["item_embedding.weight"][true > 0].float().mean())
    assert found[0.5] == 1.0
    assert found[0.0] < 0.4


def test_mistakes_are_told_by_name_and_the_default_enters_no_key(run_config, tmp_path):
    assert "sparsity" not in key_values(TrainingConfig())
    for words, message in (
        (("training.sparsity.density=0",), r"training\.sparsity\.density=0 must lie above 0"),
        (
            ("training.sparsity.density=.5", "training.sparsity.tensors=some"),
            r"unknown training\.sparsity\.tensors 'some'",
        ),
        (
            ("training.sparsity.density=.5", "training.embedding_gradients=sparse"),
            r"training\.sparsity needs the whole gradient",
        ),
    ):
        with pytest.raises(UserError, match=message):
            run_config(tmp_path, "model=sasrec", "model.loss=sampled_softmax", *words)
