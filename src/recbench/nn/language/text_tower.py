"""A text tower: the text of an item -> its vector, by a language model that may be trained.

    tokens of item i [T]  ->  states [T, H]  ->  one vector:   mean    over the tokens
                                                               cls     the state of the first one
                                                               last    that of the last one
                                                               slot    that of a learned vector behind the last one (HLLM's [ITEM])

``tiny`` reads hashed words through a small Llama without a causal mask, for a text holds no future; a named encoder sees its whole text too, a
named decoder reads it as it was trained to, from left to right. Texts that are equal are encoded once and have one vector.

Shapes: V = n_items + 1 (row 0 is the pad, without text), N items, T tokens of a text, U different texts, H width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbench.core.errors import UserError, nearest
from recbench.nn.language.backbone import Backbone, backbone_width, check_backbone
from recbench.nn.language.backbone_config import BackboneConfig
from recbench.nn.language.pretrained import read_config
from recbench.nn.text.item_text import hashed_words, tokens_of
from recbench.nn.text.length_buckets import by_length, tokens_at_once

POOLS = ("mean", "cls", "last", "slot")
TRAINS = ("frozen", "lora", "full")
INITS = ("pretrained", "random")


@dataclass
class TowerConfig:
    """Which language model reads the texts, how deep, which of it is trained, and how its states become a vector.

    The sizes of ``tiny`` are those of the backbone beside it (``tiny_hidden_size`` and so on).
    """

    tower: str = "tiny"
    tower_layers: int = 2
    tower_init: str = "pretrained"
    tower_train: str = "full"
    tower_rank: int = 8
    tower_targets: str = ""
    pool: str = "mean"
    text_prefix: str = ""
    text_tokens: int = 32
    text_buckets: int = 4096


def tower_backbone(config: TowerConfig, sizes: BackboneConfig) -> BackboneConfig:
    """The keys of the tower's own backbone. Raises UserError for choices that cannot go together."""
    for key, known in (("pool", POOLS), ("tower_train", TRAINS), ("tower_init", INITS)):
        if (value := getattr(config, key)) not in known:
            raise UserError(f"unknown model.{key} '{value}'; {nearest(value, known)}")
    for key in ("tower_layers", "text_tokens", "text_buckets", "tower_rank"):
        if getattr(config, key) < 1:
            raise UserError(f"model.{key} must be at least 1, not {getattr(config, key)}")
    lora = config.tower_train == "lora"
    if config.tower == "tiny" and lora:
        raise UserError("model.tower=tiny has no stored weights to adapt; set model.tower_train=full or frozen")
    init = "random_frozen" if config.tower_init == "random" and lora else config.tower_init
    return replace(
        BackboneConfig(),
        backbone=config.tower,
        n_layers=config.tower_layers,
        init=init,
        lora_rank=config.tower_rank if lora else 0,
        lora_alpha=2 * config.tower_rank,
        lora_targets=[name for name in config.tower_targets.split(",") if name],
        tiny_hidden_size=sizes.tiny_hidden_size,
        tiny_n_heads=sizes.tiny_n_heads,
        tiny_feedforward_size=sizes.tiny_feedforward_size,
    )


def check_tower(config: TowerConfig, sizes: BackboneConfig) -> None:
    """Raise UserError for a tower that cannot be built; reads no weights."""
    check_backbone(tower_backbone(config, sizes))


