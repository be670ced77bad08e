"""A constant prompt around the items of every history: [prefix][items][suffix], read at the last position of the suffix.

The prompt is the same for all users, so the prefix is computed once a batch, and only its keys and values are read by the rows. The suffix
follows the items and differs from history to history. To train at every position of a history in one pass, each position t gets
a copy of the suffix of its own, which sees the prefix, the items up to t and itself, and stands where a history that ends at t would
have it:

    [items 0 .. L-1][suffix of 0][suffix of 1] ... [suffix of L-1]

That costs (1 + S) positions for each item in training, and S positions a history in evaluation.

Shapes: B rows, L items, H width, P and S positions of prefix and suffix.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from recbench.core.errors import UserError, first_line
from recbench.nn.language.pretrained import read_config, read_tokenizer

if TYPE_CHECKING:
    from recbench.nn.language.backbone_config import BackboneConfig


class Prompt(nn.Module):
    """What stands before and behind the items."""

    #: P + S.
    length: int
    prefix: Tensor
    suffix: Tensor

    def ends(self, table: nn.Embedding) -> tuple[Tensor, Tensor]:
        """(prefix [P, H], suffix [S, H]); ``table`` holds the backbone's token vectors."""
        raise NotImplementedError


class TextPrompt(Prompt):
    """Text, as the vectors that the backbone's own token table has for it."""

    def __init__(self, prefix: list[int], suffix: list[int]) -> None:
        super().__init__()
        self.length = len(prefix) + len(suffix)
        # Not stored: they follow from the config and the tokenizer.
        self.register_buffer("prefix", torch.tensor(prefix, dtype=torch.int64), persistent=False)
        self.register_buffer("suffix", torch.tensor(suffix, dtype=torch.int64), persistent=False)

    def ends(self, table: nn.Embedding) -> tuple[Tensor, Tensor]:
        return table(self.prefix), table(self.suffix)


class LearnedPrompt(Prompt):
    """Vectors that are trained with the model [Lester et al., EMNLP 2021]; of the same cost as a text of that length."""

    def __init__(self, n_prefix: int, n_suffix: int, width: int) -> None:
        super().__init__()
        self.length = n_prefix + n_suffix
        for name, n in (("prefix", n_prefix), ("suffix", n_suffix)):
            if n:
                self.register_parameter(name, nn.Parameter(torch.randn(n, width) * 0.02))
            else:
                self.register_buffer(name, torch.empty(0, width), persistent=False)

    def ends(self, table: nn.Embedding) -> tuple[Tensor, Tensor]:
        return self.prefix, self.suffix


def check_prompt(config: BackboneConfig) -> None:
    """Raise UserError for prompt keys that make no sense together; reads nothing."""
    if config.prompt == "learned":
        lengths = config.prompt_lengths
        if len(lengths) != 2 or min(lengths) < 0 or not sum(lengths):
            raise UserError(
                f"model.prompt_lengths must be two numbers, before and behind the items, of which one is above 0, not {lengths}"
            )
    if config.prompt == "text":
        if config.backbone == "tiny":
            raise UserError(
                "the backbone 'tiny' reads no text; set model.prompt=learned, or name a backbone with a tokenizer"
            )
        if not config.prompt_prefix + config.prompt_suffix:
            raise UserError("model.prompt_prefix and model.prompt_suffix are both empty; set model.prompt=none instead")


def build_prompt(config: BackboneConfig, width: int) -> Prompt | None:
    """The prompt of a config. Raises UserError if it is a text and the backbone has no tokenizer."""
    if config.prompt == "learned":
        n_prefix, n_suffix = config.prompt_lengths
        return LearnedPrompt(n_prefix, n_suffix, width)
    if config.prompt == "text":
        return TextPrompt(*token_ids(config))
    return None


def token_ids(config: BackboneConfig) -> tuple[list[int], list[int]]:
    """Token ids of the prompt's two texts, without special tokens. Raises UserError if the backbone's tokenizer cannot be had."""
    advice = (
        f"model.prompt=text needs the tokenizer of '{config.backbone}': put its files (tokenizer.json, or what that model uses) beside "
        "config.json, or set model.prompt=learned or none"
    )
    try:
        tokenizer = read_tokenizer(config.backbone)
    except (OSError, ValueError, ImportError) as error:
        raise UserError(f"{advice} ({first_line(error)})") from error
    # Without files, some families make a tokenizer of nothing but special tokens.
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise UserError(advice)
    texts = (config.prompt_prefix, config.prompt_suffix)
    prefix, suffix = (tokenizer(text, add_special_tokens=False)["input_ids"] if text else [] for text in texts)
    rows = read_config(config.backbone).vocab_size
    if max([*prefix, *suffix], default=rows) >= rows:
        raise UserError(
            f"the tokenizer of '{config.backbone}' does not fit its {rows} token vectors or reads the prompt as nothing"
        )
    return prefix, suffix


def masked_positions(n_prefix: int, n_items: int, n_suffix: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Who sees whom, and who stands where, with a suffix at every item; N = P + L + L S.

    Returns (mask [N, N] bool, True where a row sees a column; positions [N] int64). The first P + L rows are plainly causal.
    """
    item = torch.arange(n_items, device=device)
    trunk = torch.arange(n_prefix + n_items, device=device)
    copy = item.repeat_interleave(n_suffix)  # which item a suffix position belongs to
    step = torch.arange(n_suffix, device=device).repeat(n_items)
    positions = torch.cat([trunk, n_prefix + copy + 1 + step])
    last_seen = torch.cat([trunk, n_prefix + copy])  # of the prefix and the items
    sees_trunk = trunk <= last_seen[:, None]
    sees_suffix = (copy[:, None] == copy) & (step <= step[:, None])
    sees_suffix = torch.cat([sees_suffix.new_zeros(len(trunk), len(copy)), sees_suffix])
    return torch.cat([sees_trunk, sees_suffix], 1), positions


def sees_before(n_before: int, n: int, device: torch.device) -> Tensor:
    """[n, n_before + n] bool: each of n positions sees all that stand before them, itself, and the ones between."""
    return torch.ones(n, n_before + n, dtype=torch.bool, device=device).tril(n_before)


def placed(vectors: Tensor, lengths: Tensor, suffix: Tensor) -> Tensor:
    """vectors [B, L, H] with the suffix [S, H] put right behind each row's last item -> [B, L + S, H]; what follows it is never read."""
    rows, n_suffix = vectors.shape[0], len(suffix)
    body = torch.cat([vectors, vectors.new_zeros(rows, n_suffix, vectors.shape[2])], 1)
    where = lengths[:, None] + torch.arange(n_suffix, device=vectors.device)
    return body.scatter(1, where[..., None].expand(-1, -1, vectors.shape[2]), suffix.expand(rows, -1, -1))
