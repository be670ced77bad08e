"""From the words of ``recbench write-texts`` to its file: rows, prompts, what is missing in the cache, and the lines of the file."""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from recbench.cli.foreign.asked import asked_run
from recbench.config.run import RunConfig
from recbench.core.disk import disk_errors, write_atomically
from recbench.core.errors import UserError
from recbench.core.transfer_bar import Progress
from recbench.data.download import hash_file
from recbench.data.item_text import item_texts
from recbench.data.prepared import PreparedData
from recbench.data.split import Split
from recbench.data.training import TrainingData
from recbench.data.user_text import without_unread_titles
from recbench.experiment.context import RunContext
from recbench.experiment.device import device_of
from recbench.nn.language.backbone import check_backbone
from recbench.nn.language.backbone_config import BackboneConfig
from recbench.nn.language.causal_decoder import check_decoder
from recbench.nn.language.model_content import model_content, plain_model_name
from recbench.nn.language.pretrained import read_config
from recbench.nn.text.continuation import Decoding, Writer
from recbench.nn.text.generated import json_lines, read_texts
from recbench.nn.text.text_cache import TextCache, short_hash
from recbench.nn.text.told_histories import (
    PROMPTS,
    Rows,
    check_template,
    histories,
    prompt_of,
    target_rows,
    titles_of,
    window_rows,
)

logger = logging.getLogger(__name__)

#: Share of the training rows that examples are written for where --rows says nothing, as in LLM-CF.
EXAMPLES = 0.1
#: Seconds of work that a killed command may lose.
PART_SECONDS = 20.0


@dataclass(frozen=True)
class Done:
    """Counts of texts: in the file, written now, found in the cache; of rows without a word; of titles that were cut."""

    n_texts: int
    n_written: int
    n_kept: int
    n_empty: int
    n_cut: int


def write_texts(chosen: argparse.Namespace) -> Done:
    """Write what is missing, and then the file. Raises UserError for wrong use, before anything is written."""
    template = PROMPTS[chosen.kind] if chosen.prompt is None else chosen.prompt
    check_template(template)
    decoding = Decoding(chosen.tokens, chosen.temperature, chosen.top_p, chosen.seed)
    decoding.check()
    backbone = asked_backbone(chosen.model_words)
    config = asked_run(chosen.run_words)
    data, split = asked_histories(config)
    made_for = {"fingerprint": data.fingerprint, "protocol": split.protocol_id, "split": split.split_hash}
    refuse_other_file(chosen.to.expanduser(), made_for)
    train = TrainingData.of_real_users(data, split)
    rows = asked_rows(train, chosen, config.training.max_length)
    texts = item_texts(data)
    titles = titles_of(texts, chosen.title_words)
    told = histories(train, rows, titles, chosen.history)
    prompts = [prompt_of(template, history, chosen.noun) for history in told]
    revision = model_content(backbone, lambda path: str(hash_file(path, config.cache_dir)["sha256"]))
    asked = {"prompt": template, "decode": decoding.decisive(), "noun": chosen.noun, "chat": chosen.chat}
    cache = TextCache(config.cache_dir, {"model": revision, **asked})
    inputs = [short_hash(prompt) for prompt in prompts]
    known = cache.texts()
    missing = {name: prompt for name, prompt in zip(inputs, prompts, strict=True) if name not in known}
    if missing:
        writer = Writer(backbone, texts, device_of(config.hardware))
        write_missing(writer, missing, decoding, cache, chosen)
        known = cache.texts()
    header = {
        "model": plain_model_name(backbone.backbone),
        "revision": revision,
        **asked,
        "layers": backbone.n_layers,
        "precision": backbone.precision,
        "history": chosen.history,
        "title_words": chosen.title_words,
        "rows": {"of": chosen.kind, "asked": len(rows), "seed": chosen.seed},
        "data": {"name": config.data.name, **made_for},
    }
    lines, n_empty, n_cut = lines_of(rows, [known[name] for name in inputs], data)
    put_together(chosen.to.expanduser(), header, lines, data, train.end)
    n_written = sum(name in missing for name in inputs)
    return Done(len(lines), n_written, len(inputs) - n_written, n_empty, n_cut)


def asked_backbone(words: Sequence[str]) -> BackboneConfig:
    """The language model of words such as model.backbone=NAME, with all of its layers unless they say how many. Raises UserError for a model that
    cannot be had or predicts no next token."""
    given = [word.removeprefix("model.") for word in words]
    try:
        merged = OmegaConf.merge(OmegaConf.structured(BackboneConfig), OmegaConf.from_dotlist(given))
        config: Any = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise UserError(f"model: {str(error).splitlines()[0]}") from error
    if not any(word.startswith("backbone=") for word in given):
        raise UserError(
            "name the language model that writes: model.backbone=FOLDER, as recbench language-model prints it, a hub's name, or tiny, which "
            "writes noise"
        )
    if config.backbone != "tiny" and not any(word.startswith("n_layers=") for word in given):
        config.n_layers = int(read_config(config.backbone).num_hidden_layers)
    check_backbone(config)
    if config.backbone != "tiny":
        check_decoder(config.backbone, config.n_layers)
    assert isinstance(config, BackboneConfig)
    return config


