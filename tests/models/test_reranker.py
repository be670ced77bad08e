"""The merge of a reranker: the retriever's best K in a new order, everything else behind them in the retriever's."""

from __future__ import annotations

import pytest
import torch

from recbench.core.errors import UserError
from recbench.data.protocol import LeaveOneOutConfig, SampledConfig
from recbench.data.split import make_split
from recbench.data.training import TrainingData
from recbench.evaluation.evaluate import evaluate
from recbench.experiment.run import run
from recbench.models.base import ModelContext
from recbench.models.counting.markov import Markov, MarkovConfig
from recbench.models.counting.popularity import Popularity, PopularityConfig
from recbench.models.registry import lookup
from recbench.models.reranker import Reranker, RerankerConfig, n_before


class ByNumber(Reranker):
    """Puts the largest item number first, or what ``scores`` says."""

    scores = None

    def rerank(self, batch, candidates):
        return candidates.float() if self.scores is None else self.scores[candidates]


@pytest.fixture(scope="module")
def retriever(tiny_data, tiny_split):
    model = Markov(MarkovConfig(), ModelContext(tiny_data.n_items, tiny_data.n_users, 20))
    model.fit_to(TrainingData.of(tiny_data, tiny_split))
    return model.eval()


@pytest.fixture
def context(tiny_data, tiny_split, retriever):
    train = TrainingData.of(tiny_data, tiny_split)
    counts = torch.from_numpy(train.item_counts())
    return ModelContext(
        tiny_data.n_items, tiny_data.n_users, 20, counts, {"retriever": retriever}, train=train, seen_items="mask"
    )


def build(context, **keys):
    return ByNumber(RerankerConfig(name="prompted", **keys), context).eval()


def ranks_of(score, data, split, **more):
    return evaluate(score, data, split.test, split, 20, **more).rank


def test_without_any_candidate_it_is_the_retriever(context, retriever, tiny_data, tiny_split):
    model = build(context, k=0)
    assert (ranks_of(model.score, tiny_data, tiny_split) == ranks_of(retriever.score, tiny_data, tiny_split)).all()


def test_with_the_retrievers_own_order_it_is_the_retriever(context, retriever, tiny_data, tiny_split):
    model = build(context, k=7, weight=0.0)
    own, before = (ranks_of(score, tiny_data, tiny_split) for score in (model.score, retriever.score))
    # Items that tie over the border of the K are parted there, and nowhere else.
    assert (abs(own - before) < 3).all()
    assert (own == before).mean() > 0.9


def test_a_target_outside_of_the_best_keeps_the_retrievers_rank(context, retriever, tiny_data, tiny_split):
    k = 5
    ranks = ranks_of(build(context, k=k).score, tiny_data, tiny_split)
    before = evaluate(retriever.score, tiny_data, tiny_split.test, tiny_split, 20)
    outside = (before.rank > k + before.n_equal) & (before.n_equal == 1)
    assert outside.sum() > 10
    assert (ranks[outside] == before.rank[outside]).all()
    inside = before.rank + before.n_equal <= k
    assert (ranks[inside] <= k).all()
    assert (ranks[inside] != before.rank[inside]).any()


def test_the_best_stand_in_the_new_order_and_ties_stay_ties(context, histories):
    model = build(context, k=4)
    batch = histories([3, 5], [9])
    model.scores = torch.zeros(model.n_items + 1)
    top = model.best(model.retrieved(batch), batch)
    model.scores[top[0, 2]] = 1.0
    first = model.score(batch)[0]
    assert first[top[0, 2]] == 2.0
    assert first[top[0, [0, 1, 3]]].tolist() == [1.75] * 3
    others = torch.ones(model.n_items + 1, dtype=torch.bool)
    others[top[0]] = False
    assert (first[others] <= -1).all()


def test_masked_items_take_no_place_among_the_best(context, histories):
    batch = histories([3, 5, 7, 9])
    assert not set(build(context, k=10).best(torch.rand(1, 61), batch)[0].tolist()) & {0, 3, 5, 7, 9}
    from dataclasses import replace

    keeps = build(replace(context, seen_items="keep"), k=60)
    assert set(keeps.best(torch.rand(1, 61), batch)[0].tolist()) == set(range(1, 61))


def test_fewer_items_than_places_are_no_matter(context, histories, retriever):
    model = build(context, k=60)
    scores = model.score(histories([3, 5, 7, 9], [2]))
    assert scores[:, 1:].isfinite().all()
    assert (scores[0, [3, 5, 7, 9]] < 0).all()
    assert (scores[0, [1, 2, 4]] > 1).all()


