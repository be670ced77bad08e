"""BIGRec: titles along a trie, guided, freely and then grounded, and one pass for all prefixes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from recbench.core.errors import UserError
from recbench.data.batches import prefixes
from recbench.data.item_text import item_texts
from recbench.models import weights
from recbench.models.language.bigrec import BIGRec, BIGRecConfig
from recbench.nn.text.grounding import grounded_scores
from tests.fixtures.titles import context_of, first_windows, lead_of_titles, ndcg_of_each, taught

TINY = {
    "tiny_hidden_size": 16, "tiny_n_heads": 2, "tiny_feedforward_size": 16, "n_layers": 1, "title_words": 3, "text_buckets": 512,
    "dropout": 0.0, "beams": 60,
}  # fmt: skip


@pytest.fixture
def context(tiny_data, tiny_split):
    texts = item_texts(tiny_data)
    # One title that begins another, and one that two items share.
    texts[2], texts[3], texts[4] = "red", "red mug", "red mug"
    return context_of(tiny_data, tiny_split, texts)


@pytest.fixture
def batch(tiny_data, tiny_split):
    return first_windows(tiny_data, tiny_split, 6)


def build(context, **keys):
    torch.manual_seed(1)
    return BIGRec(BIGRecConfig(**{**TINY, **keys}), context).eval()


class Guide(nn.Module):
    """Scores that are the same for everyone."""

    gives_lists = False
    config = BIGRecConfig(name="popularity")

    def __init__(self, scores):
        super().__init__()
        self.scores = scores

    def score(self, batch):
        return self.scores.expand(len(batch), -1)


def guided(context, **keys):
    model = build(context, **keys)
    model.guide.model = Guide(torch.randn(61, generator=torch.Generator().manual_seed(2)))
    return model


def test_all_titles_of_a_window_in_one_pass_are_those_one_by_one(context, batch):
    model = build(context)
    row, last = batch.mask.nonzero(as_tuple=True)
    with torch.no_grad():
        scores = model.score(prefixes(batch))[torch.arange(len(row)), batch.targets[row, last]]
        torch.testing.assert_close(model.training_loss(batch), -scores.mean(), atol=1e-4, rtol=1e-5)


def test_the_beam_spells_titles_of_the_catalogue_alone_as_the_exact_scores_have_them(context, batch):
    model = build(context)
    with torch.no_grad():
        exact = model.score(batch)
        items, scores = model.recommend(batch, 60)
    assert items.sort(1).values.tolist() == [list(range(1, 61))] * len(batch)
    torch.testing.assert_close(scores, exact.gather(1, items), atol=1e-4, rtol=1e-5)
    assert torch.equal(exact[:, 3], exact[:, 4])  # of one title
    assert (exact[:, 2] != exact[:, 3]).all()  # of one that begins the other
    assert exact[:, 1:].exp().sum(1).max() < 1


def test_renormalised_titles_sum_to_one_and_forced_words_add_nothing(context, batch):
    model = build(context, renormalise=True)
    with torch.no_grad():
        leaves = model.trie.items[model.trie.leaf_first[:-1]]
        torch.testing.assert_close(
            model.score(batch)[:, leaves].exp().sum(1), torch.ones(len(batch)), atol=1e-4, rtol=0
        )


def test_a_guide_mixes_in_the_share_of_the_items_behind_a_word(context, batch):
    alone = build(context)
    with torch.no_grad():
        model = guided(context, alpha=0.0)
        scores, expected = model.score(batch)[0], model.guide.model.scores[1:].log_softmax(0)
        both = torch.logsumexp(expected[2:4], 0)
        expected = torch.cat([torch.full((1,), -torch.inf), expected])
        expected[3] = expected[4] = both
        torch.testing.assert_close(scores, expected, atol=1e-4, rtol=1e-4)
        best = model.recommend(batch, 5)[1][0]
        torch.testing.assert_close(best, expected.sort(descending=True).values[:5], atol=1e-4, rtol=1e-4)
        mixed = guided(context, alpha=0.25).score(batch)[:, 1:]
        torch.testing.assert_close(mixed, 0.25 * alone.score(batch)[:, 1:] + 0.75 * expected[1:], atol=1e-3, rtol=1e-4)


def test_a_length_penalty_divides_by_the_words_of_the_title(context, batch):
    plain, divided = build(context), build(context, length_penalty=1.0)
    n_words = (plain.titles() > 0).sum(1)[1:]
    assert n_words[[1, 2]].tolist() == [2, 3]  # and the end
    with torch.no_grad():
        expected = plain.score(batch)[:, 1:] / n_words
        torch.testing.assert_close(divided.score(batch)[:, 1:], expected)
        _, scores = divided.recommend(batch, 7)
        torch.testing.assert_close(scores, expected.sort(1, descending=True).values[:, :7], atol=1e-4, rtol=1e-4)


def test_a_spelled_title_is_grounded_in_its_own_item(context, batch):
    model = build(context, decoder="grounded")
    titles = model.titles().masked_fill(model.titles() == model.end, 0)
    states = model.catalogue_states()
    scores = grounded_scores(model.title_states(titles[[2, 3, 9]]), states, model.counts)
    assert scores[0].argmax() == 2
    assert scores[1].topk(2).indices.sort().values.tolist() == [3, 4]
    assert scores[1, 3] == scores[1, 4]
    for metric in ("l2", "cosine"):
        plain = grounded_scores(states[:3], states, model.counts, metric)
        even = grounded_scores(states[:3], states, torch.full((61,), 7.0), metric, gamma=2.0)
        assert torch.equal(plain, even)
    with torch.no_grad():
        assert model.score(batch)[:, 1:].isfinite().all()
        assert torch.equal(model.recommend(batch, 3)[1], model.score(batch).topk(3).values)


def test_a_named_backbone_is_stored_by_its_adapters_and_grounds_without_them(
    context, batch, copying_model, tmp_path, monkeypatch
):
    words = sorted({word for text in context.item_texts for word in text.replace(".", " ").replace(",", " ").split()})
    folder = str(copying_model(words))
    with pytest.raises(UserError, match=r"no token for the end of a line"):
        build(context, backbone=folder)
    monkeypatch.setattr("recbench.nn.text.title_words.line_end", lambda tokenizer, name: 5)
    model = build(context, backbone=folder, lora_rank=2, grounding="base", decoder="grounded")
    learned = {name for name, part in model.named_parameters() if part.requires_grad}
    assert learned
    assert set(model.stored_state()) == learned | {"codes", "sizes", "level_tokens", "counts"}
    weights.save_weights(model, tmp_path / "weights.safetensors")
    again = build(replace(context, item_texts=None), backbone=folder, lora_rank=2, grounding="base", decoder="grounded")
    weights.load_weights(again, tmp_path / "weights.safetensors")
    with torch.no_grad():
        assert torch.equal(again.score(batch), model.score(batch))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"alpha": 2.0}, r"model.alpha must lie between 0 and 1"),
        ({"alpha": 0.5, "decoder": "grounded"}, r"set model.decoder=beam or exact"),
        ({"grounding": "base"}, r"set model.grounding=own"),
        ({"prompt": "learned"}, r"set model.prompt=none"),
        ({"title_tokens": 0}, r"model.title_tokens must be at least 1"),
        ({"decoder": "free"}, r"unknown model.decoder 'free'"),
    ],
)
def test_bad_keys_are_refused_by_name(context, keys, message):
    with pytest.raises(UserError, match=message):
        build(context, **keys)


def test_items_without_text_are_refused(context):
    with pytest.raises(UserError, match=r"no item has a text, which 'bigrec' spells"):
        build(replace(context, item_texts=[""] * 61))


def test_the_signal_in_the_titles_is_found_and_lost_when_they_are_shuffled(clustered):
    data, split = clustered

    def ndcg(texts):
        model = build(context_of(data, split, texts), tiny_hidden_size=32, title_words=2)
        return ndcg_of_each(taught(model, data, split, steps=90), data, split)

    lead, error = lead_of_titles(ndcg, data)
    # Measured in NDCG@10, with the 95 % interval of the lead over users: .246 against .046, .164 to .235.
    assert lead - 1.96 * error > 0.1
