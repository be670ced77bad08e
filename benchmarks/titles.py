"""Item titles through a sentence encoder, against the usual loops.

``python -m benchmarks.titles --encoder FOLDER --data "data=amazon data.category=Beauty data.raw_dir=FOLDER"``

Three loops over 64 texts at once, which encode each text as often as it comes: in the order of the file, padded to the longest of
the 64; the same padded to 128 tokens; and sorted by their characters, padded to the longest (what recbench did before). Ours encodes
each different text once, those of as many tokens together. All have the same model, tokenizer and mean over tokens, and the vectors
must agree. The floor is what the products of the real tokens with the layers' weights take, at the speed of one such product measured
beside them.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

import recbench
from recbench.data.text_config import TextConfig
from recbench.nn.text.language_model import encoded

AT_ONCE, MOST = 64, 128


@torch.no_grad()
def loop(folder: Path, texts: Sequence[str], padding: str | bool, by_characters: bool) -> np.ndarray:
    """[N, D], as encoders are used where nobody looked at the time."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    order = sorted(range(len(texts)), key=lambda i: len(texts[i])) if by_characters else list(range(len(texts)))
    out = np.zeros((len(texts), model.config.hidden_size), dtype=np.float32)
    for first in range(0, len(order), AT_ONCE):
        chosen = order[first : first + AT_ONCE]
        batch = tokenizer(
            [texts[i] for i in chosen], padding=padding, truncation=True, max_length=MOST, return_tensors="pt"
        )
        real = batch["attention_mask"][..., None]
        states = model(**batch).last_hidden_state
        out[chosen] = ((states * real).sum(1) / real.sum(1)).numpy()
    return out


def floor(folder: Path, texts: Sequence[str]) -> float:
    """CPU seconds."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    tokens = sum(len(ids) for ids in tokenizer(list(texts), truncation=True, max_length=MOST)["input_ids"])
    weights = [part.weight for part in model.encoder.modules() if isinstance(part, torch.nn.Linear)]
    widest = max(weights, key=torch.numel).detach()
    x = torch.randn(1024, widest.shape[1])
    started, times = time.process_time(), 200
    for _ in range(times):
        x @ widest.T
    a_value = (time.process_time() - started) / (times * len(x) * widest.numel())
    return a_value * tokens * sum(weight.numel() for weight in weights)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", type=Path, required=True, help="a folder with a sentence encoder")
    parser.add_argument("--data", required=True, help="words of a data set with titles")
    parser.add_argument("--texts", type=int, default=2_000, help="as many titles, drawn; 0: all")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    logging.disable(logging.INFO)
    torch.set_num_threads(1)
    titles = [title for title in recbench.load_data(given.data).items["title"].to_list() if title]
    if given.texts:
        titles = [str(title) for title in np.random.default_rng(1).choice(titles, given.texts, replace=False)]
    config = TextConfig(encoder=str(given.encoder), max_tokens=MOST, batch_size=AT_ONCE)
    ways: dict[str, Callable[[], np.ndarray]] = {
        "ours": lambda: encoded(titles, config, torch.device("cpu")),
        "in the order of the file": partial(loop, given.encoder, titles, True, False),
        "the same, padded to 128 tokens": partial(loop, given.encoder, titles, "max_length", False),
        "sorted by characters": partial(loop, given.encoder, titles, True, True),
    }
    spent: dict[str, list[float]] = {name: [] for name in [*ways, "floor"]}
    vectors = {}
    for _ in range(given.rounds):
        for name, way in ways.items():
            started = time.process_time()
            vectors[name] = way()
            spent[name].append(time.process_time() - started)
        spent["floor"].append(floor(given.encoder, titles))
    print(
        f"{len(titles):,} titles, {len(set(titles)):,} different, one thread, medians of {given.rounds} rounds in turn"
    )
    for name, seconds in spent.items():
        ratio = np.median(np.array(seconds) / np.array(spent["ours"]))
        apart = (
            f", vectors apart by at most {np.abs(vectors[name] - vectors['ours']).max():.1e}" if name in vectors else ""
        )
        print(f"{name}: {np.median(seconds):.1f} CPU s, {ratio:.2f}x{apart}")


if __name__ == "__main__":
    main()