def test_given_candidates_alone_are_ordered(context, tiny_data, retriever):
    model = build(context, k=20)
    split = make_split(tiny_data, SampledConfig(n_candidates=19), None)
    largest = ranks_of(model.score, tiny_data, split, score_candidates=model.score_candidates)
    candidates, targets = split.test.candidates, split.test.targets
    # All twenty are reordered, by their number: the rank is a count.
    expected = 1 + (candidates > targets[:, None]).sum(1)
    own = [t in set(tiny_data.items[s:e]) for t, s, e in zip(targets, split.test.start, split.test.end, strict=True)]
    assert not any(own)
    assert (largest == expected).all()


def test_popularity_and_the_retriever_order_the_same_items(context, retriever, tiny_data, tiny_split, histories):
    model = build(context, k=6)
    controls = model.controls()
    assert set(controls) == {"popularity_order", "retriever_order"}
    of_retriever = ranks_of(controls["retriever_order"][0], tiny_data, tiny_split)
    assert (of_retriever == ranks_of(retriever.score, tiny_data, tiny_split)).mean() > 0.9
    batch = histories([3, 5], [9])
    top = model.best(model.retrieved(batch), batch)
    scores = controls["popularity_order"][0](batch)
    new, counts = scores.gather(1, top), context.item_counts[top]
    assert ((new[:, :, None] > new[:, None]) == (counts[:, :, None] > counts[:, None])).all()


def test_a_run_prints_popularity_and_the_candidates_beside_its_figures(run_config, tmp_path):
    words = ["model=prompted", "model.retriever.model=markov", "model.k=4", "model.history=3", "model.n_layers=1"]
    small = ["model.tiny_hidden_size=16", "model.tiny_n_heads=2", "model.text_buckets=64"]
    figures = run(run_config(tmp_path, *words, *small)).metrics
    assert figures["test/popularity_order_ndcg@10"] != figures["test/ndcg@10"]
    assert figures["test/retriever_order_hr@10"] == pytest.approx(figures["test/hr@10"])
    assert figures["test/candidate_recall"] <= figures["test/hr@10"]
    assert figures["test/candidate_recall"] > 0.3
    sampled = ["protocol=sampled_999", "protocol.n_candidates=19"]
    figures = run(run_config(tmp_path, *words, *small, *sampled)).metrics
    assert figures["test/sampled19_popularity_order_ndcg@10"] > 0


def test_more_items_than_the_catalogue_has_are_refused(context):
    with pytest.raises(UserError, match=r"model.k=61 is above the 60 items of the catalogue"):
        build(context, k=61)


def test_a_retriever_must_rank_and_give_scores(context):
    kind, config = lookup("prompted").model, lookup("prompted").config
    with pytest.raises(UserError, match=r"model.retriever.model=rq_kmeans ranks nothing"):
        kind.dependencies(config(retriever={"model": "rq_kmeans"}))
    context.dependencies["retriever"].__class__ = type("Lists", (Markov,), {"gives_lists": True})
    try:
        with pytest.raises(UserError, match=r"markov gives lists and no scores"):
            build(context)
    finally:
        context.dependencies["retriever"].__class__ = Markov


def test_an_untrained_retriever_is_refused_unless_forced(run_config, tmp_path):
    words = [
        *["model=prompted", "model.k=3", "model.history=2", "model.n_layers=1", "model.text_buckets=64"],
        *["model.retriever.hidden_size=16", "model.retriever.training.lr=1e-9", "training.max_epochs=1"],
    ]
    with pytest.raises(
        UserError, match=r"the retriever sasrec-\w+ has validation/ndcg@10 .* not trained.*model.force=true"
    ):
        run(run_config(tmp_path, *words))
    assert not run(run_config(tmp_path, *words, "model.force=true")).reused
    # Forcing changes nothing that a result depends on.
    assert run(run_config(tmp_path, *words, "model.force=true")).reused


def test_popularity_may_be_the_retriever(context, tiny_data, tiny_split):
    floor = Popularity(PopularityConfig(), ModelContext(tiny_data.n_items, tiny_data.n_users, 20))
    floor.fit_to(TrainingData.of(tiny_data, tiny_split))
    context.dependencies["retriever"] = floor.eval()
    split = make_split(tiny_data, LeaveOneOutConfig(), None)
    assert len(ranks_of(build(context, k=3).score, tiny_data, split)) == len(split.test)


def test_before_counts_what_is_greater():
    assert n_before(torch.tensor([[1.0, 2.0, 2.0, 0.5]])).tolist() == [[2, 0, 0, 3]]
