"""What is particular to LC-Rec: alignment beside the next item, its leak rule and ablations, named backbones, and one pass for all prefixes."""

from __future__ import annotations

import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from recbench.core.errors import UserError
from recbench.data.batches import Batch, WindowDataset, training_windows
from recbench.data.item_text import item_texts
from recbench.data.training import TrainingData
from recbench.experiment.build import load_model
from recbench.experiment.run import open_run, run
from recbench.models import weights
from recbench.models.base import ModelContext, count_parameters
from recbench.models.generative import lcrec
from recbench.models.generative.lcrec import LCRec, LCRecConfig
from recbench.nn.language import alignment
from recbench.nn.language.alignment import FORMS, TASKS

MAX_LENGTH = 20
SHAPE = {"tiny_hidden_size": 16, "tiny_n_heads": 2, "tiny_feedforward_size": 24, "n_layers": 2, "text_buckets": 64}
OFF = dict.fromkeys(TASKS, 0.0)
SIZES = (4, 5, 6)


@pytest.fixture(scope="module")
def tokenizer(tiny_data):
    """Codes of a tokenizer's run, drawn; no two items share them."""
    every = np.array(list(np.ndindex(*SIZES)))
    codes = every[np.random.default_rng(0).permutation(len(every))[: tiny_data.n_items]]
    table = torch.cat([torch.full((1, 3), -1), torch.from_numpy(codes)])
    return SimpleNamespace(codes=table, sizes=torch.tensor(SIZES), config=SimpleNamespace(name="hand"))


@pytest.fixture(scope="module")
def context(tiny_data, tiny_split, tokenizer):
    train = TrainingData.of(tiny_data, tiny_split)
    counts = torch.from_numpy(train.item_counts())
    texts = item_texts(tiny_data)
    sizes = tiny_data.n_items, tiny_data.n_users, MAX_LENGTH
    return ModelContext(*sizes, counts, {"tokenizer": tokenizer}, texts, train)


@pytest.fixture(scope="module")
def windows(tiny_data, tiny_split):
    return WindowDataset(tiny_data, training_windows(tiny_split.train_start, tiny_split.train_end, MAX_LENGTH))


@pytest.fixture(scope="module")
def batch(windows):
    return windows[np.arange(12)]


