"""Agr@K and rank-biased overlap of two models' lists."""

from __future__ import annotations

import numpy as np
import pytest

from recbench.core.errors import UserError
from recbench.evaluation.agreement import agreement, rank_biased_overlap


def slow(a, b, p):
    overlaps = [len(set(a[:d]) & set(b[:d])) / d for d in range(1, len(a) + 1)]
    return (1 - p) / (1 - p ** len(a)) * sum(p**d * x for d, x in enumerate(overlaps))


def test_both_are_those_of_their_definitions():
    generator = np.random.default_rng(1)
    ours, theirs = (np.array([generator.permutation(20)[:8] + 1 for _ in range(30)]) for _ in range(2))
    expected = [len(set(a) & set(b)) / 8 for a, b in zip(ours, theirs, strict=True)]
    np.testing.assert_allclose(agreement(ours, theirs), expected)
    np.testing.assert_allclose(
        rank_biased_overlap(ours, theirs, 0.8),
        [slow(a, b, 0.8) for a, b in zip(ours.tolist(), theirs.tolist(), strict=True)],
    )
    assert (agreement(ours, ours) == 1).all()
    np.testing.assert_allclose(rank_biased_overlap(ours, ours), 1.0)
    assert rank_biased_overlap(ours, ours[:, ::-1]).mean() < 1
    with pytest.raises(UserError, match="cannot be held side by side"):
        agreement(ours, theirs[:, :3])


def test_compare_shows_it_for_any_two_runs(cli, tiny, tmp_path):
    assert cli("-m", "model=markov,popularity", *tiny, cwd=tmp_path).status == 0
    runs = sorted(str(path.relative_to(tmp_path)) for path in (tmp_path / "runs").glob("*-*") if path.name[0] in "mp")
    done = cli("compare", *runs, "--lists", "5", cwd=tmp_path)
    assert done.status == 0, done.err
    assert "Agr@5" in done.out
    assert cli("compare", *runs, "--lists", "0", cwd=tmp_path).status == 2
