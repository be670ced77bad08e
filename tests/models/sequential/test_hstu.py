"""What is particular to HSTU: pointwise attention with biases, against a loop over pairs; and which times it reads."""

from __future__ import annotations

import logging
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from recbench.core.errors import UserError
from recbench.data.batches import Batch, WindowDataset, evaluation_batches, training_windows
from recbench.models.base import ModelContext
from recbench.models.sequential.hstu import HSTU, HSTUConfig, HSTULayer
from recbench.nn.recurrent import time_gaps
from recbench.nn.transformer.relative_bias import time_buckets

CONTEXT = ModelContext(n_items=30, n_users=5, max_length=7)
SMALL = {"hidden_size": 8, "n_heads": 2, "head_size": 3, "dropout": 0.0}
START = 1_600_000_000


def batch(next_timestamps=True):
    items = torch.tensor([[3, 4, 5, 9], [7, 2, 0, 0]])
    times = torch.tensor([[START, START + 5, START + 4000, START + 90_000], [START, START + 60, 0, 0]])
    after = torch.tensor([[START + 5, START + 4000, START + 90_000, START + 10**7], [START + 60, START + 10**6, 0, 0]])
    following = after if next_timestamps else None
    return Batch(items, times, torch.tensor([4, 2]), torch.tensor([0, 1]), next_timestamps=following)


def test_a_layer_is_its_formula_pair_by_pair():
    torch.manual_seed(0)
    config, n = HSTUConfig(**SMALL), 7
    layer = HSTULayer(config, n).double().eval()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    x, times = torch.randn(2, 4, 8, dtype=torch.float64), batch().timestamps
    found = layer(x, time_buckets(times, times, config.n_time_buckets))

    def silu(value):
        return value / (1 + math.exp(-value))

    for b, length in ((0, 4), (1, 2)):
        u, v, q, k = F.silu(F.layer_norm(x[b], (8,), eps=1e-6) @ layer.project.weight.T).chunk(4, dim=-1)
        for i in range(length):
            mixed = torch.zeros(6, dtype=torch.float64)
            for head in (slice(0, 3), slice(3, 6)):
                for j in range(i + 1):
                    gap = max(1, abs(int(times[b, i] - times[b, j])))
                    bucket = min(math.floor(math.log(gap) / 0.301), 128)
                    score = (
                        q[i, head] @ k[j, head] + layer.position_bias.weight[i - j] + layer.time_bias.weight[bucket, 0]
                    )
                    mixed[head] += silu(score.item()) / n * v[j, head]
            expected = x[b, i] + layer.output(u[i] * F.layer_norm(mixed, (6,), eps=1e-6))
            torch.testing.assert_close(found[b, i], expected)


def test_the_score_is_a_cosine_over_the_temperature():
    torch.manual_seed(0)
    model = HSTU(HSTUConfig(**SMALL, temperature=0.1), CONTEXT).eval()
    last = model.hidden_states(batch())[-1][[0, 1], [3, 1]]
    expected = F.cosine_similarity(last[:, None], model.item_embedding.weight[None, 1:], dim=-1) / 0.1
    torch.testing.assert_close(model.score(batch())[:, 1:], expected)


def test_elapsed_time_moves_the_score_and_the_date_does_not():
    torch.manual_seed(0)
    model = HSTU(HSTUConfig(**SMALL), CONTEXT).eval()
    here = batch()
    with torch.no_grad():
        for layer in model.layers:
            layer.time_bias.weight.normal_(std=5.0)
        plain = model.score(here)
        shifted = model.score(replace(here, timestamps=(here.timestamps + 10**8) * (here.items > 0)))
        stretched = model.score(replace(here, timestamps=START + (here.timestamps - START) * 50 * (here.items > 0)))
    torch.testing.assert_close(shifted, plain)
    assert not torch.allclose(stretched, plain, atol=1e-4)


def test_the_time_of_the_target_is_read_only_where_the_config_says_so():
    later = replace(batch(), next_timestamps=batch().next_timestamps + 10**6)
    for reads in (False, True):
        torch.manual_seed(0)
        model = HSTU(HSTUConfig(**SMALL, time_of_target=reads), CONTEXT).eval()
        with torch.no_grad():
            for layer in model.layers:
                layer.time_bias.weight.normal_(std=5.0)
            assert torch.allclose(model.score(later), model.score(batch()), atol=1e-4) is not reads
    assert model.score(batch()).isfinite().all()
    with pytest.raises(UserError, match=r"model.time_of_target=true.*not known"):
        model.score(batch(next_timestamps=False))


def test_with_the_time_of_the_target_a_gap_is_counted_from_it():
    model = HSTU(HSTUConfig(**SMALL, time_of_target=True), CONTEXT)
    seen = time_buckets(model._query_times(batch()), batch().timestamps, 128)
    assert seen[0, 3, 3].item() == math.floor(math.log(10**7 - 90_000) / 0.301)
    assert seen[0, 0, 0].item() == math.floor(math.log(5) / 0.301)


def test_the_data_give_the_time_after_each_event_and_of_the_target(tiny_data, tiny_split):
    times = tiny_data.timestamps
    windows = training_windows(tiny_split.train_start, tiny_split.train_end, 20)
    train = WindowDataset(tiny_data, windows)[torch.arange(5).numpy()]
    for row, (start, length) in enumerate(zip(windows.start[:5], windows.length[:5], strict=True)):
        assert train.next_timestamps[row, :length].tolist() == list(times[start + 1 : start + length + 1])
    for chosen, asked in evaluation_batches(tiny_data, tiny_split.test, 20, 16):
        cases = tiny_split.test
        for row, case in enumerate(chosen):
            length = int(asked.lengths[row])
            target = cases.target_positions[cases.target_offsets[case]]
            known = [*times[cases.end[case] - length + 1 : cases.end[case]], times[target]]
            assert asked.next_timestamps[row, :length].tolist() == known
            assert not asked.next_timestamps[row, length:].any()


def test_equal_gaps_are_told_by_name(training_of, caplog):
    time_gaps._warn_once.cache_clear()
    with caplog.at_level(logging.WARNING, logger="recbench"):
        for times in ([[0, 60, 120], [7, 67]], [[0, 60, 120], [7, 68]]):
            HSTU(HSTUConfig(**SMALL), replace(CONTEXT, train=training_of([[1, 2, 3], [1, 2]], times=times)))
    assert len(caplog.records) == 1
    assert "the time path of the model 'hstu' has nothing to learn from" in caplog.text


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_a_temperature_must_be_positive(temperature):
    with pytest.raises(UserError, match=r"model\.temperature"):
        HSTU(HSTUConfig(temperature=temperature), CONTEXT)
