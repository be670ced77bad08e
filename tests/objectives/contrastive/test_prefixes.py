"""Contrasts over drawn prefixes: as many as asked for, of all windows, and the same terms as when they stand in one batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recbench.core.errors import UserError
from recbench.core.key_fields import key_values
from recbench.models.auxiliary import AUXILIARIES, DuoRecConfig, check_auxiliaries, settings_of
from recbench.objectives.contrastive.base import build_auxiliaries, representations
from recbench.objectives.contrastive.info_nce import info_nce
from recbench.objectives.contrastive.prefixes import Prefixes


def made(build, dataset, name, **keys):
    model = build(auxiliary=[name])
    for key, value in keys.items():
        setattr(settings_of(model.config, name), key, value)
    return model, build_auxiliaries(model, dataset)[0]


def test_numbers_differ_and_cover_all_windows(dataset):
    prefixes = Prefixes(dataset)
    total = dataset.windows.n_targets
    drawn = [prefixes.some(total // 2) for _ in range(12)]
    assert all(len(np.unique(numbers)) == total // 2 for numbers in drawn)
    assert not np.array_equal(drawn[0], drawn[1])
    assert (
        len(np.unique(np.concatenate(drawn))) > 0.99 * total
    )  # a half was left out twelve times with odds of 1 to 4096
    assert sorted(prefixes.some(total + 5)) == list(range(total))


def test_histories_are_windows_up_to_their_target(dataset):
    prefixes = Prefixes(dataset)
    numbers = prefixes.some(40)
    groups, place = prefixes.grouped(numbers, "cpu")
    targets = torch.cat([group.targets[torch.arange(len(group)), group.lengths - 1] for group in groups])[place]
    users = torch.cat([group.user for group in groups])[place]
    windows = dataset.windows
    window = np.repeat(np.arange(len(windows.length)), windows.length)[numbers]
    start = windows.start[window]
    position = start + numbers - prefixes.first[window]
    assert np.array_equal(targets, dataset.data.items[position + 1])
    assert np.array_equal(users, windows.user[window])
    for group in groups:
        for items, length, user in zip(group.items, group.lengths, group.user, strict=True):
            assert any(
                np.array_equal(items[:length], dataset.data.items[begin : begin + length])
                for begin in windows.start[windows.user == int(user)]
            )


def test_duorec_compares_drawn_prefixes_with_others_of_their_target(build, dataset, batch):
    model, auxiliary = made(build, dataset, "duorec", n_contrasts=30)
    auxiliary.draw(batch)
    sides = []
    for groups, place in (auxiliary.own, auxiliary.others):
        sides.append(torch.cat([g.targets[torch.arange(len(g)), g.lengths - 1] for g in groups])[place])
    assert len(sides[0]) == 30
    assert torch.equal(*sides)
    own, other = (
        torch.cat([representations(model, g) for g in groups])[place]
        for groups, place in (auxiliary.own, auxiliary.others)
    )
    torch.testing.assert_close(auxiliary.terms(model)["duorec"], 0.1 * info_nce(own, other, 1.0))


@pytest.mark.parametrize("name", ["cl4srec", "mclrec"])
def test_views_are_of_so_many_prefixes_and_rows_of_the_two_sides_belong_together(build, dataset, batch, name):
    model, auxiliary = made(build, dataset, name, n_contrasts=30)
    auxiliary.draw(batch)
    assert sum(len(first) for first, _ in auxiliary.views) == 30
    assert len(auxiliary.views) > 1
    assert all(torch.equal(first.user, second.user) for first, second in auxiliary.views)
    terms = auxiliary.terms(model)
    torch.stack(list(terms.values())).sum().backward()
    assert model.item_embedding.weight.grad.abs().sum() > 0
    if name == "mclrec":
        first, second = (
            torch.cat([representations(model, view) for view in side]) for side in zip(*auxiliary.views, strict=True)
        )
        expected, _ = auxiliary._learned_terms(first, second)
        torch.testing.assert_close(terms["mclrec"], 0.05 * expected)
        auxiliary.after_step(model)


@pytest.mark.parametrize("name", [name for name in AUXILIARIES if name != "fairrec"])  # which compares no histories
def test_one_contrast_or_fewer_are_refused(build, name):
    for wrong in (1, -3):
        model = build(auxiliary=[name])
        settings_of(model.config, name).n_contrasts = wrong
        with pytest.raises(UserError, match=f"model.{name}.n_contrasts={wrong} leaves nothing to compare"):
            check_auxiliaries(model.config)


def test_the_default_enters_no_key():
    assert "n_contrasts" not in key_values(DuoRecConfig())
    assert key_values(DuoRecConfig(n_contrasts=256))["n_contrasts"] == 256
