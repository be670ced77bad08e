"""The sparse dictionary finds what was planted in states, and a random one does not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse

from recbench.posthoc.probes.concepts import Attributes, find_concepts, item_detectors
from recbench.posthoc.probes.dictionary import learn_dictionary, matched_share, random_dictionary


@pytest.fixture(scope="module")
def planted():
    """8,000 states of 64 numbers, each a sum of 3 of 100 random unit directions; (states, directions, which [N, 3])."""
    generator = torch.Generator().manual_seed(1)
    directions = torch.nn.functional.normalize(torch.randn(100, 64, generator=generator), dim=1)
    which = torch.stack([torch.randperm(100, generator=generator)[:3] for _ in range(8000)])
    sizes = 1.0 + torch.rand(8000, 3, generator=generator)
    return torch.einsum("nk,nkd->nd", sizes, directions[which]), directions, which


@pytest.fixture(scope="module")
def learned(planted):
    return learn_dictionary(planted[0], 256, 3, epochs=20, lr=3e-3)[0]


def test_planted_directions_are_found_and_not_by_chance(planted, learned):
    states, directions, _ = planted
    found = (directions @ learned.decode.T).amax(1) > 0.9
    low = found.float().mean() - 1.96 * (found.float().var() / 100).sqrt()
    assert found.float().mean() > 0.9
    assert low > 0.8
    chance = random_dictionary(states, 256, 3, 0)
    assert ((directions @ chance.decode.T).amax(1) > 0.9).float().mean() < 0.1
    assert learned.unexplained(states) < 0.3 * chance.unexplained(states)
    assert matched_share(learned, learned) == 1.0


def test_more_active_latents_explain_more(planted):
    states = planted[0][:3000]
    left = [learn_dictionary(states, 64, k, epochs=8)[0].unexplained(states) for k in (1, 3, 8)]
    assert left[0] > left[1] > left[2]


def test_a_concept_is_the_attribute_that_firing_tells(planted, learned):
    states, directions, which = planted
    bears = (which == 5).any(1).numpy()
    has = sparse.csr_array(
        np.column_stack([bears, np.random.default_rng(0).random(len(bears)) < 0.05]).astype(np.float32)
    )
    values, latents = (part.numpy() for part in learned.latents(states))
    half = np.random.default_rng(2).random(len(states)) < 0.5
    found = find_concepts(
        values, latents, 256, Attributes(["planted", "chance"], has, np.zeros((2, 3), dtype=bool)), half
    )
    latent = int((directions[5] @ learned.decode.T).argmax())
    assert found.attribute[latent] == 0
    assert found.confidence[latent] > 0.8
    assert found.confidence[found.attribute == 1].max(initial=0.0) < 0.3


def test_a_detector_of_one_item_is_called_one():
    values = np.ones((40, 1))
    which = np.repeat([0, 1], 20)[:, None]
    last = np.concatenate([np.full(20, 7), np.arange(20)])
    assert item_detectors(values, which, 2, last).tolist() == [True, False]
