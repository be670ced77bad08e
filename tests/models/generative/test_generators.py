"""Generators on a catalogue where every item has one known successor: whatever the codes and the decoder, they must find it.

The quality of codes is no matter here; that nothing gets lost between text, codes, network, trie and item is.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from recbench.core.errors import UserError
from recbench.data.batches import WindowDataset, training_windows
from recbench.data.prepared import PreparedData
from recbench.data.training import TrainingData
from recbench.models.base import ModelContext
from recbench.models.registry import lookup

N_ITEMS, MAX_LENGTH = 24, 3
TIGER = {"hidden_size": 32, "n_layers": 1, "n_heads": 2, "head_size": 16, "feedforward_size": 64, "dropout": 0.0}
LCREC = {"tiny_hidden_size": 32, "tiny_n_heads": 2, "tiny_feedforward_size": 64, "n_layers": 1, "dropout": 0.0}
RPG = {"hidden_size": 32, "n_layers": 1, "n_heads": 2, "feedforward_size": 64, "dropout": 0.0, "temperature": 0.1}
SIZES = {"tiger": TIGER, "lcrec": {**LCREC, "text_buckets": 64, "fusionseqrec": 0.0}, "rpg": RPG}
SPELLERS = ["tiger", "lcrec"]
#: LC-Rec without its tasks on what texts mean, which take five times as many steps as the codes do.
WITHOUT_TEXT_TASKS = {"lcrec": {"item2index": 0.0, "index2item": 0.0, "enough": 0.01}}


def successors(n_items):
    """[n_items + 1]: one cycle through all items in a random order."""
    order = np.random.default_rng(3).permutation(n_items) + 1
    after = np.zeros(n_items + 1, dtype=np.int64)
    after[order] = np.roll(order, -1)
    return after


@pytest.fixture(scope="module")
def walks(tmp_path_factory):
    """walks(n_items) -> TrainingData of users who walk along the cycle from places of their own."""

    def build(n_items):
        after = successors(n_items)
        sequences = []
        for start in range(1, n_items + 1):
            walk = [start]
            while len(walk) < MAX_LENGTH + 1:
                walk.append(int(after[walk[-1]]))
            sequences.append(walk)
        offsets = np.cumsum([0, *map(len, sequences)])
        folder = tmp_path_factory.mktemp("walks")
        items = np.concatenate(sequences)
        data = PreparedData.from_arrays(folder, items, offsets, np.arange(len(items)), n_items=n_items)
        return TrainingData(data, data.offsets[:-1], data.offsets[1:])

    return build


def hand_made(codes, sizes):
    """What a generator reads of a tokenizer's run."""
    table = torch.cat([torch.full((1, len(sizes)), -1), torch.as_tensor(codes)])
    return SimpleNamespace(codes=table, sizes=torch.tensor(sizes), config=SimpleNamespace(name="hand"))


def random_codes(sizes, n_items=N_ITEMS):
    every = np.array(list(np.ndindex(*sizes)))
    return hand_made(every[np.random.default_rng(0).permutation(len(every))[:n_items]], list(sizes))


def learned(name, train, tokenizer, steps=300, enough=0.05, **keys):
    """A generator trained on the walks until it knows them, to a loss of ``enough``, or for so many steps."""
    entry = lookup(name)
    texts = ["", *(f"thing {i} of kind {i % 5}" for i in range(1, train.n_items + 1))]
    context = ModelContext(
        train.n_items, train.n_users, MAX_LENGTH, dependencies={"tokenizer": tokenizer}, item_texts=texts
    )
    torch.manual_seed(0)
    model = entry.model(entry.config(**{**SIZES[name], **keys}), context).train()
    batch = WindowDataset(train.data, training_windows(train.start, train.end, MAX_LENGTH))[np.arange(train.n_users)]
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3, fused=True)
    for step in range(steps):
        optimizer.zero_grad()
        loss = model.training_loss(batch)
        loss.backward()
        optimizer.step()
        # What texts mean need not be learned for that.
        if loss.item() < enough or (name == "lcrec" and step % 10 == 0 and model.next_item_loss(batch).item() < 0.02):
            break
    return model.eval()


