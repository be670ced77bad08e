"""Popularity: counts of training events."""

import torch


def test_scores_are_the_counts_of_training_events(training_of, fitted, histories):
    model = fitted("popularity", training_of([[1, 2, 2], [2, 3], [3]], n_items=4))
    scores = model.score(histories([1], [4, 3]))
    assert scores.tolist() == [[0, 1, 3, 2, 0]] * 2
    assert scores.dtype == torch.float32


def test_events_after_the_training_range_do_not_count(training_of, fitted, histories):
    train = training_of([[1, 2, 3], [1, 3, 3]], n_items=3)
    cut = type(train)(train.data, train.start, train.end - 1)
    assert fitted("popularity", cut).score(histories([1])).tolist() == [[0, 2, 1, 1]]


def test_a_caller_may_write_into_the_scores(training_of, fitted, histories):
    model = fitted("popularity", training_of([[1, 2, 2]], n_items=2))
    model.score(histories([1], [2]))[:, 2] = -1.0
    assert model.recommend(histories([1], [2]), 2)[0].tolist() == [[2, 1]] * 2
