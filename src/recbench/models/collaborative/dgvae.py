"""DGVAE: a variational autoencoder of a user's items with several tastes, beside one of the words of those items [Zhou and Miao, TMM 2024].

What is different: a user is no vector but as many as there are prototypes, each of the items that belong to one; the same is done with the words
of the user's items, the two sides exchange what they found, and both are decoded. Items that are alike by their vectors lend each other weight.

For each prototype k of items, with unit vectors t_i of items and m_k of prototypes, for a user's items x:

    c_ik = softmax over k of t_i . m_k / tau (Gumbel-softmax in training)       x_k = normalise(x * c_k),   y = (x_k + x_k S S) / 2
    (mu, -log variance) = W y,     z_k = normalise(normalise(mu) + .075 eps * deviation)
    A = tanh(Q K^T) * sigmoid(-|q - k|_1, centred),    z <- A z_words + A^T z_items    p_i = sum over k of c_ik exp(z_k . t_i / tau)
    loss = -sum of x log softmax(log p) + beta KL + text_weight * (the same of words) + agreement * sum of softplus(+-a_j . b_k)

Glossary: S, the k nearest items -> ``item_graph`` (``neighbours``, ``image_share``), the vectors of ``data.features``; words -> ``item_words``,
TF-IDF of the items' texts; beta, rising to ``kl_weight`` over ``anneal_steps`` steps; lambda_text -> ``text_weight``; lambda_reg -> ``agreement``.

Where this deviates: the authors hold S dense and multiply it twice for each prototype; W (x_k S S) is (W S S) x_k, so here W is sent along the sparse
graph, once a step. For that their dropout of y is one of x_k, drawn at the user's items alone: the others are 0. No [B, K, V] scores exist in
training (``recbench.nn.losses.mixture``). Sums of exp are taken with their maximum out. They count recall over min(k, |rel|).
The KL term counts the variance alone, as theirs does. Queries and keys are linear maps of z. Their one seed (6) was chosen. Users are no
entities: any history is encoded. Controls: ``text_weight=0``, words and exchange off; ``neighbours=0``, the graph off; both, which is MacridVAE;
``data.features.shuffle=SEED``; ``data.text.shuffle=SEED``.

Shapes: B users, V = n_items + 1, W words, K prototypes, D width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbench.data.batches import Batch
from recbench.models.base import ModelConfig, ModelContext, Recommender
from recbench.models.checks import check_number, check_share
from recbench.models.registry import register
from recbench.nn.graph.item_neighbours import item_graph, shares_of
from recbench.nn.graph.sparse_graph import SparseGraph
from recbench.nn.item_sets import ItemSets, distinct_items, sets_by_length
from recbench.nn.losses.mixture import mixture_loss, mixture_scores
from recbench.nn.text.tfidf import item_words

#: The deviation of the noise in z, as the authors have it.
NOISE = 0.075


@dataclass
class DGVAEConfig(ModelConfig):
    """See the head of this file."""

    name: str = "dgvae"
    hidden_size: int = 64
    prototypes: int = 4
    temperature: float = 0.1
    dropout: float = 0.5
    neighbours: int = 10
    image_share: float = 0.1
    kl_weight: float = 0.2
    anneal_steps: int = 20_000
    text_weight: float = 0.2
    agreement: float = 0.4
    words: int = 1_000  # of the vocabulary, the most frequent ones
    version: int = 3  # of a step: so many users; 2 had so many events, 1 drew dropout for the whole catalogue


class Side(nn.Module):
    """One autoencoder: of items, or of words. The first of its N things is a pad."""

    def __init__(self, n: int, config: DGVAEConfig) -> None:
        super().__init__()
        d = config.hidden_size
        self.config = config
        self.things = nn.Parameter(torch.empty(n, d))
        self.prototypes = nn.Parameter(torch.empty(config.prototypes, d))
        self.encoder = nn.Parameter(torch.empty(n, 2 * d))
        self.bias = nn.Parameter(torch.zeros(2 * d))
        for part in (self.things, self.prototypes, self.encoder):
            nn.init.xavier_normal_(part)

    def assigned(self) -> Tensor:
        """c [N, K]."""
        logits = F.normalize(self.things, dim=1) @ F.normalize(self.prototypes, dim=1).T / self.config.temperature
        return F.gumbel_softmax(logits, dim=1) if self.training else logits.softmax(dim=1)

    def encoded(self, x: Tensor, assigned: Tensor, encoder: Tensor) -> tuple[Tensor, Tensor]:
        """(z [B, K, D], KL scalar) of x [B, N] through the encoder [N, 2 D]."""
        return self.taken(x[:, :, None] * assigned, encoder)

    def encoded_sets(self, sets: list[ItemSets], assigned: Tensor, encoder: Tensor) -> tuple[Tensor, Tensor]:
        """The same of sets, in groups of rows."""
        parts = [
            self.taken(F.embedding(items, assigned) * there[..., None], F.embedding(items, encoder))
            for items, there in sets
        ]
        if len(parts) == 1:
            return parts[0]
        sizes = [len(z) for z, _ in parts]
        kl = torch.stack([own * n for (_, own), n in zip(parts, sizes, strict=True)]).sum() / sum(sizes)
        return torch.cat([z for z, _ in parts]), kl

    def taken(self, weights: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """(z [B, K, D], KL scalar) of weights [B, L, K] and the encoder's rows [L, 2 D] or [B, L, 2 D]."""
        shares = F.dropout(F.normalize(weights, dim=1).transpose(1, 2), self.config.dropout, self.training)
        # Answers take the long way: the last bits of a float32 product may depend on where in memory its tables lie.
        product = shares @ rows if self.training else (shares.double() @ rows.double()).float()
        mean, negative = (product + self.bias).chunk(2, dim=2)
        mean, log_variance = F.normalize(mean, dim=2), -negative
        kl = -0.5 * (1 + log_variance - log_variance.exp()).sum(dim=2).mean()
        if self.training:
            mean = mean + NOISE * torch.randn_like(mean) * (log_variance / 2).exp()
        return F.normalize(mean, dim=2), kl

    def decoded(self, z: Tensor, assigned: Tensor) -> Tensor:
        """log p [B, N] of z [B, K, D]."""
        if not torch.is_grad_enabled():
            return mixture_scores(z / self.config.temperature, F.normalize(self.things, dim=1), log_of(assigned))
        products = z @ F.normalize(self.things, dim=1).T / self.config.temperature
        return (products + log_of(assigned).T).logsumexp(dim=1)

    def set_loss(self, z: Tensor, assigned: Tensor, sets: list[ItemSets]) -> Tensor:
        """``likelihood(decoded(z, assigned), x)`` of sets, as in ``encoded_sets``, over all things but the pad."""
        table = F.normalize(self.things, dim=1)
        return mixture_loss(z / self.config.temperature, table, log_of(assigned), sets)