@pytest.fixture(scope="module")
def stored_words(stored_llama, tmp_path_factory):
    """The small Llama, with its 30 tokens and more positions, in a folder with a tokenizer of letters."""
    import json

    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("words") / "llama"
    shutil.copytree(stored_llama, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 1024}))
    known = {"[UNK]": 0, **{letter: k for k, letter in enumerate("abcdefghijklmnoprstuvz., #:\n", start=1)}}
    tokenizer = Tokenizer(models.WordLevel(known, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]").save_pretrained(folder)
    return folder


def build(context, **keys):
    torch.manual_seed(0)
    return LCRec(LCRecConfig(**{**SHAPE, **keys}), context).eval()


def histories_of(batch):
    return replace(batch, targets=None, next_timestamps=None)


def test_all_prefixes_in_one_pass_are_those_one_by_one(context, batch):
    """The loss of a window is the mean of -log p(target) over its prefixes, as the exact scores of each have it."""
    for keys in ({}, {"separator": False}, {"prompt": "learned", "prompt_lengths": [0, 2]}):
        model = build(context, **OFF, **keys)
        row, last = batch.mask.nonzero(as_tuple=True)
        before = torch.arange(batch.items.shape[1]) <= last[:, None]
        alone = Batch(batch.items[row] * before, batch.timestamps[row], last + 1, batch.user[row])
        with torch.no_grad():
            scores = model.score(alone)[torch.arange(len(row)), batch.targets[row, last]]
            torch.testing.assert_close(model.training_loss(batch), -scores.mean() / len(SIZES), atol=1e-5, rtol=1e-5)


def test_the_sum_over_all_codes_is_one(context, batch):
    model = build(context)
    every = torch.tensor(list(np.ndindex(*SIZES)))
    whole = SimpleNamespace(codes=torch.cat([torch.full((1, 3), -1), every]), sizes=torch.tensor(SIZES))
    full = build(replace(context, n_items=len(every), dependencies={"tokenizer": whole}), **OFF)
    assert full.codes.shape[0] > model.codes.shape[0]
    with torch.no_grad():
        torch.testing.assert_close(full.score(histories_of(batch))[:, 1:].exp().sum(1), torch.ones(len(batch)))


def test_parameters_are_those_of_the_parts(context):
    model, width, layers = build(context, itemsearch=1.0, preferenceobtain=1.0), 16, 2
    blocks = layers * (4 * width**2 + 3 * width * 24 + 2 * width) + width
    codes = 2 * sum(SIZES) * width
    special = (
        1 + 1 + len(FORMS) + 1
    ) * width  # separator, the next item's prompt, each form's, what stands before an answer
    untrained = width  # of the one token that a tiny backbone has
    assert count_parameters(model) == {
        "trainable": blocks + codes + special + 64 * width,
        "total": blocks + codes + special + 64 * width + untrained,
    }
    bare = build(context, **OFF)
    assert count_parameters(bare)["trainable"] == blocks + codes + 2 * width


@pytest.mark.parametrize("task", TASKS)
def test_a_task_of_weight_zero_is_off_and_its_weight_scales_it(context, batch, task):
    def loss_of(weight):
        model = build(context, **{**OFF, task: weight}, alignment_share=1.0)
        torch.manual_seed(1)
        with torch.no_grad():
            return float(model.training_loss(batch)), float(model.next_item_loss(batch))

    one, alone = loss_of(1.0)
    assert one > alone + 0.1
    assert loss_of(0.5)[0] - alone == pytest.approx((one - alone) / 2, rel=1e-4)
    off, alone = loss_of(0.0)
    assert off == alone


def test_the_losses_of_a_batchs_parts_add_up_to_its_own(context, batch):
    """So several processes may share a batch. With a share of 1 nothing is left to the lot."""
    model = build(context, **{**OFF, "item2index": 1.0, "index2item": 0.5}, alignment_share=1.0)
    parts = [replace(batch, **{name: getattr(batch, name)[rows] for name in ("items", "lengths", "user", "targets")})
             for rows in (torch.arange(5), torch.arange(5, 12))]  # fmt: skip
    n = [int(part.lengths.sum()) for part in parts]
    with torch.no_grad():
        together = sum(k * model.training_loss(part) for k, part in zip(n, parts, strict=True)) / sum(n)
        torch.testing.assert_close(together, model.training_loss(batch))


def test_no_example_is_built_from_validation_or_test_events(context, windows, tiny_data, tiny_split):
    """Every event of validation and test becomes an item that training does not know, with words of its own: nothing of it is ever asked."""
    held_out = np.ones(len(tiny_data.items), dtype=bool)
    for start, end in zip(tiny_split.train_start, tiny_split.train_end, strict=True):
        held_out[start:end] = False
    hidden = tiny_data.n_items
    assert held_out.sum() == 2 * tiny_data.n_users
    in_training = np.asarray(tiny_data.items) != hidden
    events = np.where(held_out | ~in_training, hidden, tiny_data.items)
    # What training had of the hidden item becomes another one, so that it is unknown there.
    events[~held_out & ~in_training] = 1
    data = SimpleNamespace(items=events, timestamps=tiny_data.timestamps, behaviours=None)
    texts = [*context.item_texts[:-1], "zebra xylophone quokka"]
    counts = torch.bincount(torch.from_numpy(events[~held_out]), minlength=hidden + 1)
    assert counts[hidden] == 0
    known = replace(context, item_texts=texts, item_counts=counts)
    model = build(known, **dict.fromkeys(TASKS, 1.0), text_buckets=1 << 16)
    tokens = model.item_tokens
    secret_codes = tokens.codes[hidden, :3]
    secret_words = set(tokens.words[hidden].tolist()) - {0}
    assert len(secret_words) == 3
    assert not tokens.rarity[list(secret_words)].any()
    asked = WindowDataset(data, windows.windows)[np.arange(len(windows))]
    n_examples = 0
    for name, form in FORMS.items():
        drawn = alignment.drawn(asked, 1.0)
        assert len(drawn.target) == int(asked.lengths.sum())
        assert not (drawn.target == hidden).any()
        example = form.make(tokens, drawn)
        said = torch.cat([example.question, example.answer], 1)
        n_examples += len(said)
        assert not (set(said.unique().tolist()) & secret_words), name
        spelled = said.unfold(1, 3, 1) == secret_codes
        assert not spelled.all(-1).any(), name
    assert n_examples == len(FORMS) * int(asked.lengths.sum())
    # The same questions about the events as they are do meet that item.
    real = alignment.drawn(windows[np.arange(len(windows))], 1.0)
    assert (real.target == hidden).any()


def sequences_of(model, name, example):
    return alignment.sequences(example, model.prompts.begin[name], model.prompts.answer)


def test_an_example_is_a_target_with_the_events_before_it(batch):
    drawn = alignment.drawn(batch, 1.0)
    row, last = batch.mask.nonzero(as_tuple=True)
    assert drawn.target.tolist() == batch.targets[row, last].tolist()
    for n in (0, 5, len(row) - 1):
        events = drawn.history[n][drawn.history[n] > 0].tolist()
        assert events == batch.items[row[n], : last[n] + 1].tolist()


def test_the_share_of_targets_that_make_examples(context, windows):
    torch.manual_seed(0)
    batch = windows[np.arange(len(windows))]
    n = len(alignment.drawn(batch, 0.1).target)
    assert n == pytest.approx(0.1 * int(batch.lengths.sum()), rel=0.3)


def test_items_without_a_text_are_left_out_and_no_text_at_all_is_refused(context, batch):
    some = [text if item % 2 else "" for item, text in enumerate(context.item_texts)]
    model = build(replace(context, item_texts=some), **dict.fromkeys(TASKS, 1.0), alignment_share=1.0)
    loss = model.training_loss(batch)
    loss.backward()
    assert loss.isfinite()
    example = FORMS["item2index"].make(model.item_tokens, alignment.drawn(batch, 1.0))
    assert len(sequences_of(model, "item2index", example)[0]) == int((batch.targets[batch.mask] % 2).sum())
    nothing = [""] * len(some)
    with pytest.raises(
        UserError, match=r"no item has a text.*model.item2index=0 model.index2item=0 model.fusionseqrec=0"
    ):
        build(replace(context, item_texts=nothing))
    build(replace(context, item_texts=nothing), **OFF)


def test_a_batch_without_any_example_still_has_a_loss(context, batch):
    model = build(context)
    model.item_tokens = replace(model.item_tokens, words=torch.zeros_like(model.item_tokens.words))
    torch.testing.assert_close(model.training_loss(batch), model.next_item_loss(batch))


def test_examples_of_all_forms_read_together_lose_what_each_loses_alone(context, batch, monkeypatch):
    model = build(context, **dict.fromkeys(TASKS, 1.0))
    together = []
    for name, form in FORMS.items():
        ids, of_answer = sequences_of(model, name, form.make(model.item_tokens, alignment.drawn(batch, 0.2)))
        together.append((F.pad(ids, (0, 400 - ids.shape[1])), F.pad(of_answer, (0, 400 - ids.shape[1]))))
    ids, of_answer = (torch.cat(part) for part in zip(*together, strict=True))
    assert len(ids) > 2 * len(FORMS)
    monkeypatch.setitem(lcrec.AT_ONCE, "cpu", 512)  # several pieces
    with torch.no_grad():
        alone = torch.cat([model.answer_losses(ids[n : n + 1], of_answer[n : n + 1]) for n in range(len(ids))])
        torch.testing.assert_close(model.answer_losses(ids, of_answer), alone)
        # By hand, of the first: the mean over its answer of -log p(token | what stands before it).
        row = ids[0, : int((ids[0] > 0).sum())]
        states = model.backbone.read(model.embed(row[None, :-1]))[0]
        said = []
        for place in of_answer[0].nonzero().flatten().tolist():
            for head, (here, code) in zip(model.heads, model.token_ids.by_level(row[place : place + 1]), strict=True):
                said += [-torch.log_softmax(head(states[place - 1]), 0)[code]] if here.any() else []
        torch.testing.assert_close(alone[0], torch.cat(said).mean())


def test_texts_are_learned_in_both_directions(context, batch):
    """Alignment alone, on the items of one batch: their texts come to lead to their codes and back."""
    model = build(context, **{**OFF, "item2index": 1.0, "index2item": 1.0}, alignment_share=1.0, dropout=0.0)
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, fused=True)

    before = model.alignment_loss(batch).item()
    for _ in range(60):
        optimizer.zero_grad()
        model.alignment_loss(batch).backward()
        optimizer.step()
    assert model.alignment_loss(batch).item() < 0.5 * before


