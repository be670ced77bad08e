"""What is particular to LLMGR: a graph run inside a language model, two stages, and the control without one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from recbench.core.errors import UserError
from recbench.data.batches import WindowDataset, training_windows
from recbench.data.item_text import item_texts
from recbench.data.training import TrainingData
from recbench.experiment.run import run
from recbench.models import weights
from recbench.models.base import ModelContext
from recbench.models.counting.popularity import Popularity, PopularityConfig
from recbench.models.language.llmgr import LLMGR, LLMGRConfig
from recbench.models.language.stored_config import config_of, packed
from recbench.models.sequential.sasrec import SASRec, SASRecConfig

MAX_LENGTH = 20
TINY = {"tiny_hidden_size": 16, "tiny_n_heads": 2, "tiny_feedforward_size": 16, "n_layers": 2, "text_buckets": 128}
CONTROL = {"language": "frozen_text", "text_width": 6}


@pytest.fixture(scope="module")
def context(tiny_data, tiny_split):
    """Any model with states and item vectors may be the graph run; here a small SASRec."""
    train = TrainingData.of(tiny_data, tiny_split)
    counts = torch.from_numpy(train.item_counts())
    bare = ModelContext(
        tiny_data.n_items, tiny_data.n_users, MAX_LENGTH, counts, item_texts=item_texts(tiny_data), train=train
    )
    torch.manual_seed(5)
    graph = SASRec(SASRecConfig(hidden_size=12, n_heads=2, feedforward_size=8), bare).eval()
    return replace(bare, dependencies={"graph": graph.requires_grad_(False)})


@pytest.fixture(scope="module")
def batch(tiny_data, tiny_split):
    windows = training_windows(tiny_split.train_start, tiny_split.train_end, MAX_LENGTH)
    return WindowDataset(tiny_data, windows)[torch.arange(12).numpy()]


def build(context, **keys):
    torch.manual_seed(0)
    return LLMGR(LLMGRConfig(**{**TINY, **keys}), context).eval()


def scores(model, batch):
    with torch.no_grad():
        return model.score(replace(batch, targets=None))


def moved(model, batch, n=2):
    """Names of what ``n`` training steps changed."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=0.01, weight_decay=0.1, fused=True
    )
    for _ in range(n):
        optimizer.zero_grad()
        model.training_loss(batch).backward()
        optimizer.step()
    model.eval()
    return {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}


def groups_of(names):
    """The parts of the model that names belong to; what counts steps is none."""
    return {name.split(".")[1] if name.startswith("language.") else name.split(".")[0] for name in names} - {
        "targets_seen"
    }


@pytest.mark.parametrize("train_graph", [False, True])
@pytest.mark.parametrize("head", ["free", "tied"])
def test_each_stage_trains_only_what_it_may(context, batch, train_graph, head):
    model = build(context, train_graph=train_graph, head=head)
    assert model.aligning
    aligned = groups_of(moved(model, batch))
    assert aligned == {"project", "backbone", "part_embedding", "word_embedding"}
    model.targets_seen.copy_(model.targets_of_alignment)
    assert not model.aligning
    free = {"head"} if head == "free" else set()
    assert groups_of(moved(model, batch)) == aligned | free | ({"graph"} if train_graph else set())


def test_of_a_pretrained_backbone_stage_one_trains_only_adapters(context, batch, stored_words):
    model = build(context, backbone=str(stored_words), lora_rank=2)
    changed = moved(model, batch)
    inside = {name for name in changed if name.startswith("language.backbone.")}
    assert groups_of(changed) == {"project", "backbone", "part_embedding"}
    assert inside
    assert all("lora_" in name for name in inside)


