"""The shuffled-history probe: what it changes, and what it finds where the truth is known."""

from __future__ import annotations

import pytest
import torch

from recbench.cli.audit.probe import order_probe, shuffled
from recbench.data.batches import Batch
from recbench.experiment.context import RunContext
from recbench.experiment.run import run


def test_only_real_events_change_places_and_times_stay():
    items = torch.tensor([[5, 6, 7, 8, 9], [3, 4, 0, 0, 0]])
    times = torch.tensor([[1, 2, 3, 4, 5], [1, 2, 0, 0, 0]])
    batch = Batch(items, times, torch.tensor([5, 2]), torch.tensor([0, 1]), behaviours=10 * items)
    seen = set()
    for seed in range(20):
        found = shuffled(batch, seed)
        assert sorted(found.items[0].tolist()) == [5, 6, 7, 8, 9]
        assert sorted(found.items[1, :2].tolist()) == [3, 4]
        assert found.items[1, 2:].tolist() == [0, 0, 0]
        assert torch.equal(found.timestamps, times)
        assert torch.equal(found.behaviours, 10 * found.items)
        seen.add(tuple(found.items[0].tolist()))
    assert len(seen) > 15
    assert batch.items.tolist() == items.tolist()


def test_the_order_of_a_history_depends_on_nothing_beside_it():
    generator = torch.Generator().manual_seed(1)
    items = torch.randint(1, 99, (50, 12), generator=generator)
    batch = Batch(items, items, torch.full((50,), 12), torch.arange(50))
    together = shuffled(batch).items
    for rows in (torch.arange(50).flip(0), torch.tensor([7]), torch.tensor([3, 40])):
        some = Batch(items[rows], items[rows], batch.lengths[rows], batch.user[rows])
        assert torch.equal(shuffled(some).items, together[rows])
    assert not torch.equal(shuffled(batch, 1).items, together)
    # Each event comes to each place equally often: chi-squared with 121 degrees of freedom, whose 1 - 1e-5 quantile is about 196.
    many = torch.arange(1, 13).expand(144 * 12, -1)
    order = shuffled(Batch(many, many, torch.full((len(many),), 12), torch.arange(len(many)))).items
    counts = torch.stack([(order == item).sum(0) for item in range(1, 13)])
    expected = len(many) / 12
    assert ((counts - expected) ** 2 / expected).sum() < 200


@pytest.fixture(scope="module")
def probed(run_config, tmp_path_factory):
    runs_dir = tmp_path_factory.mktemp("runs")

    def probe(*words):
        config = run_config(runs_dir, *words)
        stage = RunContext.of(config)
        finished = run(config, stage)
        return order_probe(finished, stage), finished

    return probe


def test_a_chain_of_transitions_lives_by_order(probed):
    found, finished = probed("model=markov")
    assert found["in_order"] == pytest.approx(finished.metrics["test/ndcg@10"])
    assert found["low"] <= found["relative"] <= found["high"] < -0.2
    assert found["unchanged"] < 0.5
    assert (found["model"], found["metric"], found["run"]) == ("markov", "ndcg@10", finished.folder.key)


def test_a_model_that_reads_no_order_loses_nothing(probed):
    found, _ = probed("model=itemknn")
    assert (found["relative"], found["unchanged"]) == (0, 1)


def test_a_sampled_protocol_keeps_its_name(probed):
    found, finished = probed("model=markov", "protocol=sampled_999", "protocol.n_candidates=20")
    assert found["metric"] == "sampled20_ndcg@10"
    assert found["in_order"] == pytest.approx(finished.metrics["test/sampled20_ndcg@10"])


def test_lists_are_probed_too(probed):
    small = ["model=tiger", "model.hidden_size=16", "model.n_layers=1", "model.n_heads=2", "model.head_size=8"]
    small += [
        "model.feedforward_size=32",
        "model.tokenizer.levels=2",
        "model.tokenizer.codebook_size=8",
        "model.beams=40",
    ]
    found, finished = probed(*small, "training.max_epochs=1", "training.batch_size=256")
    assert found["in_order"] == pytest.approx(finished.metrics["test/ndcg@10"])
    assert found["shuffled"] >= 0