@pytest.mark.parametrize("keys", [{}, {"prompt": "text"}, {"prompt": "learned"}, {"lora_rank": 0}], ids=str)
def test_a_stored_backbone_trains_what_it_may_and_is_found_again(context, batch, stored_words, tmp_path, keys):
    keys = {"backbone": str(stored_words), "dropout": 0.0, "text_words": 6, "title_words": 3, **keys}
    model = build(context, **keys).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2, fused=True)
    for _ in range(2):
        optimizer.zero_grad()
        model.training_loss(batch).backward()
        optimizer.step()
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    own = {name for name in moved if name.startswith("backbone.")}
    if keys.get("lora_rank") == 0:
        assert any("embed_tokens" in name for name in own)
        assert any("q_proj" in name for name in own)
    else:
        assert own
        assert all("lora_" in name for name in own)
        assert not any("embed_tokens" in name or "q_proj" in name for name in model.stored_state())
    heads = {f"heads.{level}.weight" for level in range(3)}
    assert {"token_embedding.weight", "special_embedding.weight", *heads} <= moved
    model.eval()
    weights.save_weights(model, tmp_path / "weights.safetensors")
    fresh = LCRec(model.config, ModelContext(context.n_items, context.n_users, MAX_LENGTH))
    weights.load_weights(fresh, tmp_path / "weights.safetensors")
    with torch.no_grad():
        asked = histories_of(batch)
        assert torch.equal(fresh.eval().score(asked), model.score(asked))