@pytest.fixture(scope="module")
def stored_words(stored_llama, tmp_path_factory, tiny_data):
    """The small Llama in a folder with a tokenizer of 30 tokens, most of them letters."""
    import shutil

    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("words") / "llama"
    shutil.copytree(stored_llama, folder)
    known = {"[UNK]": 0, **{letter: k for k, letter in enumerate("abcdefghijklmnoprstuvz., ", start=1)}}
    tokenizer = Tokenizer(models.WordLevel(known, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]").save_pretrained(folder)
    return folder


def test_stage_one_lasts_for_its_epochs_of_targets(context, batch):
    model = build(context, alignment_epochs=2).train()
    epoch = training_windows(context.train.start, context.train.end, MAX_LENGTH).n_targets
    assert int(model.targets_of_alignment) == 2 * epoch
    steps = 0
    while model.aligning and steps < 1000:
        model.targets_seen += batch.lengths.sum()
        steps += 1
    assert steps == -(-2 * epoch // int(batch.lengths.sum()))
    assert not build(context, alignment_epochs=0).aligning
    assert not build(context, **CONTROL).aligning


def test_the_stage_is_part_of_the_state(context, batch):
    model = build(context).train()
    model.training_loss(batch)
    seen = int(model.targets_seen)
    assert seen == int(batch.lengths.sum())
    resumed = build(context)
    resumed.load_state_dict(model.state_dict())
    assert int(resumed.targets_seen) == seen
    model.eval().training_loss(batch)
    assert int(model.targets_seen) == seen, "only training counts"


def test_stage_one_asks_which_item_a_description_belongs_to(context, batch):
    model = build(context)
    states, items = model.language.descriptions(batch.items)
    assert sorted(items.tolist()) == sorted(set(batch.items[batch.mask].tolist()))
    logits = states @ model.project(context.dependencies["graph"].item_vectors())[1:].T
    expected = torch.nn.functional.cross_entropy(logits, items - 1)
    torch.testing.assert_close(model.alignment_loss(batch.items), expected)
    # Texts without a word say nothing of their items.
    model.language.words.zero_()
    loss = model.alignment_loss(batch.items)
    loss.backward()
    assert loss == 0.0


def test_stage_one_learns_which_item_a_description_belongs_to(context, batch):
    model = build(context, dropout=0.0, alignment_epochs=50)
    before = model.alignment_loss(batch.items).item()
    moved(model, batch, n=50)
    assert model.alignment_loss(batch.items).item() < 0.85 * before  # which is that of guessing


@pytest.mark.parametrize(
    "keys", [{}, {"train_graph": True}, {"head": "tied"}, CONTROL, {**CONTROL, "head": "tied"}], ids=str
)
def test_every_trainable_parameter_gets_a_gradient_in_stage_two(context, batch, keys):
    model = build(context, alignment_epochs=0, **keys).train()
    model.training_loss(batch).backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())] == []


