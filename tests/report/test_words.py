"""Protocols in words: every id that this version can make is understood, and two ids never have one wording."""

from __future__ import annotations

import pytest

from recbench.data.protocol import LeaveOneOutConfig, SampledConfig, SessionRule, SessionsConfig, TemporalConfig
from recbench.report.words import protocol_words

CONFIGS = [
    LeaveOneOutConfig(),
    SampledConfig(),
    SampledConfig(n_candidates=20, seed=3),
    TemporalConfig(),
    TemporalConfig(target="all"),
    TemporalConfig(target="successive", cold_targets="drop"),
    TemporalConfig(target="random", seed=2),
    TemporalConfig(validation_quantile=0.5),
    TemporalConfig(validation_date="2014-01-31", test_date="2014-02-28T12:00:00"),
    TemporalConfig(validation_date="2014-01-31", test_date="2014-03-01"),
]
RULES = [
    SessionRule("d7", "d7", 5),
    SessionRule("given", "q0.9", 1, fit_on_validation=True),
    SessionRule("d1", "d1", 1, train_fraction="1/64"),
    SessionRule("q0.9", "q0.9", 2, count_over_all=True, strict_cuts=True),
]
IDS = [config.identity(rule) for config in CONFIGS for rule in ("mask", "keep")] + [
    rule.identity("keep") for rule in RULES
]


def test_every_protocol_is_told_in_words_of_its_own():
    words = [protocol_words(name) for name in IDS]
    assert len(set(words)) == len(set(IDS))
    for said, name in zip(words, IDS, strict=True):
        assert said != name
        assert not {"-v1", "uniform", ".s", "full", "nocold", "fitval", "overall"} & {
            p for p in ("-v1", "uniform", ".s", "full", "nocold", "fitval", "overall") if p in said
        }


@pytest.mark.parametrize(
    ("protocol", "words"),
    [
        (SampledConfig().identity("mask"), "leave-one-out, ranked among 999 sampled items, seen items left out"),
        (
            TemporalConfig(validation_date="2014-01-31", test_date="2014-03-01").identity("keep"),
            "split in time, cuts at 2014-01-31 and 2014-03-01, last event of each user as target, all items ranked, seen items ranked too",
        ),
        (
            SessionRule("d1", "d1", 1, train_fraction="1/64").identity("keep"),
            "whole sessions, last day as test, latest 1/64 of training, all items ranked, seen items ranked too",
        ),
        ("their_protocol", "their_protocol"),
    ],
)
def test_examples(protocol, words):
    assert protocol_words(protocol) == words


def test_the_default_of_sessions_needs_no_word_that_is_not_known():
    assert SessionsConfig().name == "sessions"
    assert protocol_words("sessions-d7-new-full-keep-v1").split(", ")[2] == "new"