def test_a_text_prompt_reads_its_instruction(context, batch, stored_words):
    keys = {"backbone": str(stored_words), "prompt": "text", **OFF}
    one, other = (build(context, **keys, prompt_prefix=text) for text in ("{instruction} a", "{instruction} b"))
    other.load_stored_state(one.stored_state())
    assert len(one.prompts.begin[""]) > 30
    with torch.no_grad():
        assert not torch.allclose(one.score(histories_of(batch)), other.score(histories_of(batch)))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"decoder": "beem"}, "did you mean 'beam'"),
        ({"beams": 0}, "model.beams"),
        ({"item2index": -1.0}, "model.item2index must be at least 0"),
        ({"alignment_share": 0.0}, "alignment_share must lie above 0"),
        ({"text_words": 0}, "model.text_words"),
        ({"tiny_hidden_size": 18, "tiny_n_heads": 4}, "multiple of twice"),
        ({"prompt": "text"}, "'tiny' reads no text"),
        ({"backbone": "/nowhere"}, "cannot read the backbone"),
    ],
    ids=str,
)
def test_keys_that_make_no_sense_are_refused_before_a_tokenizer_is_trained(keys, words):
    with pytest.raises(UserError, match=words):
        LCRec.dependencies(LCRecConfig(**keys))