def redecoded(model, **keys):
    """The same weights under other decode settings."""
    config = type(model.config)(**{**vars(model.config), **keys})
    twin = type(model)(config, ModelContext(model.n_items, 1, MAX_LENGTH))
    twin.load_stored_state(model.stored_state())
    return twin.eval()


def questions(histories, n_items):
    """Two events of the walk from every item, and what comes next."""
    after = successors(n_items)
    rows = [[i, int(after[i])] if n_items > 1 else [i] for i in range(1, n_items + 1)]
    return histories(*rows), [int(after[row[-1]]) for row in rows]


def first_items(model, batch):
    with torch.no_grad():
        return model.recommend(batch, 1)[0][:, 0].tolist()


@pytest.fixture(scope="module")
def tiger(walks):
    return learned("tiger", walks(N_ITEMS), random_codes((3, 4, 5)))


@pytest.fixture(scope="module")
def lcrec(walks):
    return learned("lcrec", walks(N_ITEMS), random_codes((3, 4, 5)))


@pytest.fixture(params=SPELLERS)
def speller(request):
    """Each generator that spells an item code by code."""
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize(
    "keys", [{"beams": 5}, {"beams": 50}, {"beams": 5, "constrained": False}, {"decoder": "exact"}], ids=str
)
def test_the_successor_is_found_with_every_decoder(speller, histories, keys):
    batch, expected = questions(histories, N_ITEMS)
    assert first_items(redecoded(speller, **keys), batch) == expected


@pytest.mark.parametrize(
    "keys",
    [
        {"encoder": "causal"},
        {"samples": "windows"},
        {"samples": "one_window"},
        {"separator": False},
        {"user_tokens": 3},
        {"encoder": "causal", "user_tokens": 3, "separator": False},
    ],
    ids=str,
)
def test_tiger_finds_the_successor_however_it_is_trained(walks, histories, keys):
    model = learned("tiger", walks(N_ITEMS), random_codes((4, 4, 5)), **keys)
    batch, expected = questions(histories, N_ITEMS)
    assert first_items(model, batch) == expected


def test_a_wide_beam_ranks_as_the_exact_scores_do(speller, histories):
    batch, _ = questions(histories, N_ITEMS)
    with torch.no_grad():
        exact = speller.score(batch)
        items, scores = speller.recommend(batch, N_ITEMS)
    assert items.sort(dim=1).values.tolist() == [list(range(1, N_ITEMS + 1))] * N_ITEMS
    torch.testing.assert_close(scores, exact.gather(1, items))
    assert (scores.diff(dim=1) <= 0).all()
    assert (exact[:, 1:].exp().sum(dim=1) <= 1 + 1e-5).all()


def test_scores_by_kept_keys_are_those_of_teacher_forcing(tiger, histories):
    batch, expected = questions(histories, N_ITEMS)
    batch.targets = torch.zeros_like(batch.items)
    batch.targets[:, -1] = torch.tensor(expected)
    with torch.no_grad():
        exact = tiger.score(batch)[torch.arange(N_ITEMS), torch.tensor(expected)]
        memory = tiger.encode(batch.items, batch.lengths, batch.user)
        states, _ = tiger.decode(tiger._shifted(batch.targets[:, -1:]), memory, memory.real[:, None, None, :])
        forced = tiger.cross_entropy(states[:, 0], batch.targets[:, -1])
    torch.testing.assert_close(-exact.sum(), forced)


def test_all_prefixes_in_one_pass_are_those_one_by_one(walks, histories):
    """The causal encoder's window loss equals the mean over its prefixes, each encoded by itself."""
    from recbench.data.samples import samples

    train = walks(N_ITEMS)
    model = learned("tiger", train, random_codes((4, 4, 5)), steps=2, encoder="causal", user_tokens=4)
    batch = WindowDataset(train.data, training_windows(train.start, train.end, MAX_LENGTH))[np.arange(7)]
    batch.lengths[:3] = torch.tensor([1, 3, 2])
    alone = samples(batch, "prefix")
    with torch.no_grad():
        torch.testing.assert_close(
            model.training_loss(batch), model._loss_of_samples(alone) / len(alone.targets), atol=1e-5, rtol=1e-5
        )


