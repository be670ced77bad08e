"""Both ways to the ranking kernel: scores over the catalogue, and lists."""

from __future__ import annotations

import pytest
import torch

from recbench.config.settings import HardwareConfig
from recbench.core.errors import UserError
from recbench.data.training import TrainingData
from recbench.experiment import asking, cost_of_use, device, evaluate
from recbench.models.base import ModelContext, Recommender
from recbench.models.counting.itemknn import ItemKNN, ItemKNNConfig


class ListsOnly(Recommender):
    """A model that has opinions on the best items only, as a generator does."""

    def __init__(self, inner):
        super().__init__(inner.config, ModelContext(inner.n_items, 1, 50))
        self.inner = inner
        self.asked = []

    def recommend(self, batch, k):
        self.asked.append(k)
        # A little of its own for every item, so that no tie makes the two ways differ.
        scores = self.inner.score(batch) + torch.linspace(0, 1e-4, self.n_items + 1)
        scores[:, 0] = -torch.inf
        best = scores.topk(min(k, self.n_items), dim=1)
        return best.indices, best.values


@pytest.fixture(scope="module")
def models(tiny_data, tiny_split):
    knn = ItemKNN(ItemKNNConfig(), ModelContext(tiny_data.n_items, tiny_data.n_users, 50))
    knn.fit_to(TrainingData.of(tiny_data, tiny_split))
    lists = ListsOnly(knn)

    class Scored(ListsOnly):
        def score(self, batch):
            return self.inner.score(batch) + torch.linspace(0, 1e-4, self.n_items + 1)

    return Scored(knn), lists


@pytest.mark.parametrize("cutoffs", ["[1,3]", "[5,10]"])
def test_lists_get_the_figures_of_the_scores_they_come_from(
    models, tiny_data, tiny_split, run_config, tmp_path, cutoffs
):
    config = run_config(tmp_path, "model=itemknn", f"evaluation.cutoffs={cutoffs}", "training.max_length=20")
    scored, lists = (evaluate.validate(model, tiny_data, tiny_split, config) for model in models)
    shared = {name: value for name, value in scored.items() if "@" in name and "imistic" not in name}
    assert shared
    assert {name: lists[name] for name in shared} == pytest.approx(shared)
    # Long enough to lose every seen item and still reach the cutoff.
    assert set(models[1].asked) <= {2 * 3 + 20, 2 * 10 + 20}


def test_lists_longer_than_the_catalogue_are_possible(models, tiny_data, tiny_split, run_config, tmp_path):
    config = run_config(tmp_path, "model=itemknn", "evaluation.cutoffs=[40]", "training.max_length=50")
    scored, lists = (evaluate.validate(model, tiny_data, tiny_split, config) for model in models)
    assert lists["ndcg@40"] == pytest.approx(scored["ndcg@40"])
    assert lists["mrr"] == pytest.approx(scored["mrr"])


def test_validation_and_test_ask_about_different_events(models, tiny_data, tiny_split, run_config, tmp_path):
    config = run_config(tmp_path, "model=itemknn")
    ranked = {
        part: asking.rank_cases(models[0], tiny_data, tiny_split, getattr(tiny_split, part), config).table()
        for part in ("validation", "test")
    }
    assert (ranked["test"]["history_length"] == ranked["validation"]["history_length"] + 1).all()
    assert (ranked["test"]["target"] != ranked["validation"]["target"]).any()


def test_a_slow_model_is_asked_in_small_blocks_with_the_same_answers(
    models, tiny_data, tiny_split, run_config, tmp_path, monkeypatch
):
    config, (scored, _) = run_config(tmp_path, "model=itemknn"), models
    at_once = asking.rank_cases(scored, tiny_data, tiny_split, tiny_split.test, config)
    sizes, score = [], scored.score
    monkeypatch.setattr(scored, "score", lambda batch: sizes.append(len(batch)) or score(batch))
    monkeypatch.setattr(type(scored), "rows_at_once", 3)
    in_pieces = asking.rank_cases(scored, tiny_data, tiny_split, tiny_split.test, config)
    assert max(sizes) == 3
    assert (in_pieces.table()["rank"] == at_once.table()["rank"]).all()


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"accelerator=gpu.*no CUDA device.*hardware=cpu"):
        device.prepare_device(HardwareConfig(accelerator="gpu"), 1)
    assert device.device_of(HardwareConfig(accelerator="auto")).type == "cpu"


