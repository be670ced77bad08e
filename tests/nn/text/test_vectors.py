"""The vectors that models get: the pad's row, lengths, and the cache that knows what decides them."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from recbench.core.errors import UserError
from recbench.data.text_config import TextConfig
from recbench.nn.text import vectors as module
from recbench.nn.text.vectors import text_key, text_vectors

CPU = torch.device("cpu")


def test_the_pad_and_items_without_text_are_zero_and_others_have_length_one(holey, tmp_path):
    found = text_vectors(holey, TextConfig(), tmp_path, CPU)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.norm(dim=1), torch.tensor([0.0, 1, 1, 0, 1]))


def test_lengths_stay_where_they_are_not_normalised(holey, tmp_path):
    np.savez(tmp_path / "v.npz", item=np.array(["a", "b"]), vector=np.array([[3.0, 4.0], [1.0, 0.0]]))
    given = TextConfig(encoder="file", path=str(tmp_path / "v.npz"), normalise=False)
    assert text_vectors(holey, given, tmp_path, CPU).tolist() == [[0, 0], [3, 4], [1, 0], [0, 0], [0, 0]]


def test_missing_text_is_said(holey, tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="recbench"):
        text_vectors(holey, TextConfig(), tmp_path, CPU)
    assert (
        "4 items, 1 without any text (2 without title, 3 without brand, 2 without categories, 2 without price)"
        in caplog.text
    )


def test_vectors_are_made_once_for_one_content(holey, tmp_path, encoder, monkeypatch):
    calls = []
    monkeypatch.setattr(module, "encoded", lambda texts, config, device: calls.append(texts) or np.eye(4)[: len(texts)])
    here = TextConfig(encoder=str(encoder("bert")))
    moved = tmp_path / "elsewhere"
    shutil.copytree(encoder("bert"), moved)
    first = text_vectors(holey, here, tmp_path, CPU)
    assert torch.equal(text_vectors(holey, replace(here, encoder=str(moved), batch_size=3), tmp_path, CPU), first)
    assert len(calls) == 1
    text_vectors(holey, replace(here, template="{title}"), tmp_path, CPU)
    text_vectors(holey, replace(here, max_tokens=9), tmp_path, CPU)
    assert len(calls) == 3
    weights = moved / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    text_vectors(holey, replace(here, encoder=str(moved)), tmp_path, CPU)
    assert len(calls) == 4


def test_the_key_holds_what_decides_and_nothing_else(tmp_path, encoder):
    base = TextConfig()
    keys = [
        text_key(c, tmp_path)
        for c in (base, replace(base, width=9), replace(base, template="{title}"), replace(base, normalise=False))
    ]
    assert len({str(key) for key in keys}) == 4
    # What other encoders read changes nothing here.
    assert text_key(replace(base, max_tokens=5, precision="bfloat16", batch_size=1), tmp_path) == keys[0]
    folder = TextConfig(encoder=str(encoder("t5")))
    assert str(encoder("t5")) not in str(text_key(folder, tmp_path))
    assert text_key(replace(folder, precision="bfloat16"), tmp_path) != text_key(folder, tmp_path)
    with pytest.raises(UserError, match="is not there"):
        text_key(TextConfig(encoder="file", path="absent.npz"), tmp_path)
