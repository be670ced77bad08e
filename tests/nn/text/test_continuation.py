"""What a language model writes behind prompts: the same with kept keys as without, whoever is beside it, and as our options say."""

from __future__ import annotations

import json

import pytest
import torch

from recbench.core.errors import UserError
from recbench.nn.language.backbone_config import BackboneConfig
from recbench.nn.text.continuation import Decoding, Writer
from tests.fixtures.language_models import words_in

TINY = {"tiny_hidden_size": 16, "tiny_n_heads": 2, "tiny_feedforward_size": 16, "n_layers": 2}
TITLES = ["red mug of clay", "blue jar", "a green hose for gardens", "small lamp"]
PROMPTS = ["who likes a red mug", "who likes a blue jar", "who likes a green hose"]


@pytest.fixture(scope="module")
def writer():
    return Writer(BackboneConfig(**TINY), TITLES)


def test_kept_keys_give_what_reading_everything_anew_gives(writer):
    ids, known = writer.ids(PROMPTS), torch.tensor(sorted(writer._words))
    found = writer.continued(ids, Decoding(tokens=6))
    for row, prompt in enumerate(ids):
        said = list(prompt)
        for _ in range(6):  # the likeliest of the words it knows, all read again for each
            states = writer.reader.backbone.read(writer.reader.words.inputs()[torch.tensor([said])])[:, -1]
            said.append(int(known[writer.reader.words.logits(states)[0, known].argmax()]))
        assert found[row] == said[len(prompt) :]
    assert set(writer.text(found[0]).split()) <= {word for title in TITLES for word in title.split()}


def test_a_text_does_not_depend_on_its_company_nor_on_the_process(writer):
    ids, drawing = writer.ids(PROMPTS), Decoding(tokens=8, temperature=1.5)
    together = writer.continued(ids, drawing, [5, 6, 7])
    again = Writer(BackboneConfig(**TINY), TITLES).continued([ids[2], ids[0]], drawing, [7, 5])
    assert again == [together[2], together[0]]
    assert writer.continued(ids, drawing, [8, 6, 7])[0] != together[0]
    with pytest.raises(ValueError, match="same number of tokens"):
        writer.continued([[1, 2], [1]], drawing)


def test_words_are_drawn_as_often_as_they_are_likely_and_from_the_likeliest_alone(writer):
    n, ids = 400, writer.ids(PROMPTS[:1])
    states = writer.reader.backbone.read(writer.reader.words.inputs()[torch.tensor(ids)])[:, -1]
    known = torch.tensor(sorted(writer._words))
    chance = (writer.reader.words.logits(states)[0, known].double() / 2.0).softmax(0)
    drawn = writer.continued(ids * n, Decoding(tokens=1, temperature=2.0))
    seen = torch.tensor([[row[0] == word for word in known.tolist()] for row in drawn]).double().mean(0)
    assert (seen - chance).abs().max() < 4 * (chance * (1 - chance) / n).max().sqrt()
    assert len({row[0] for row in drawn}) > 3
    first = known[chance.argmax()].item()
    narrow = Decoding(tokens=1, temperature=2.0, top_p=0.9 * float(chance.max()))
    assert {row[0] for row in writer.continued(ids * 20, narrow)} == {first}


def test_a_stored_model_stops_at_its_end_and_its_own_decode_settings_are_not_read(copying_model, tmp_path):
    prompts = ["mug mug mug jar", "jar jar jar mug"]
    folder = copying_model(words_in([*prompts, "lamp"]))
    config = BackboneConfig(backbone=str(folder), n_layers=1)
    plain = Writer(config)
    assert plain.text(plain.continued(plain.ids(prompts), Decoding(tokens=3))[0]) == "mug mug mug"
    with pytest.raises(UserError, match="has no chat template"):
        plain.ids(prompts, chat=True)
    (folder / "generation_config.json").write_text(json.dumps({"do_sample": True, "temperature": 9.0, "max_length": 2}))
    try:
        other = Writer(config)
        found = other.continued(other.ids(prompts), Decoding(tokens=3))
        assert [other.text(row) for row in found] == ["mug mug mug", "jar jar jar"]
        other.reader.tokenizer.eos_token = "jar"
        assert other.continued(other.ids(prompts), Decoding(tokens=3)) == [found[0], []]
        other.reader.tokenizer.chat_template = "{% for m in messages %}lamp {{ m.content }}{% endfor %}"
        assert other.ids(prompts[:1], chat=True) == other.ids([f"lamp {prompts[0]}"])
    finally:
        (folder / "generation_config.json").unlink()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"tokens": 0}, "--tokens must be at least 1"),
        ({"temperature": -1.0}, "--temperature must be at least 0"),
        ({"temperature": float("nan")}, "--temperature must be at least 0"),
        ({"top_p": 0.0}, "--top-p must be above 0"),
    ],
)
def test_wrong_settings_are_refused_by_name(keys, message):
    with pytest.raises(UserError, match=message):
        Decoding(**keys).check()


def test_a_model_that_breaks_down_is_refused():
    broken = Writer(BackboneConfig(**TINY), TITLES)
    with torch.no_grad():
        broken.reader.words.table.weight[:] = torch.nan
    with pytest.raises(UserError, match=r"NaN or infinity; set model.precision=float32"):
        broken.continued([[1, 2]], Decoding(tokens=1))
