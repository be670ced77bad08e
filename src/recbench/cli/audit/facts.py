"""Figures of a data set and its split that need no model, beyond those that every run carries (``recbench.data.split_audit``).

Shapes: N events, U users, C test cases, T test targets.
"""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import numpy as np

from recbench.data.cases import flat_ranges
from recbench.data.split import Split
from recbench.data.store import PreparedData

SECONDS_PER_DAY = 86_400
#: Spans of time in which events are counted.
N_SPANS = 40


def data_facts(data: PreparedData) -> dict[str, Any]:
    """What the manifest tells: counts, dates, settings, rows left after each filter step, raw files with their hashes."""
    names = (
        "fingerprint", "n_users", "n_items", "n_interactions", "has_timestamps", "has_text", "has_behaviours", "has_sessions",
        "first_date", "last_date", "settings", "counts",
    )  # fmt: skip
    found = {name: data.manifest[name] for name in names if name in data.manifest}
    lengths = data.lengths()
    return {
        "name": data.folder.name,
        **found,
        "events_per_user_median": float(np.median(lengths)),
        "events_per_user_most": int(lengths.max(initial=0)),
        "filter_steps": data.manifest.get("cleaning", []),
        "raw_files": {
            name: {key: entry[key] for key in ("size", "sha256") if key in entry}
            for name, entry in data.manifest.get("files", {}).items()
        },
    }


def time_facts(data: PreparedData) -> dict[str, float]:
    """Shares (0 to 1) on the clock of the data; {} where they have none.

    equal_timestamps: of consecutive events of one user, those at the same time. users_of_one_moment: users with several events, all at one
    time. whole_days: events at midnight UTC exactly, so that the clock of the data is a calendar.
    """
    if not data.has_timestamps:
        return {}
    times, lengths = np.asarray(data.timestamps), data.lengths()
    several = np.flatnonzero(lengths >= 2)
    starts, ends = data.offsets[several], data.offsets[several + 1] - 1
    return {
        "equal_timestamps": float(data.manifest.get("share_equal_timestamps", 0.0)),
        "users_of_one_moment": float((times[starts] == times[ends]).mean()) if len(several) else 0.0,
        "whole_days": float((times % SECONDS_PER_DAY == 0).mean()),
    }


def cold_facts(data: PreparedData, split: Split) -> dict[str, float]:
    """Shares (0 to 1) of what training does not know.

    cold_items: items of the catalogue without a training event. cold_users: users of test cases without one. blind_cases: test cases whose
    history holds no item that training knows, so that nothing personal can be said.
    """
    known = training_counts(data, split) > 0
    trained = split.train_end > split.train_start
    test = split.test
    row, position = flat_ranges(test.start, test.end)
    seeing = np.zeros(len(test), dtype=bool)
    seeing[row[known[data.items[position]]]] = True
    return {
        "cold_items": float((~known[1:]).mean()),
        "cold_users": float((~trained[np.unique(test.user)]).mean()),
        "blind_cases": float((~seeing).mean()),
    }


def repeat_facts(data: PreparedData, split: Split) -> dict[str, float]:
    """Shares (0 to 1). repeated_events: events whose item the user had before. immediate_repeats: consecutive events of one user with the
    same item. targets_at_once: test targets that are the last item of their history."""
    items = np.asarray(data.items)
    follows = np.ones(len(items), dtype=bool)
    follows[data.offsets[:-1][data.lengths() > 0]] = False
    same = np.zeros(len(items), dtype=bool)
    same[1:] = items[1:] == items[:-1]
    test = split.test
    case = np.repeat(np.arange(len(test)), test.n_targets)
    has_history = test.end[case] > test.start[case]
    last = np.where(has_history, items[np.maximum(test.end[case] - 1, 0)], 0)
    return {
        "repeated_events": float(data.manifest.get("share_repeats", 0.0)),
        "immediate_repeats": float((same & follows).sum() / max(1, int(follows.sum()))),
        "targets_at_once": float((last == test.targets).mean()),
    }


def case_facts(data: PreparedData, split: Split, max_length: int) -> dict[str, float]:
    """Histories of the test cases, and how much of the test the most popular items are.

    beyond_length: share of test cases whose history is longer than a model reads. popular_targets: share of test targets among the 1 % of
    items (at least one) with the most training events.
    """
    length = split.test.end - split.test.start
    counts = training_counts(data, split)[1:]
    popular = np.argsort(-counts, kind="stable")[: max(1, data.n_items // 100)] + 1
    return {
        "history_median": float(np.median(length)),
        "history_longest": int(length.max(initial=0)),
        "beyond_length": float((length > max_length).mean()),
        "popular_targets": float(np.isin(split.test.targets, popular).mean()),
    }


def timeline(data: PreparedData, split: Split) -> dict[str, list[Any]]:
    """Training events and test targets in spans of equal length from the first to the last of them; {} where the data have no clock.

    edges: N_SPANS + 1 ISO times; training, test: a count a span.
    """
    if not data.has_timestamps:
        return {}
    times = np.asarray(data.timestamps)
    training = times[flat_ranges(split.train_start, split.train_end)[1]]
    test = times[split.test.target_positions]
    both = np.concatenate([training, test])
    if not len(both):
        return {}
    edges = np.linspace(int(both.min()), max(int(both.max()), int(both.min()) + 1), N_SPANS + 1)
    try:
        said = [datetime.fromtimestamp(float(edge), UTC).isoformat(timespec="seconds") for edge in edges]
    except (ValueError, OverflowError, OSError):  # a clock that is no calendar
        return {}
    counts = (np.histogram(part, edges)[0].tolist() for part in (training, test))
    return dict(zip(("edges", "training", "test"), (said, *counts), strict=True))


def length_facts(split: Split) -> dict[str, list[Any]]:
    """Test cases by the length of their history. labels: such as ``4–7``; cases: a count each."""
    length = split.test.end - split.test.start
    longest = int(length.max(initial=0))
    edges = [0, 1, *(2**i for i in range(1, max(longest, 1).bit_length() + 1))]
    pairs = list(pairwise(edges))
    counts = np.histogram(length, edges)[0].tolist()
    names = [str(low) if high - low == 1 else f"{low}–{high - 1}" for low, high in pairs]
    return {"labels": names, "cases": counts}


def training_counts(data: PreparedData, split: Split) -> np.ndarray:
    """[n_items + 1] training events of each item."""
    _, position = flat_ranges(split.train_start, split.train_end)
    return np.bincount(data.items[position], minlength=data.n_items + 1)