def test_prompts_without_a_place_for_the_instruction_are_refused(stored_words):
    config = LCRecConfig(backbone=str(stored_words), prompt="text", prompt_prefix="Go on:")
    with pytest.raises(UserError, match=r"prompt_prefix must hold \{instruction\}"):
        LCRec.dependencies(config)


def test_histories_that_a_backbone_cannot_read_are_refused(context, stored_llama):
    with pytest.raises(
        UserError, match=r"reads 64 tokens, fewer than .*20 items of 4 codes.*lower training.max_length"
    ):
        build(context, backbone=str(stored_llama), n_layers=2, **OFF)
    build(replace(context, max_length=8), backbone=str(stored_llama), n_layers=2, **OFF)


def test_words_of_a_backbone_without_a_tokenizer_are_refused(context, stored_llama):
    with pytest.raises(UserError, match=r"need the tokenizer of"):
        build(replace(context, max_length=2), backbone=str(stored_llama), n_layers=2, text_words=4, title_words=2)


SMALL = [
    *("model=lcrec", "model.tiny_hidden_size=16", "model.tiny_n_heads=2", "model.tiny_feedforward_size=16"),
    *("model.n_layers=1", "model.tokenizer.levels=2", "model.tokenizer.codebook_size=8", "model.beams=20"),
    *("training.max_epochs=1", "training.batch_size=256", "training.lr=5e-3"),
]


def test_a_run_has_metrics_and_answers_without_its_tokenizer(run_config, tmp_path):
    done = run(run_config(tmp_path, *SMALL))
    assert [part.folder.key.split("-")[0] for part in done.dependencies.values()] == ["rq_kmeans"]
    assert 0 < done.metrics["test/hr@10"] < done.metrics["test/hr@20"] <= 1
    assert done.metrics["test/invalid@20"] == 0
    found, stage = open_run(done.folder.path)
    model = load_model(found, stage)
    assert model.item_tokens is None
    assert model.trie.n_items == stage.data.n_items


def test_given_candidates_are_ranked_by_the_exact_scores(run_config, tmp_path):
    sampled = [*SMALL, "protocol=sampled_999", "protocol.n_candidates=20"]
    with pytest.raises(UserError, match=r"'lcrec'.*model.decoder=exact"):
        run(run_config(tmp_path, *sampled))
    metrics = run(run_config(tmp_path, *sampled, "model.decoder=exact")).metrics
    assert any(name.endswith("hr@10") and name.startswith("test/") for name in metrics)


def test_data_without_text_are_refused_unless_every_task_is_off(compose, tmp_path):
    from recbench.config.run import RunConfig

    events = [f"u{u},i{(u + t) % 9},{t}" for u in range(12) for t in range(5)]
    (tmp_path / "events.csv").write_text("\n".join(["user,item,timestamp", *events]))
    words = [*SMALL, "data=table", f"data.path={tmp_path / 'events.csv'}", "data.k_core=0", "tracking=off"]
    words += ["model.tokenizer.model=collaborative_ids", "model.tokenizer.codebook_size=4", "evaluation.cutoffs=[5]"]

    def config(*more):
        found = compose(*words, *more, f"runs_dir={tmp_path}", f"cache_dir={tmp_path}", "hardware=cpu")
        return RunConfig.from_hydra(found)

    with pytest.raises(UserError, match=r"'lcrec' needs text, which data=table does not have"):
        run(config())
    off = [f"model.{task}=0" for task in TASKS]
    assert 0 <= run(config(*off)).metrics["test/hr@5"] <= 1
    with pytest.raises(UserError, match=r"'lcrec' needs text"):
        run(config(*off, "model.index2item=0.1"))
