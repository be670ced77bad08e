"""A text tower: one vector a text, the same however it is batched, with a gradient only where it is asked for."""

from __future__ import annotations

import pytest
import torch

from recbench.core.errors import UserError
from recbench.nn.language import text_tower
from recbench.nn.language.backbone_config import BackboneConfig
from recbench.nn.language.text_tower import TextTower, TowerConfig, by_length, check_tower

SIZES = BackboneConfig(tiny_hidden_size=16, tiny_n_heads=2, tiny_feedforward_size=16)
TEXTS = ["", "red soap", "blue brush for hair", "red soap", "", "acme soap 9", "hair"]


def build(texts=TEXTS, **keys):
    torch.manual_seed(2)
    config = TowerConfig(**{"tower_layers": 2, "text_tokens": 6, "text_buckets": 64, **keys})
    return TextTower(config, SIZES, len(TEXTS) - 1, texts).eval()


@pytest.mark.parametrize("pool", text_tower.POOLS)
def test_the_table_holds_what_encoding_one_item_gives(pool, monkeypatch):
    tower = build(pool=pool)
    table = tower.table()
    assert table.shape == (len(TEXTS), 16)
    with torch.no_grad():
        for item in range(1, len(TEXTS)):
            torch.testing.assert_close(tower.encode(torch.tensor([item]))[0], table[item], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(tower.encode(torch.arange(1, 7)), table[1:], atol=1e-5, rtol=1e-5)
    monkeypatch.setattr(text_tower, "tokens_at_once", lambda device: 1)
    torch.testing.assert_close(build(pool=pool).table(), table, atol=1e-5, rtol=1e-5)
    # Equal texts have one vector, and no text has none.
    assert torch.equal(table[1], table[3])
    assert not table[[0, 4]].any()
    assert table[[1, 2, 5, 6]].unique(dim=0).shape[0] == 4


@pytest.mark.parametrize("pool", text_tower.POOLS)
def test_tokens_behind_a_text_change_nothing(pool):
    narrow, wide = build(pool=pool), build(pool=pool, text_tokens=9)
    torch.testing.assert_close(narrow.table(), wide.table(), atol=1e-5, rtol=1e-5)
    cut = build(pool=pool, text_tokens=2)
    assert torch.allclose(cut.table()[1], narrow.table()[1], atol=1e-5)
    assert not torch.allclose(cut.table()[2], narrow.table()[2], atol=1e-5)


def test_the_table_is_made_again_when_a_weight_or_a_text_changes():
    tower = build()
    table = tower.table()
    assert tower.table() is table
    with torch.no_grad():
        tower.words.weight.mul_(2.0)
    assert not torch.equal(tower.table(), table)
    tower.tokens[1] = 0
    assert not tower.table()[1].any()


@pytest.mark.parametrize("trained", ["frozen", "full"])
def test_the_same_weights_loaded_again_need_no_second_reading(trained, monkeypatch):
    tower = build(tower_train=trained).eval()
    table = tower.table()
    stored = {name: value.clone() for name, value in tower.state_dict().items()}
    reads = []
    monkeypatch.setattr(tower, "read", lambda rows, read=tower.read: reads.append(len(rows)) or read(rows))
    tower.load_state_dict(stored)
    assert tower.table() is table
    assert not reads
    stored["words.weight"] *= 2.0
    tower.load_state_dict(stored)
    assert not torch.equal(tower.table(), table)
    assert reads


def test_a_fused_step_of_training_is_seen_by_the_next_ranking():
    tower = build()
    table = tower.table()
    tower.train()
    optimizer = torch.optim.AdamW(tower.parameters(), lr=0.1, fused=True)
    tower.encode(torch.tensor([1, 2])).sum().backward()
    optimizer.step()
    assert not torch.equal(tower.eval().table(), table)
    # While it trains nothing is kept.
    tower.train()
    assert tower.table() is not tower.table()


def test_a_frozen_tower_learns_nothing_and_is_read_from_its_table():
    tower = build(tower_train="frozen").train()
    assert not tower.training
    assert not any(parameter.requires_grad for parameter in tower.parameters())
    assert not tower.encode(torch.tensor([1, 2])).requires_grad
    assert torch.equal(tower.encode(torch.tensor([2, 1])), tower.table()[[2, 1]])


def test_a_frozen_tower_reads_its_texts_once_also_where_nobody_set_its_mode(monkeypatch):
    tower = build(tower_train="frozen")
    for part in tower.modules():
        part.training = True  # as a module is when it is made; a trainer need not call train()
    reads = []
    monkeypatch.setattr(tower, "read", lambda rows, read=tower.read: reads.append(len(rows)) or read(rows))
    first = tower.encode(torch.tensor([1, 2]))
    n_reads = len(reads)
    assert n_reads > 0
    assert torch.equal(tower.encode(torch.tensor([1, 2])), first)
    tower.train().encode(torch.tensor([2]))
    tower.eval().encode(torch.tensor([2]))
    assert len(reads) == n_reads


def test_a_trained_tower_gets_a_gradient_everywhere():
    for pool in text_tower.POOLS:
        tower = build(pool=pool).train()
        tower.encode(torch.tensor([1, 2, 5])).sin().sum().backward()
        lacking = [n for n, p in tower.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
        assert lacking == []


def test_a_named_encoder_sees_its_whole_text_as_transformers_has_it(with_tokenizer):
    from transformers import AutoModel, AutoTokenizer

    folder = str(with_tokenizer("bert"))
    texts = ["", "the next item", "history : the history", "item", "", "Given the item", "the"]
    tower = build(texts=texts, tower=folder, tower_layers=3, tower_train="frozen")
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        for item in (1, 2, 5):
            ids = tokenizer(texts[item], add_special_tokens=False, return_tensors="pt")["input_ids"]
            expected = model(input_ids=ids).last_hidden_state[0].mean(0)
            torch.testing.assert_close(tower.table()[item], expected, atol=1e-5, rtol=1e-5)


def test_a_named_decoder_reads_from_left_to_right(copying_model):
    from transformers import AutoModel

    folder = str(copying_model(["red", "soap", "blue", "brush", "for", "hair", "acme", "9"]))
    model = AutoModel.from_pretrained(folder).eval()
    for pool, place in (("last", -1), ("cls", 0)):
        tower = build(tower=folder, tower_layers=1, tower_train="frozen", pool=pool)
        ids = tower.tokens[2][tower.tokens[2] > 0].long() - 1
        with torch.no_grad():
            expected = model(input_ids=ids[None]).last_hidden_state[0, place]
        torch.testing.assert_close(tower.table()[2], expected, atol=1e-5, rtol=1e-5)


def test_adapters_of_a_named_tower_learn_and_its_own_weights_do_not(copying_model):
    folder = str(copying_model(["red", "soap", "blue", "brush", "for", "hair", "acme", "9"]))
    tower = build(tower=folder, tower_layers=1, tower_train="lora", tower_rank=2)
    assert tower.as_read
    learned = [name for name, parameter in tower.named_parameters() if parameter.requires_grad]
    assert learned
    assert all("lora_" in name for name in learned)
    assert not build(tower=folder, tower_layers=1, tower_train="full").as_read


def test_bad_choices_are_refused_by_name(with_tokenizer, stored_llama):
    cases = [
        ({"pool": "max"}, r"unknown model.pool 'max'"),
        ({"tower_train": "half"}, r"unknown model.tower_train 'half'"),
        ({"text_tokens": 0}, r"model.text_tokens must be at least 1"),
        ({"tower_train": "lora"}, r"model.tower=tiny has no stored weights to adapt"),
        ({"tower": str(stored_llama)}, r"item texts need the tokenizer of"),
        (
            {"tower": str(with_tokenizer("bert")), "text_tokens": 60},
            r"reads 40 tokens, fewer than model.text_tokens=60",
        ),
    ]
    for keys, message in cases:
        with pytest.raises(UserError, match=message):
            build(**keys)
    with pytest.raises(UserError, match=r"no item has a text"):
        build(texts=[""] * len(TEXTS))
    with pytest.raises(UserError, match=r"cannot read the backbone"):
        check_tower(TowerConfig(tower="nowhere/at-all"), SIZES)


def test_rows_of_like_length_are_read_together():
    parts = [part.tolist() for part in by_length(torch.tensor([5, 1, 4, 1, 0]), 8)]
    assert sorted(row for part in parts for row in part) == [0, 1, 2, 3, 4]
    assert parts == [[4, 1, 3], [2], [0]]