class Read(NamedTuple):
    """What is made of sets: z [B, K, D] to decode, c of items [V, K], what is added to the loss, the words of a set [B, W], c of words [W, K]."""

    z: Tensor
    assigned: Tensor
    further: Tensor
    words: Tensor | None = None
    assigned_words: Tensor | None = None


@register("dgvae", DGVAEConfig)
class DGVAE(Recommender):
    """See the head of this file."""

    requires: ClassVar[frozenset[str]] = frozenset({"features", "text"})
    trains_on = "users"
    reads_whole_history = True
    is_causal = False
    words: Tensor  # [V, W] weights of each item's words; not stored: they follow from the texts
    steps: Tensor  # [] training steps so far, for the annealing
    graph_encoder: Tensor  # [V, 2 D]: the encoder of items along the graph, for answers

    def __init__(self, config: DGVAEConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        _check(config)
        texts = context.item_texts if config.text_weight else None
        self.register_buffer("words", None if texts is None else item_words(texts, config.words), persistent=False)
        self.items = Side(context.n_items + 1, config)
        self.terms = Side(self.words.shape[1], config) if texts is not None else None
        d = config.hidden_size
        self.query, self.key = (nn.Linear(d, d, bias=False) if self.terms is not None else None for _ in range(2))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self._graph: SparseGraph | None = None
        if context.features and config.neighbours:
            shares = shares_of(list(context.features), config.image_share)
            self._graph = item_graph(context.features, shares, config.neighbours)
        self.register_buffer("graph_encoder", None, persistent=False)

    @classmethod
    def needs(cls, config: Any) -> frozenset[str]:
        needed = {"features"} if config.neighbours else set()
        return frozenset(needed | ({"text"} if config.text_weight else set()))

    # ---- encoding

    def encoder(self) -> Tensor:
        """[V, 2 D]: W, and half of it after two steps along the graph of items."""
        if not self.training and self.graph_encoder is not None:
            return self.graph_encoder
        own = self.items.encoder
        if self._graph is None:
            return own
        self._graph = self._graph.to(own.device)
        return (own + self._graph.product(self._graph.product(own))) / 2

    def train(self, mode: bool = True) -> DGVAE:
        super().train(mode)
        self.graph_encoder = None  # type: ignore[assignment]
        return self

    def read(self, sets: list[ItemSets]) -> Read:
        """sets: groups of rows, as ``sets_by_length`` makes them."""
        c_items = self.items.assigned()
        z_items, kl = self.items.encoded_sets(sets, c_items, self.encoder())
        beta = self.config.kl_weight * min(1.0, float(self.steps) / self.config.anneal_steps)
        if self.terms is None:
            return Read(z_items, c_items, beta * kl)
        c_words = self.terms.assigned()
        words = torch.cat(
            [
                F.embedding_bag(items, self.words, mode="sum", per_sample_weights=there.to(self.words.dtype))
                for items, there in sets
            ]
        )
        z_words, kl_words = self.terms.encoded(words, c_words, self.terms.encoder)
        further = beta * (kl + self.config.text_weight * kl_words) + self.config.agreement * disagreement(
            z_items, z_words
        )
        return Read(self.exchanged(z_items, z_words), c_items, further, words, c_words)

    def exchanged(self, z_items: Tensor, z_words: Tensor) -> Tensor:
        """[B, K, D]: what each side's prototypes take from the other's, together."""
        assert self.query is not None
        assert self.key is not None
        query, key = self.query(z_items), self.key(z_words)
        distance = torch.cdist(query, key, p=1)
        centred = distance - distance.mean(dim=(1, 2), keepdim=True)
        affinity = torch.tanh(query @ key.transpose(1, 2)) * torch.sigmoid(-centred)
        return F.normalize(z_items + z_words + affinity @ z_words + affinity.transpose(1, 2) @ z_items, dim=2)

    # ---- training and scoring

    def training_loss(self, batch: Batch) -> Tensor:
        """batch: all items of a user a row."""
        if self.training:
            self.steps += 1
        sets = sets_by_length(batch.items)
        read = self.read(sets)
        loss = self.items.set_loss(read.z, read.assigned, sets) + read.further
        if self.terms is not None:
            assert read.words is not None
            assert read.assigned_words is not None
            log_words = self.terms.decoded(read.z, read.assigned_words)
            loss = loss + self.config.text_weight * likelihood(log_words, read.words)
        return loss

    def score(self, batch: Batch) -> Tensor:
        if not self.training and self.graph_encoder is None and self._graph is not None:
            with torch.inference_mode(False), torch.no_grad():
                self.graph_encoder = self.encoder().detach().clone()
        read = self.read([distinct_items(batch.items)])
        return self.items.decoded(read.z, read.assigned)

    def stored_state(self) -> dict[str, Tensor]:
        was, _ = self.training, self.eval()
        with torch.no_grad():
            state = {**self.state_dict(), "graph_encoder": self.encoder().detach().clone()}
        self.train(was)
        return state

    def load_stored_state(self, state: Any) -> None:
        rest = dict(state)
        encoder = rest.pop("graph_encoder")
        self.load_state_dict(rest)
        self.eval()
        self.graph_encoder = encoder.to(self.steps.device)


def log_of(shares: Tensor) -> Tensor:
    """Of shares that may come out as 0."""
    return shares.clamp(min=1e-12).log()


def likelihood(log_p: Tensor, x: Tensor) -> Tensor:
    """-sum of x log softmax(log p), mean over the rows; x and log p [B, N]."""
    logs = log_p.log_softmax(dim=1)
    return -torch.where(x > 0, x * logs, 0.0).sum(dim=1).mean()


def disagreement(one: Tensor, other: Tensor) -> Tensor:
    """Each prototype of one side is to be like its own of the other side and unlike the others; one, other [B, K, D]."""
    products = one @ other.transpose(1, 2)
    own = F.softplus(-products.diagonal(dim1=1, dim2=2)).sum(dim=1)
    k = products.shape[1]
    if k == 1:
        return own.mean()
    others = F.softplus(products) * (1 - torch.eye(k, device=products.device))
    return (own + others.sum(dim=(1, 2)) / (k - 1)).mean()


def _check(config: DGVAEConfig) -> None:
    for name in ("hidden_size", "prototypes", "anneal_steps", "words"):
        check_number(f"model.{name}", getattr(config, name), least=1)
    for name in ("neighbours", "kl_weight", "text_weight", "agreement"):
        check_number(f"model.{name}", getattr(config, name), least=0.0)
    check_number("model.temperature", config.temperature, above=0.0, below=math.inf)
    check_share("dropout", config.dropout, below=True)
    check_number("model.version", config.version, least=3, below=4)
    check_share("image_share", config.image_share)
