"""What the auxiliaries share that read texts which a language model wrote about histories.

Shapes: K texts, E width of their vectors, B rows of a batch, D width of what is compared.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from recbench.data.batches import Batch, WindowDataset
from recbench.models.auxiliary import TextsConfig
from recbench.nn.text.generated import Written, read_texts
from recbench.nn.text.item_text import tfidf_vectors


def texts_for(config: TextsConfig, dataset: WindowDataset) -> tuple[list[Written], Tensor]:
    """The texts that may be read in training on these windows, and their TF-IDF vectors [K, E], dealt anew where ``shuffle`` says so.

    Raises UserError for texts that fail the leak check.
    """
    windows = dataset.windows
    train_end = np.zeros(dataset.data.n_users, dtype=np.int64)
    np.maximum.at(train_end, windows.user, windows.start + windows.length + 1)
    written = read_texts(Path(config.texts).expanduser(), dataset.data, train_end)
    vectors = tfidf_vectors([one.text for one in written], np.ones(len(written), dtype=bool), config.width)
    if config.shuffle is not None:
        vectors = vectors[torch.from_numpy(np.random.default_rng(config.shuffle).permutation(len(vectors)))]
    return written, vectors


def last_targets(batch: Batch) -> Tensor:
    """[B] the item that follows each history of a training batch."""
    assert batch.targets is not None
    return batch.targets.gather(1, batch.lengths[:, None] - 1)[:, 0]


def in_batch(queries: Tensor, wanted: Tensor, alike: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of cosines of queries [B, D] and wanted vectors [B, D], the other rows' as negatives but where ``alike`` [B, B] bool says that
    they are none."""
    scores = F.normalize(queries, dim=-1) @ F.normalize(wanted, dim=-1).T / temperature
    own = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    place = torch.arange(len(scores), device=scores.device)
    return F.cross_entropy(scores.masked_fill(alike & ~own, -torch.inf), place)
