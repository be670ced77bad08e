"""Text through a language model: the mean over real tokens, whatever stands beside a text in its batch."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from recbench.core import pace
from recbench.core.errors import UserError
from recbench.data.text_config import TextConfig
from recbench.nn.text.language_model import decisive_files, encoded, model_folder

CPU = torch.device("cpu")
TEXTS = ["red soap", "", "blue brush for red hair . 9", "hair"]


def settings(folder, **keys):
    return TextConfig(encoder=str(folder), max_tokens=32, **keys)


@pytest.mark.parametrize("kind", ["bert", "t5"])
def test_a_vector_is_the_mean_state_of_the_texts_own_tokens(encoder, kind):
    import transformers as t

    folder = encoder(kind)
    found = encoded(TEXTS, settings(folder), CPU)
    model = (t.BertModel if kind == "bert" else t.T5EncoderModel).from_pretrained(folder).eval()
    tokenizer = t.AutoTokenizer.from_pretrained(folder)
    for text, vector in zip(TEXTS, found, strict=True):
        if not text:
            assert not vector.any()
            continue
        with torch.no_grad():
            alone = model(input_ids=torch.tensor([tokenizer(text)["input_ids"]])).last_hidden_state[0]
        np.testing.assert_allclose(vector, alone.mean(0).numpy(), atol=1e-5)


def test_batches_and_cuts_do_what_they_say(encoder):
    folder = encoder("bert")
    together, alone = encoded(TEXTS, settings(folder), CPU), encoded(TEXTS, settings(folder, batch_size=1), CPU)
    np.testing.assert_allclose(together, alone, atol=1e-5)
    short = encoded(TEXTS, replace(settings(folder), max_tokens=2), CPU)
    np.testing.assert_allclose(short[0], together[0], atol=1e-5)
    np.testing.assert_allclose(short[2], encoded(["blue brush"], settings(folder), CPU)[0], atol=1e-5)


def test_a_long_read_says_how_far_it_is(encoder, monkeypatch, caplog):
    seconds = itertools.count(0, 40)  # each text takes longer than the half minute between two words
    monkeypatch.setattr(pace.time, "monotonic", lambda: next(seconds))
    caplog.set_level("INFO", "recbench")
    config = replace(settings(encoder("bert"), batch_size=1), max_tokens=4)
    encoded([*TEXTS, "red"], config, CPU)
    words = [record.message for record in caplog.records if "encoded" in record.message]
    assert words[0].startswith("2 of 4 different texts encoded, about ")
    assert words[0].endswith(" left")
    assert not any(word.startswith("4 of 4") for word in words)  # told by what follows


def test_bfloat16_is_near_float32(encoder):
    exact, rough = (encoded(TEXTS, settings(encoder("t5"), precision=p), CPU) for p in ("float32", "bfloat16"))
    assert not np.array_equal(exact, rough)
    np.testing.assert_allclose(rough, exact, atol=0.1)


def test_what_cannot_be_had_is_said_in_one_line(encoder, tmp_path):
    with pytest.raises(
        UserError, match=r"cannot get the text encoder 'someone/absent'.*without a network, put"
    ) as caught:
        model_folder("someone/absent")
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"holds no config.json"):
        model_folder(str(tmp_path))
    (tmp_path / "config.json").write_bytes((encoder("bert") / "config.json").read_bytes())
    with pytest.raises(UserError, match="cannot read the text encoder"):
        encoded(TEXTS, settings(tmp_path), CPU)
    with pytest.raises(UserError, match=r"reads 40 positions; lower data.text.max_tokens=41"):
        encoded(TEXTS, replace(settings(encoder("bert")), max_tokens=41), CPU)


def test_weights_and_tokenizer_decide_and_a_readme_does_not(encoder):
    names = {path.name for path in decisive_files(encoder("bert"))}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
    assert not any(name.endswith(".md") for name in names)
