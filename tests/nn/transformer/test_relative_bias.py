"""Biases by distance and by elapsed time, against loops over pairs."""

from __future__ import annotations

import math

import pytest
import torch

from recbench.nn.transformer.relative_bias import PositionBias, TimeBias, time_buckets


def test_a_position_bias_depends_on_the_distance_alone():
    bias = PositionBias(6)
    found = bias(4)
    for i in range(4):
        for j in range(i + 1):
            assert found[i, j] == bias.weight[i - j]


def test_more_positions_than_it_was_built_for_are_refused():
    with pytest.raises(IndexError):
        PositionBias(3)(4)


def test_buckets_are_logarithms_of_the_gap_at_any_epoch():
    """At 1.7e9 s a float32 is 128 s coarse: gaps of a few seconds must not drown in it."""
    start = 1_700_000_000
    gaps = [0, 1, 2, 3, 60, 3600, 86_400, 10**7]
    times = torch.tensor([[start + gap for gap in gaps]])
    found = time_buckets(times, times, 128)[0, :, 0].tolist()
    assert found == [math.floor(math.log(max(1, gap)) / 0.301) for gap in gaps]
    assert len(set(found[1:])) == len(gaps) - 1
    assert time_buckets(times, times, 5).max() == 5


def test_a_gap_counts_alike_in_both_directions():
    query, key = torch.tensor([[100]]), torch.tensor([[5000]])
    assert time_buckets(query, key, 128).item() == time_buckets(key, query, 128).item()


def test_a_time_bias_is_looked_up_by_bucket():
    bias = TimeBias(8)
    buckets = torch.tensor([[[0, 3], [8, 1]]])
    assert torch.equal(bias(buckets)[0], bias.weight[:, 0][buckets[0]])