class TextTower(nn.Module):
    """See the head of this file. ``texts`` [V]; without them the tokens come with a stored state.

    Raises UserError for a tower that cannot be built, without a tokenizer, that reads fewer tokens, or if no item has a text.
    """

    tokens: Tensor

    def __init__(self, config: TowerConfig, sizes: BackboneConfig, n_items: int, texts: Sequence[str] | None) -> None:
        super().__init__()
        own = tower_backbone(config, sizes)
        self.config = config
        self.tiny = config.tower == "tiny"
        self.sees_all = self.tiny or is_encoder(config.tower)
        slots = int(config.pool == "slot")
        _check_positions(own, config.text_tokens + slots)
        self.backbone = Backbone(own, 1, keep_tokens=True)
        self.width: int = backbone_width(own)
        if self.tiny:
            self.words = nn.Embedding(config.text_buckets, self.width)
            nn.init.normal_(self.words.weight, std=0.02)
        elif config.tower_train == "full":
            self.backbone.model.get_input_embeddings().requires_grad_(True)
        if slots:
            self.slot = nn.Parameter(torch.randn(self.width) * 0.02)
        #: Whether the weights are those that the tower was read with, so that no checkpoint needs them.
        self.as_read = not self.tiny and config.tower_init == "pretrained" and config.tower_train != "full"
        if config.tower_train == "frozen":
            self.requires_grad_(False)
        self.register_buffer("tokens", torch.zeros(n_items + 1, config.text_tokens, dtype=torch.int32))
        if texts is not None:
            self._take(texts)
        self._different: tuple[object, Tensor, Tensor] | None = None
        self._table: tuple[object, Tensor, bytes] | None = None

    def _take(self, texts: Sequence[str]) -> None:
        if not any(text.strip() for text in texts):
            raise UserError("no item has a text, which a text tower reads; use data with titles")
        self.tokens.copy_(self.tokens_of([self.config.text_prefix + text if text else "" for text in texts]))

    def tokens_of(self, texts: Sequence[str], n_tokens: int | None = None) -> Tensor:
        """[N, n_tokens] int32, as the tower reads them, 0 where nothing stands; by default as many as of an item's text."""
        n_tokens = n_tokens or self.config.text_tokens
        if self.tiny:
            return hashed_words(texts, self.config.text_buckets, n_tokens)
        return tokens_of(texts, self.config.tower, n_tokens)

    @property
    def frozen(self) -> bool:
        return self.config.tower_train == "frozen"

    def train(self, mode: bool = True) -> TextTower:
        if not self.frozen:
            self._table = None  # fused optimisers change weights without raising their version
        return super().train(mode and not self.frozen)

    def texts(self) -> tuple[Tensor, Tensor]:
        """(the different token rows [U, T], of each item its row among them [V])."""
        key = (self.tokens.data_ptr(), self.tokens._version)
        if self._different is None or self._different[0] != key:
            rows, of_item = self.tokens.unique(dim=0, return_inverse=True)
            self._different = (key, rows.long(), of_item)
        return self._different[1:]

    def encode(self, items: Tensor) -> Tensor:
        """Vectors [N, H] of these items [N], with a gradient unless the tower is frozen; 0 of an item without text."""
        if self.frozen:
            return self.table()[items]
        rows, of_item = self.texts()
        wanted, where = of_item[items].unique(return_inverse=True)
        return self.read(rows[wanted])[where]

    def table(self) -> Tensor:
        """[V, H] of the whole catalogue, in blocks and without a gradient; kept until a weight changes or training goes on.

        The same weights loaded once more, as for the test and for what an answer costs, are no change.
        """
        if self._table is not None and torch.compiler.is_compiling():
            return self._table[1]  # a program holds the vectors as they are, and reads no text
        # What is frozen is read in evaluation mode whatever somebody set, as a trainer that does not call ``train``.
        was_training, moves = self.training, self.training and not self.frozen
        version = (moves, *((id(p), p._version, p.dtype) for p in self.parameters()), self.tokens._version)
        if self._table is not None and self._table[0] == version and self._table[1].device == self.tokens.device:
            return self._table[1]
        content = b"" if moves else content_of([self.tokens, *self.parameters()])
        if self._table is not None and content and self._table[2] == content:
            self._table = (version, self._table[1].to(self.tokens.device), content)
            return self._table[1]
        super().train(False)
        rows, of_item = self.texts()
        found = torch.zeros(len(rows), self.width, device=rows.device)
        with torch.no_grad():
            for chosen in by_length((rows > 0).sum(1), tokens_at_once(rows.device)):
                found[chosen] = self.read(rows[chosen])
        super().train(was_training)
        table = found[of_item]
        if not moves:
            self._table = (version, table, content)
        return table

    def read(self, rows: Tensor) -> Tensor:
        """Token rows [U, T] -> vectors [U, H] float32; 0 of an empty one."""
        length = (rows > 0).sum(1)
        ids = (rows[:, : int(length.max()) if len(rows) else 0] - 1).clamp_min(0)
        if not ids.numel():
            return torch.zeros(len(rows), self.width, device=rows.device)
        table = self.words if self.tiny else self.backbone.model.get_input_embeddings()
        vectors = F.embedding(ids, table.weight).float()
        n = length.clamp_min(1)
        if self.config.pool == "slot":
            vectors = torch.cat([vectors, vectors.new_zeros(len(ids), 1, self.width)], 1)
            place = length[:, None, None].expand(-1, 1, self.width)
            vectors = vectors.scatter(1, place, self.slot.expand(len(ids), 1, -1))
            n = length + 1
        real = torch.arange(vectors.shape[1], device=rows.device) < n[:, None]
        states = self.backbone.read(vectors, mask=self._mask(real)).float()
        return self._pooled(states, real, n) * (length > 0)[:, None]

    def _mask(self, real: Tensor) -> Tensor | None:
        """[U, T, T]: a token sees the real ones of its text; None for a decoder, which sees those before it."""
        if not self.sees_all:
            return None
        own = torch.eye(real.shape[1], dtype=torch.bool, device=real.device)
        return real[:, None].expand(-1, real.shape[1], -1) | own

    def _pooled(self, states: Tensor, real: Tensor, n: Tensor) -> Tensor:
        if self.config.pool == "cls":
            return states[:, 0]
        if self.config.pool == "mean":
            return (states * real[..., None]).sum(1) / n[:, None]
        return states[torch.arange(len(states), device=states.device), n - 1]


def is_encoder(name: str) -> bool:
    """Whether a named model was trained to see its whole text."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    return read_config(name).model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES


def _check_positions(config: BackboneConfig, n_tokens: int) -> None:
    if config.backbone == "tiny":
        return
    shape = read_config(config.backbone, config.n_layers)
    reads = getattr(shape, "max_position_embeddings", None)
    if reads and reads < n_tokens + 2 * (shape.model_type in ("roberta", "xlm-roberta", "camembert")):
        raise UserError(
            f"the tower '{config.backbone}' reads {reads} tokens, fewer than model.text_tokens={n_tokens}; lower it"
        )


def content_of(tensors: Iterable[Tensor]) -> bytes:
    """A hash of what they hold."""
    digest = hashlib.blake2b(digest_size=16)
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.digest()