@pytest.mark.parametrize("keys", [{}, CONTROL], ids=["llm", "frozen_text"])
def test_more_room_for_pads_changes_no_state(context, batch, keys):
    model = build(context, **keys)
    short = replace(batch, items=batch.items[:, :15], timestamps=batch.timestamps[:, :15], behaviours=None)
    short = replace(short, lengths=batch.lengths.clamp_max(15), targets=None)
    wider = {name: torch.nn.functional.pad(getattr(short, name), (0, 5)) for name in ("items", "timestamps")}
    with torch.no_grad():
        for wide, narrow in zip(model.hidden_states(replace(short, **wider)), model.hidden_states(short), strict=True):
            torch.testing.assert_close(wide[:, :15], narrow, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("keys", [{}, CONTROL], ids=["llm", "frozen_text"])
def test_graph_and_text_both_enter_the_score(context, batch, keys):
    model = build(context, **keys)
    before = scores(model, batch)
    table = model.language.words if keys == {} else model.language.text_table
    kept = table.clone()
    table[1:] = table[1:].flip(0)
    assert not torch.allclose(scores(model, batch), before)
    table.copy_(kept)
    with torch.no_grad():
        model.graph.item_embedding.weight[1:] = model.graph.item_embedding.weight[1:].flip(0).clone()
    assert not torch.allclose(scores(model, batch), before)


def test_the_control_has_no_language_model(context):
    control = build(context, **CONTROL)
    assert not any("backbone" in name or "word" in name for name in control.state_dict())
    assert control.head.weight.shape == build(context).head.weight.shape


def test_the_control_reads_a_frozen_encoder_where_one_is_named(context, batch, stored_words):
    model = build(context, **CONTROL, backbone=str(stored_words))
    assert model.language.text_table.shape == (context.n_items + 1, 16)
    assert model.language.text_table[1:].abs().sum(1).all()
    assert not model.language.text_table[0].any()
    assert "text_table" not in groups_of(moved(model, batch))


@pytest.mark.parametrize("keys", [{}, {"train_graph": True}, CONTROL], ids=str)
def test_a_stored_run_needs_neither_graph_run_nor_texts(context, batch, tmp_path, keys):
    model = build(context, alignment_epochs=0, **keys)
    moved(model, batch)
    weights.save_weights(model, tmp_path / "weights.safetensors")
    torch.manual_seed(9)
    fresh = LLMGR(model.config, ModelContext(context.n_items, context.n_users, MAX_LENGTH))
    weights.load_weights(fresh, tmp_path / "weights.safetensors")
    assert torch.equal(scores(fresh.eval(), batch), scores(model, batch))
    assert fresh.stored_state().keys() == model.stored_state().keys()


def test_of_a_frozen_backbone_only_what_was_learned_is_stored(context, batch, stored_words, tmp_path):
    model = build(context, backbone=str(stored_words), lora_rank=2, alignment_epochs=0)
    moved(model, batch)
    inside = [name for name in model.stored_state() if name.startswith("language.backbone.")]
    assert inside
    assert all("lora_" in name for name in inside)
    weights.save_weights(model, tmp_path / "weights.safetensors")
    fresh = LLMGR(model.config, ModelContext(context.n_items, context.n_users, MAX_LENGTH))
    weights.load_weights(fresh, tmp_path / "weights.safetensors")
    torch.testing.assert_close(scores(fresh.eval(), batch), scores(model, batch))


def test_a_frozen_graph_run_stays_without_dropout(context):
    model = build(context).train()
    assert not model.graph.training
    assert build(context, train_graph=True).train().graph.training
    assert model.graph is not context.dependencies["graph"]


def test_a_config_survives_being_stored():
    config = SASRecConfig(hidden_size=24, block="ligr", dropout=0.125)
    assert config_of(packed(config)) == config


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"language": "lm"}, r"unknown model\.language 'lm'.*llm"),
        ({"head": "fre"}, r"unknown model\.head 'fre'; .*free"),
        ({"alignment_epochs": -1}, r"model\.alignment_epochs must be at least 0"),
        ({"text_words": 0}, r"model\.text_words must be at least 1"),
        ({"graph": {"model": "popularity"}}, r"model\.graph\.model=popularity has no states"),
        ({"backbone": "no/such/model"}, r"cannot read the backbone 'no/such/model'"),
    ],
)
def test_wrong_keys_are_refused_before_a_graph_run_is_trained(keys, message):
    with pytest.raises(UserError, match=message):
        LLMGR.dependencies(LLMGRConfig(**{**TINY, **keys}))


def test_a_graph_run_that_cannot_lend_is_refused(context):
    poor = replace(context, dependencies={"graph": Popularity(PopularityConfig(), context)})
    with pytest.raises(UserError, match=r"model\.graph\.model=popularity has no states.*gcsan"):
        build(poor)
    nested = replace(context, dependencies={"graph": build(context)})
    with pytest.raises(UserError, match=r"model\.graph\.model=llmgr itself needs another run"):
        build(nested)


def test_items_without_any_text_are_refused(context):
    silent = replace(context, item_texts=["", *[" "] * context.n_items])
    for keys in ({}, CONTROL):
        with pytest.raises(UserError, match=r"no item has a text"):
            build(silent, **keys)


@pytest.mark.parametrize("keys", [[], ["model.language=frozen_text"]], ids=["llm", "frozen_text"])
def test_two_stages_end_to_end(run_config, tmp_path, keys):
    """A run trains its graph run first, aligns for an epoch, then learns the task, and beats popularity."""
    words = [
        "distillation=none",
        "training.lr=5e-3",
        "training.batch_size=256",
        "training.max_epochs=6",
        "model.graph.model=sasrec",
    ]
    words += [
        "model.graph.hidden_size=16",
        "model.graph.feedforward_size=16",
        "model.graph.dropout=0.0",
        "model.dropout=0.0",
    ]
    words += ["model.graph.training.max_epochs=20"]
    words += [f"model.{key}={value}" for key, value in TINY.items()]
    done = run(run_config(tmp_path, "model=llmgr", *words, *keys))
    floor = run(run_config(tmp_path, "model=popularity"))
    assert done.metrics["test/ndcg@10"] > 1.2 * floor.metrics["test/ndcg@10"]
    assert set(done.metrics["dependencies"]) == {"graph"}
