"""LLM-CF: a history is read beside others like it and what a language model wrote about those [Sun et al., CIKM 2024, arXiv 2403.17688], for
models of sequences.

    example j of a history   another user's training row, earlier in time: its history, the text about it, and the item that followed
    retrieval                cosine of the mean title vectors of both histories + cosine of the titles of their last items
    tokens                   [P v_1][Q r_1][P t_1] ... [P v_k][Q r_k][P t_k] [P' h]      through two causal layers
    L = L_rec + weight * (1 - mean_j cos(MLP(state at v_j), r_j)) + context_weight * InfoNCE(O z, item that is next)

v_j is the mean of the model's item vectors over the example's history, t_j the vector of its next item, r_j the TF-IDF vector of its text
(``width`` numbers, frozen), h the model's state of the history itself, z the state at its token, the last one. Nothing of it is read or computed
when the model ranks.

Glossary (paper and released code -> here): CoT -> a text of ``texts``; in-context examples -> ``near``; ICL transformer -> ``layers``; CoT
reconstruction -> the term ``llm_cf_texts``; world-knowledge feature z -> the term ``llm_cf_context``.
Deviations: the released model predicts clicks, and z is a feature of it in the test too; here z is trained to point at the next item, so that the
test costs what it did. Examples are what was chosen (there: two clicked, two not), so there are no labels. The released retrieval leaves out later
rows of the same user alone; here rows of the user, and of anybody at a later time, are out. Two plain layers, where they use one of LLaMA's form.
Texts come from a file (``recbench.nn.text.generated``, which checks that none knows what comes later); ``recbench write-texts llm_cf`` has a
language model write it, which is told the history and not the item that followed.
On generated data, whose texts tell clusters, no gain in the ranking could be shown (tests/objectives/contrastive/test_llm_cf.py).
``blank`` makes all texts zeros, ``shuffle`` gives every row the text of another: the controls, which must not help.

Shapes: B rows, K texts, W windows, k examples of a row, D width of the model, E width of the texts, S width of the layers.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbench.core.errors import UserError
from recbench.data.batches import Batch, WindowDataset
from recbench.data.cases import flat_ranges
from recbench.data.prepared import PreparedData
from recbench.models.auxiliary import LLMCFConfig
from recbench.models.sequence_model import SequenceModel
from recbench.nn.text.generated import Written
from recbench.nn.text.item_text import tfidf_vectors
from recbench.objectives.contrastive.base import Auxiliary, register, representations
from recbench.objectives.contrastive.written import in_batch, last_targets, texts_for

#: Cosines held at a time.
COSINES_AT_ONCE = 1 << 23
HEADS = 2


@register("llm_cf")
class LLMCF(Auxiliary):
    """See the head of this file. ``texts`` [K, E]; ``near`` [W, k] the examples of each window, -1 behind the last.

    Raises UserError for texts that fail the leak check, and where no window has an example.
    """

    texts: Tensor
    batch: Batch
    chosen: Tensor

    def __init__(self, config: LLMCFConfig, model: SequenceModel, dataset: WindowDataset) -> None:
        super().__init__()
        self.config = config
        written, vectors = texts_for(config, dataset)
        self.register_buffer("texts", torch.zeros_like(vectors) if config.blank else vectors)
        self.examples = Examples(written, dataset.data, model.max_length)
        self.near = self.examples.nearest(dataset, config.k)
        if not (self.near >= 0).any():
            raise UserError(
                f"{config.texts}: no training window has a text about an earlier row of another user; write texts of more users"
            )
        d, s, e = model.width, config.size, vectors.shape[1]
        self.item_in, self.text_in, self.state_in = nn.Linear(d, s), nn.Linear(e, s), nn.Linear(d, s)
        self.kind = nn.Parameter(
            torch.randn(4, s) * 0.02
        )  # of a token: history, text, next item, the history asked about
        layer = nn.TransformerEncoderLayer(s, HEADS, 2 * s, dropout=0.0, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.text_out = nn.Sequential(nn.Linear(s, s), nn.ReLU(), nn.Linear(s, e))
        self.item_out = nn.Linear(s, d)

    def draw(self, batch: Batch) -> None:
        assert batch.windows is not None
        self.batch = batch
        self.chosen = self.near[batch.windows]

    def terms(self, model: SequenceModel) -> dict[str, Tensor]:
        rows = (self.chosen >= 0).any(1)
        near, device = self.chosen[rows], self.batch.items.device
        states = representations(model, self.batch)[rows.to(device)]
        if not len(near):
            return {"llm_cf_texts": states.sum() * 0.0}
        read = self._read(model, states, near)
        real = (near >= 0).to(device)
        told = self.texts[near.clamp(min=0).to(device)]
        alike = F.cosine_similarity(self.text_out(read[:, :-1:3]), told, dim=-1)
        wanted = last_targets(self.batch)[rows.to(device)]
        found = {"llm_cf_texts": self.config.weight * (1.0 - alike)[real].mean()}
        if self.config.context_weight and len(near) > 1:
            same, asked = wanted[:, None] == wanted, self.item_out(read[:, -1])
            term = in_batch(asked, model.item_vectors()[wanted], same, self.config.temperature)
            found["llm_cf_context"] = self.config.context_weight * term
        return found

    def _read(self, model: SequenceModel, states: Tensor, near: Tensor) -> Tensor:
        """states [B, D], near [B, k] -> states of the tokens [B, 3 k + 1, S]; what stands where an example is missing is not seen."""
        device = states.device
        different, where = near.clamp(min=0).unique(return_inverse=True)
        table = model.item_vectors()
        items, offsets = self.examples.histories(different)
        means = F.embedding_bag(items.to(device), table, offsets.to(device), mode="mean")
        nexts = table[self.examples.target[different].to(device)]
        tokens = torch.stack(
            [self.item_in(means), self.text_in(self.texts[different.to(device)]), self.item_in(nexts)], 1
        )
        tokens = (tokens + self.kind[:3])[where.to(device)].flatten(1, 2)
        asked = self.state_in(states)[:, None] + self.kind[3]
        absent = F.pad((near < 0).to(device).repeat_interleave(3, 1), (0, 1))
        n = tokens.shape[1] + 1
        causal = torch.ones(n, n, dtype=torch.bool, device=device).triu(1)
        return self.layers(torch.cat([tokens, asked], 1), mask=causal, src_key_padding_mask=absent)


class Examples:
    """The rows that texts were written about: ``user``, ``target`` [K], ``time`` [K] of the target, the histories in the data."""

    def __init__(self, written: list[Written], data: PreparedData, max_length: int) -> None:
        self.data = data
        self.user = np.array([one.user for one in written], dtype=np.int64)
        first = np.asarray(data.offsets)[self.user]
        self.end = first + np.array(
            [one.events for one in written], dtype=np.int64
        )  # behind the history, at the target
        self.start = np.maximum(first, self.end - max_length)
        self.target = torch.from_numpy(np.asarray(data.items[self.end], dtype=np.int64))
        self.time = np.asarray(data.timestamps[self.end])

    def histories(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """(items of the histories of these rows, one after another; where each begins)."""
        return bags(self.data, self.start[numbers.numpy()], self.end[numbers.numpy()])

    def nearest(self, dataset: WindowDataset, k: int) -> Tensor:
        """[W, k] the most similar rows of other users whose target came no later than the window's last event; -1 behind the last."""
        windows, titles = dataset.windows, title_vectors(self.data)
        ends = windows.start + windows.length
        now = np.asarray(self.data.timestamps[ends - 1])
        theirs = _described(self.data, titles, self.start, self.end)
        k_found, parts = min(k, len(self.user)), []
        for rows in np.array_split(np.arange(len(ends)), max(1, len(ends) * len(self.user) // COSINES_AT_ONCE)):
            alike = _described(self.data, titles, windows.start[rows], ends[rows]) @ theirs.T
            out = windows.user[rows][:, None] == self.user
            if self.data.has_timestamps:
                out |= self.time > now[rows][:, None]
            best = alike.masked_fill(torch.from_numpy(out), -torch.inf).topk(k_found, dim=1)
            parts.append(torch.where(best.values > -torch.inf, best.indices, -1))
        return F.pad(torch.cat(parts), (0, k - k_found), value=-1)


def title_vectors(data: PreparedData) -> Tensor:
    """[V, F] of length 1, row 0 zero: TF-IDF of the titles; of data without titles drawn ones, whose means are alike where items are shared."""
    titles = ["", *(title or "" for title in data.item_table().sort("item_id")["title"].to_list())]
    if any(titles):
        return F.normalize(tfidf_vectors(titles, np.array([bool(title) for title in titles]), 64), dim=1)
    drawn = torch.randn(len(titles), 64, generator=torch.Generator().manual_seed(0))
    drawn[0] = 0.0
    return F.normalize(drawn, dim=1)


def _described(data: PreparedData, titles: Tensor, start: np.ndarray, end: np.ndarray) -> Tensor:
    """[N, 2 F]: the mean title of each history and the title of its last item, each of length 1."""
    items, offsets = bags(data, start, end)
    means = F.embedding_bag(items, titles, offsets, mode="mean")
    last = titles[torch.from_numpy(np.asarray(data.items[end - 1], dtype=np.int64))]
    return torch.cat([F.normalize(means, dim=1), last], 1)


def bags(data: PreparedData, start: np.ndarray, end: np.ndarray) -> tuple[Tensor, Tensor]:
    """(items of the events start:end of each row, one row after another; where each row begins)."""
    _, place = flat_ranges(start, end)
    items = torch.from_numpy(np.asarray(data.items[place], dtype=np.int64))
    return items, torch.from_numpy(np.cumsum(end - start) - (end - start))
