"""A pretrained language model writes, two layers of it, and what it writes is read."""

from __future__ import annotations

import json

import pytest

from recbench.nn.text.generated import read_texts
from tests.fixtures.language_models import pretrained_folder


@pytest.mark.llm
def test_two_layers_of_the_pretrained_model_write(cli, tiny, tmp_path, tiny_data, tiny_split):
    data = [word for word in tiny if word.startswith("data")]
    own = [
        f"model.backbone={pretrained_folder()}",
        "model.n_layers=2",
        f"cache_dir={tmp_path / 'cache'}",
        "--to=t.jsonl",
    ]
    asked = ["write-texts", "rationale", *data, *own, "--rows=6", "--tokens=5", "--chat"]
    done = cli(*asked, cwd=tmp_path)
    assert done.status == 0, done.err
    header, *rows = (json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines())
    assert (header["layers"], header["chat"]) == (2, True)
    assert "/" not in header["model"]
    assert len(read_texts(tmp_path / "t.jsonl", tiny_data, tiny_split.train_end)) == len(rows) > 3
    again = cli(*asked, cwd=tmp_path)
    assert "(0 written now, 6 found in the cache" in again.out
