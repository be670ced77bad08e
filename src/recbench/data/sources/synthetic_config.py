"""The settings of ``data=synthetic``: sizes, and how strong each latent structure is."""

from __future__ import annotations

from dataclasses import dataclass, field

from recbench.core.errors import UserError
from recbench.data.schema import BESIDE, DataConfig


@dataclass
class SyntheticConfig(DataConfig):
    """Size and strengths. The defaults are learned by a small transformer in well under a minute on two CPU cores."""

    name: str = "synthetic"
    k_core: int = 0
    #: Seed of the data; independent of the seed of a run.
    seed: int = 0
    n_users: int = 6_000
    n_items: int = 300
    #: Events of a user: at least, on average (before the cut) and at most.
    min_length: int = 5
    mean_length: float = 9.0
    max_length: int = 30
    #: Share of events that follow the last item in a sparse graph.
    transition: float = 0.2
    #: Share of events that follow the last item but one in another graph: out of reach of a first-order model.
    second_order: float = 0.6
    #: Share of events from the cluster of the last item.
    cluster: float = 0.1
    #: Successors of each item in each graph, with weights 1, 1/2, 1/4 and so on.
    n_successors: int = 3
    n_clusters: int = 60
    #: How far the first-order successors depend on the pause before the last event: 0 not at all, 1 two separate graphs.
    gap_dependence: float = 1.0
    #: Share of events that come after a long pause; such a pause also starts a session.
    long_gap_share: float = 0.4
    #: Zipf exponent of item popularity; 0: all alike.
    popularity_skew: float = 0.6
    #: How far view, cart and buy depend on what led to the event, 0..1.
    behaviour_signal: float = 1.0
    #: How far words, brand and category tell an item's cluster, 0..1.
    text_signal: float = 0.8
    #: How far vectors (data.features) tell an item's cluster, triples (data.knowledge) what is true of it, and attributes of users what they do.
    feature_signal: float = field(default=0.8, metadata=BESIDE)
    knowledge_signal: float = field(default=0.8, metadata=BESIDE)
    attribute_signal: float = field(default=0.8, metadata=BESIDE)
    #: Items of a request, among the impressions.
    impressions_shown: int = field(default=5, metadata=BESIDE)
    #: Whether a user may meet an item again.
    allow_repeats: bool = False
    #: The best score is computed on at most this many users, evenly spread.
    oracle_users: int = 20_000

    def validate(self) -> None:
        """Raises UserError for sizes or strengths from which no data can be drawn."""
        super().validate()
        for key in (
            "transition",
            "second_order",
            "cluster",
            "gap_dependence",
            "long_gap_share",
            "behaviour_signal",
            "text_signal",
            "feature_signal",
            "knowledge_signal",
            "attribute_signal",
        ):
            _require(0 <= getattr(self, key) <= 1, f"data.{key}={getattr(self, key)} must lie between 0 and 1")
        shares = self.transition + self.second_order + self.cluster
        _require(
            shares <= 1 + 1e-9, f"data.transition + second_order + cluster = {shares:g} exceeds 1; lower one of them"
        )
        for key in ("n_users", "n_items", "n_clusters", "n_successors", "oracle_users"):
            _require(getattr(self, key) >= 1, f"data.{key}={getattr(self, key)} must be at least 1")
        _require(self.seed >= 0, f"data.seed={self.seed} must not be negative")
        _require(self.popularity_skew >= 0, f"data.popularity_skew={self.popularity_skew} must not be negative")
        _require(
            self.n_successors < self.n_items, f"data.n_successors={self.n_successors} needs more than that many items"
        )
        _require(
            self.n_clusters <= self.n_items, f"data.n_clusters={self.n_clusters} exceeds data.n_items={self.n_items}"
        )
        _require(
            3 <= self.min_length <= self.mean_length <= self.max_length,
            f"data.min_length={self.min_length}, mean_length={self.mean_length:g}, max_length={self.max_length} must rise from 3 or more",
        )
        _require(
            self.allow_repeats or self.max_length < self.n_items,
            f"data.max_length={self.max_length} needs more than data.n_items={self.n_items} items, or data.allow_repeats=true",
        )
        _require(
            2 <= self.impressions_shown <= self.n_items,
            f"data.impressions_shown={self.impressions_shown} must lie between 2 and data.n_items={self.n_items}",
        )
        unused = [key for key in ("raw_dir", "version", "category") if getattr(self, key) is not None]
        _require(
            not unused,
            f"synthetic data is generated, so data.{unused[0] if unused else ''} means nothing here; leave it out",
        )


def _require(good: bool, message: str) -> None:
    if not good:
        raise UserError(message)