def asked_histories(config: RunConfig) -> tuple[PreparedData, Split]:
    """Data with texts, and their split. Raises UserError for data and protocols whose histories cannot be told."""
    if config.protocol.asks_clicks:
        raise UserError(
            "texts are written about histories, and protocol=clicks has rows of impressions; use another protocol"
        )
    if config.data.text.shuffle is not None:
        raise UserError(
            "data.text.shuffle gives items the texts of others; for a control set model.<auxiliary>.shuffle=1"
        )
    stage = RunContext.of(config)
    if not stage.data.has_text:
        raise UserError(f"data={config.data.name} has no item text, so there is nothing to tell; use data with titles")
    return stage.data, stage.split


def asked_rows(train: TrainingData, chosen: argparse.Namespace, max_length: int) -> Rows:
    """The rows that are written about. Raises UserError where training has none."""
    rows = window_rows(train, max_length) if chosen.kind == "rationale" else target_rows(train)
    if not len(rows):
        raise UserError(
            "no user has two training events, so no history has a next event that may be known; use other data"
        )
    n = chosen.rows
    if n is None:
        n = len(rows) if chosen.kind == "rationale" else max(1, round(EXAMPLES * len(rows)))
    if n > len(rows):
        logger.warning("--rows=%d: training has %d rows, which are all written about", n, len(rows))
    return rows.drawn(n, chosen.seed)


def refuse_other_file(path: Path, made_for: dict[str, str]) -> None:
    """Raise UserError for a file that is there and holds anything but texts of these data under this protocol."""
    if not path.exists():
        if not path.absolute().parent.is_dir():
            raise UserError(f"--to {path}: there is no folder {path.parent}; make it first")
        return
    try:
        _, header = next(json_lines(path, f"--to {path}"), (1, {}))
    except UserError:
        header = {}
    found = header.get("data")
    if not isinstance(found, dict):
        raise UserError(f"--to {path} is there and was not made by this command; name another file")
    if {key: found.get(key) for key in made_for} != made_for:
        raise UserError(
            f"--to {path} holds texts about other histories ({found.get('name')}, {found.get('protocol')}); name another file"
        )


def write_missing(
    writer: Writer, missing: dict[str, str], decoding: Decoding, cache: TextCache, chosen: argparse.Namespace
) -> None:
    """Ask for the texts of prompts by name, prompts of as many tokens together, and keep them part by part."""
    names = sorted(missing)
    ids = writer.ids([missing[name] for name in names], chosen.chat)
    longest = max(map(len, ids))
    writer.reader.check_length(
        longest + decoding.tokens, "the longest prompt and its text; lower --history, --title-words or --tokens"
    )
    # Of one length at a time and in an order of their own, so that a command that goes on makes the batches that were missing.
    order = sorted(range(len(names)), key=lambda place: (len(ids[place]), names[place]))
    ready: dict[str, str] = {}
    kept_at, done = time.monotonic(), 0
    with Progress("writing", len(names), unit="texts") as progress:
        for rows in batches(order, [len(ids[place]) for place in order], chosen.batch):
            seeds = [int(short_hash([decoding.seed, names[row]]), 16) >> 1 for row in rows]
            found = writer.continued([ids[row] for row in rows], decoding, seeds)
            ready |= {names[row]: writer.text(tokens) for row, tokens in zip(rows, found, strict=True)}
            done += len(rows)
            progress.to(done)
            if time.monotonic() - kept_at >= PART_SECONDS:
                cache.add(ready)
                ready, kept_at = {}, time.monotonic()
    if ready:
        cache.add(ready)


def batches(order: Sequence[int], length: Sequence[int], most: int) -> list[list[int]]:
    """Runs of equal length, at most so many at a time.

    >>> batches([4, 2, 0, 1], [3, 3, 3, 5], 2)
    [[4, 2], [0], [1]]
    """
    out: list[list[int]] = []
    before = None
    for row, n in zip(order, length, strict=True):
        if n != before or len(out[-1]) == most:
            out.append([])
        out[-1].append(row)
        before = n
    return out


def lines_of(rows: Rows, texts: Sequence[str], data: PreparedData) -> tuple[list[dict[str, Any]], int, int]:
    """(lines of the file, rows without a word, titles that were cut)."""
    users = data.user_ids()["user_id"].to_list()
    titles = ["", *((title or "").lower() for title in data.item_table().sort("item_id")["title"].to_list())]
    distinct = sorted(set(titles))
    lines, n_empty, n_cut = [], 0, 0
    for user, events, text in zip(rows.user.tolist(), rows.events.tolist(), texts, strict=True):
        start = int(data.offsets[user])
        read = {titles[item] for item in np.asarray(data.items[start : start + events]).tolist()}
        text, cut = without_unread_titles(text, distinct, read)
        n_cut += cut
        if not text.strip(". "):
            n_empty += 1
            continue
        lines.append({"user": users[user], "events": events, "text": text})
    return lines, n_empty, n_cut


def put_together(
    path: Path, header: dict[str, Any], lines: list[dict[str, Any]], data: PreparedData, train_end: np.ndarray
) -> None:
    """Write the file whole, once it has passed the leak check. Raises UserError where nothing was written, or the disk takes no file."""
    if not lines:
        raise UserError(f"'{header['model']}' wrote no word about any history; try another --prompt or --temperature")
    with disk_errors(path.absolute().parent, "--to"), write_atomically(path) as temporary:
        rows = (json.dumps(row, ensure_ascii=False) + "\n" for row in (header, *lines))
        temporary.write_text("".join(rows), encoding="utf-8")
        read_texts(temporary, data, train_end)