def test_threads_are_set_only_where_asked_for(monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    device.prepare_device(HardwareConfig(), 1)
    device.prepare_device(HardwareConfig(threads=3), 1)
    assert asked == [3]


def test_answers_of_both_kinds_are_timed_alike(models, tiny_data, tiny_split, run_config, tmp_path, full_clock):
    config = run_config(tmp_path, "model=itemknn")
    before = torch.get_rng_state()
    models[1].asked.clear()
    for model in models:
        found = cost_of_use.efficiency(model, tiny_data, tiny_split, config)
        assert found.keys() == {
            "cost/latency_p50_ms", "cost/latency_p95_ms", "cost/latency_p99_ms", "cost/latency_users", "cost/latency_threads",
            "cost/latency_warm_up_calls", "cost/users_per_second", "cost/users_per_batch", "cost/batch_latency_p50_ms",
            "cost/batch_latency_p95_ms", "cost/batch_latency_p99_ms", "cost/batch_latency_calls", "cost/device",
        }  # fmt: skip
        assert 0 < found["cost/latency_p50_ms"] <= found["cost/latency_p95_ms"] < 1000
        assert found["cost/users_per_second"] > 1000 / found["cost/latency_p95_ms"] / 10
        assert found["cost/users_per_batch"] == 128
        assert (found["cost/latency_users"], found["cost/batch_latency_calls"]) == (100, 20)
        assert found["cost/latency_threads"] == torch.get_num_threads()
    # The lists are as long as those that are tested; a model with scores is asked for those.
    assert set(models[1].asked) == {asking.list_length(tiny_split, config)}
    assert torch.equal(torch.get_rng_state(), before)


def test_sizes_are_those_of_the_file_and_of_all_tensors(tmp_path):
    from recbench.core.run_folder import RunFolder

    model = torch.nn.Linear(3, 5)
    model.register_buffer("small", torch.zeros(7, dtype=torch.int8))
    folder = RunFolder(tmp_path)
    folder.weights.write_bytes(b"x" * 11)
    assert cost_of_use.sizes(model, folder) == {"cost/bytes_on_disk": 11, "cost/bytes_in_memory": 4 * (15 + 5) + 7}


def sasrec(tiny_data, tiny_split):
    from recbench.models.sequential.sasrec import SASRec, SASRecConfig

    config = SASRecConfig(hidden_size=16, feedforward_size=16, n_layers=1, n_heads=1)
    counts = torch.from_numpy(TrainingData.of(tiny_data, tiny_split).item_counts())
    return SASRec(config, ModelContext(tiny_data.n_items, tiny_data.n_users, 20, counts))


def test_the_work_of_an_answer_is_what_its_layers_and_the_catalogue_take(tiny_data, tiny_split, run_config, tmp_path):
    config = run_config(tmp_path, "model=sasrec", "training.max_length=20")
    model = sasrec(tiny_data, tiny_split)
    found = cost_of_use.complexity(model, tiny_data, tiny_split, config)
    first = min(20, int(tiny_split.test.end[0] - tiny_split.test.start[0]))
    per_event = 2 * 3 * 16 * 16  # query, key, value
    last = 2 * (
        16 * 16 + 2 * 16 * 16
    )  # output and the two layers of the feed-forward, at the last event alone in the only layer
    attention = 2 * 2 * first * 16
    assert found["cost/flops_per_user"] == first * per_event + last + attention + 2 * 16 * (tiny_data.n_items + 1)
    assert found["cost/flops_per_training_target"] > 2 * found["cost/flops_per_user"] / first
    assert found["cost/parameters_active_tables"] == 16 * (tiny_data.n_items + 1 + 20)
    total = sum(p.numel() for p in model.parameters())
    assert found["cost/parameters_active"] == total - found["cost/parameters_active_tables"]
    assert all(p.grad is None for p in model.parameters())


def test_a_model_whose_work_cannot_be_counted_is_told_and_not_lost(tiny_data, tiny_split, run_config, tmp_path, caplog):
    model = sasrec(tiny_data, tiny_split)
    config = run_config(tmp_path, "model=sasrec")
    model.training_loss = lambda batch: batch.no_such_thing
    with caplog.at_level("WARNING", logger="recbench"):
        found = cost_of_use.complexity(model, tiny_data, tiny_split, config)
    assert "the operations of sasrec cannot be counted" in caplog.text
    assert found["cost/flops_per_user"] > 0  # what an answer takes was known by then
    assert "cost/flops_per_training_target" not in found


def test_a_loss_that_is_all_in_further_terms_has_no_operations_of_its_own(
    tiny_data, tiny_split, run_config, tmp_path, caplog
):
    model = sasrec(tiny_data, tiny_split)
    model.training_loss = lambda batch: torch.zeros(())  # nothing to go back through, as in DirectAU's own loss
    with caplog.at_level("WARNING", logger="recbench"):
        found = cost_of_use.complexity(model, tiny_data, tiny_split, run_config(tmp_path, "model=sasrec"))
    assert found["cost/flops_per_user"] > 0
    assert "cost/flops_per_training_target" not in found
    assert "cannot be counted" not in caplog.text


def test_nothing_is_trained_where_nothing_can_be(models, tiny_data, tiny_split, run_config, tmp_path):
    found = cost_of_use.complexity(models[0], tiny_data, tiny_split, run_config(tmp_path, "model=itemknn"))
    assert found["cost/parameters_active"] == 0
    assert found["cost/buffer_values"] > 0
    assert "cost/flops_per_training_target" not in found