def test_a_list_has_no_more_items_than_beams_and_says_so(speller, histories):
    batch, _ = questions(histories, N_ITEMS)
    with torch.no_grad():
        items, scores = redecoded(speller, beams=3).recommend(batch, 10)
    assert items.shape == scores.shape == (N_ITEMS, 10)
    assert (items[:, :3] > 0).all()
    assert (items[:, 3:] == 0).all()
    assert (scores[:, 3:] == -torch.inf).all()


def test_free_beams_put_nothing_where_an_id_is_no_items(speller, histories):
    batch, _ = questions(histories, N_ITEMS)
    with torch.no_grad():
        items, scores = redecoded(speller, beams=80, constrained=False).recommend(batch, N_ITEMS)
    assert (items == 0).any()
    assert scores.isfinite().all()
    assert all(len(set(real)) == len(real) for row in items.tolist() for real in [[i for i in row if i]])


@pytest.mark.parametrize("name", SPELLERS)
@pytest.mark.parametrize("collisions", ["digit", "bucket"])
def test_items_of_equal_codes_are_told_apart_by_a_digit_and_shown_together_in_a_bucket(
    walks, histories, name, collisions
):
    # Six groups of four, whose order along the cycle is fixed: the group that follows is known even where the item is not.
    after, place = successors(N_ITEMS), np.zeros(N_ITEMS + 1, dtype=np.int64)
    item = 1
    for step in range(N_ITEMS):
        place[item], item = step, after[item]
    codes, sizes = np.stack([place[1:] % 3, place[1:] % 2], axis=1), [3, 2]
    if collisions == "digit":
        codes, sizes = np.column_stack([codes, place[1:] // 6]), [*sizes, 4]
    model = learned(name, walks(N_ITEMS), hand_made(codes, sizes), **WITHOUT_TEXT_TASKS.get(name, {}))
    batch, expected = questions(histories, N_ITEMS)
    with torch.no_grad():
        items, scores = model.recommend(batch, 4)
        exact = model.score(batch)
    if collisions == "digit":
        assert items[:, 0].tolist() == expected
        return
    # The four of a bucket fill four places, at one score; in the exact scores they tie.
    assert all(target in row for target, row in zip(expected, items.tolist(), strict=True))
    assert (scores == scores[:, :1]).all()
    assert all(len(set(row)) == 4 for row in items.tolist())
    assert ((exact == exact.amax(dim=1, keepdim=True)).sum(dim=1) == 4).all()


def test_rpg_finds_the_successor(walks, histories):
    model = learned("rpg", walks(N_ITEMS), random_codes((3, 4, 5, 2)), hidden_size=64)
    batch, expected = questions(histories, N_ITEMS)
    assert first_items(model, batch) == expected


def test_rpg_scores_are_mean_log_probabilities_of_the_codes(walks, histories):
    tokenizer = random_codes((3, 4, 5, 2))
    model = learned("rpg", walks(N_ITEMS), tokenizer, steps=3)
    batch, _ = questions(histories, N_ITEMS)
    with torch.no_grad():
        scores = model.score(batch)
        states = model.hidden_states(batch)[-1][:, -1]
        expected = torch.zeros(N_ITEMS, N_ITEMS)
        offset = 0
        for level, size in enumerate((3, 4, 5, 2)):
            vectors = model.token_embedding.weight[offset : offset + size]
            offset += size
            inner = states @ model.head_weight[level] + model.head_bias[level]
            query = states + inner * torch.sigmoid(inner)
            cosine = torch.nn.functional.cosine_similarity(query[:, None], vectors[None], dim=-1)
            expected += (cosine / 0.1).log_softmax(dim=1)[:, tokenizer.codes[1:, level]] / 4
    torch.testing.assert_close(scores[:, 1:], expected)
    assert (scores[:, 0] == -torch.inf).all()


@pytest.mark.parametrize("name", [*SPELLERS, "rpg"])
@pytest.mark.parametrize(
    "tokenizer", ["rq_kmeans", "rvq", "rqvae", "sequential_ids", "collaborative_ids", "random_ids", "opq"]
)
def test_every_tokenizer_serves_every_generator(walks, histories, name, tokenizer):
    train = walks(N_ITEMS)
    entry = lookup(tokenizer)
    vectors = torch.cat([torch.zeros(1, 12), torch.randn(N_ITEMS, 12, generator=torch.Generator().manual_seed(0))])
    context = ModelContext(N_ITEMS, train.n_users, MAX_LENGTH, train=train, seed=1, text_vectors=vectors)
    made = entry.model(entry.config(levels=3, codebook_size=6, collisions="digit"), context)
    made.fit_to(train)
    keys = {} if tokenizer == "rq_kmeans" else WITHOUT_TEXT_TASKS.get(name, {})
    model = learned(name, train, made, **keys)
    batch, expected = questions(histories, N_ITEMS)
    assert first_items(model, batch) == expected
    if name in SPELLERS:
        assert first_items(redecoded(model, decoder="exact"), batch) == expected
        assert first_items(redecoded(model, constrained=False), batch) == expected


@pytest.mark.parametrize("name", [*SPELLERS, "rpg"])
@pytest.mark.parametrize("tokenizer", ["rq_kmeans", "opq"])
@pytest.mark.parametrize("n_items", [1, 3])
def test_codebooks_larger_than_the_data_and_a_catalogue_of_one_item(walks, histories, name, tokenizer, n_items):
    train = walks(n_items)
    entry = lookup(tokenizer)
    vectors = torch.cat([torch.zeros(1, 4), torch.randn(n_items, 4, generator=torch.Generator().manual_seed(0))])
    context = ModelContext(n_items, train.n_users, MAX_LENGTH, train=train, seed=1, text_vectors=vectors)
    made = entry.model(entry.config(levels=2, codebook_size=16), context)
    made.fit_to(train)
    model = learned(name, train, made)
    batch, expected = questions(histories, n_items)
    assert first_items(model, batch) == expected


def test_a_checkpoint_brings_its_codes(speller, histories):
    batch, _ = questions(histories, N_ITEMS)
    bare = type(speller)(speller.config, ModelContext(N_ITEMS, 1, MAX_LENGTH))
    bare.load_stored_state(speller.stored_state())
    with torch.no_grad():
        for a, b in zip(bare.eval().recommend(batch, 5), speller.recommend(batch, 5), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("name", "keys", "words"),
    [
        ("tiger", {"encoder": "causl"}, "did you mean 'causal'"),
        ("tiger", {"decoder": "beem"}, "did you mean 'beam'"),
        ("tiger", {"samples": "windws"}, "did you mean 'windows'"),
        ("tiger", {"encoder": "causal", "samples": "windows"}, "use model.samples=prefix"),
        ("tiger", {"user_tokens": -1}, "user_tokens=-1"),
        ("tiger", {"beams": 0}, "model.beams"),
        ("rpg", {"temperature": 0.0}, "temperature=0 must be positive"),
        ("rpg", {"n_heads": 3}, "not a multiple"),
    ],
)
def test_keys_that_make_no_sense_are_refused(name, keys, words):
    entry = lookup(name)
    with pytest.raises(UserError, match=words):
        entry.model(entry.config(**keys), ModelContext(5, 1, 5))


def test_a_run_that_makes_no_codes_is_refused_as_tokenizer():
    entry = lookup("tiger")
    other = SimpleNamespace(config=SimpleNamespace(name="sasrec"))
    with pytest.raises(UserError, match=r"model.tokenizer.model=sasrec makes no codes"):
        entry.model(entry.config(), ModelContext(5, 1, 5, dependencies={"tokenizer": other}))
