"""``recbench write-texts``: what is written passes the leak check and is trained on, goes on where it was stopped, and knows nothing later."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from recbench.cli.texts import write
from recbench.cli.texts.command import read_arguments
from recbench.cli.texts.write import write_texts
from recbench.data.batches import WindowDataset, training_windows
from recbench.data.prepared import PreparedData
from recbench.data.protocol import LeaveOneOutConfig
from recbench.data.split import make_split
from recbench.data.training import TrainingData
from recbench.data.user_text import check_no_later_title, without_unread_titles
from recbench.models.auxiliary import LLMCFConfig, RationaleConfig
from recbench.models.base import ModelContext
from recbench.models.sequential.sasrec import SASRec, SASRecConfig
from recbench.nn.text.continuation import Writer
from recbench.nn.text.generated import read_texts
from recbench.objectives.contrastive.llm_cf import LLMCF
from recbench.objectives.contrastive.rationale import Rationale

TINY = ["model.backbone=tiny", "model.n_layers=1", "model.tiny_hidden_size=16", "model.tiny_n_heads=2", "--tokens=4"]
LENGTH = "training.max_length=20"


@pytest.fixture
def words(tiny: list[str], tmp_path: Path) -> Callable[..., list[str]]:
    """words("rationale", ...) -> those of a small call, with a cache of the test's own for what is written."""
    data = [word for word in tiny if word.startswith("data")]
    return lambda kind, *more: [kind, *data, *TINY, LENGTH, f"cache_dir={tmp_path / 'cache'}", *more]


def wrote(words: list[str]) -> write.Done:
    return write_texts(read_arguments(words))


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(("kind", "config", "term"), [
    ("rationale", RationaleConfig, Rationale), ("llm_cf", LLMCFConfig, LLMCF),
])  # fmt: skip
def test_what_is_written_passes_the_leak_check_and_trains(
    kind, config, term, cli, words, tmp_path, tiny_data, tiny_split
):
    path = tmp_path / "texts.jsonl"
    done = cli("write-texts", *words(kind, "--rows=90", "--seed=3"), f"--to={path}", cwd=tmp_path)
    assert done.status == 0, done.err
    assert f"{path}: 90 texts (90 written now, 0 found in the cache" in done.out
    assert f"'model.auxiliary=[{kind}]' model.{kind}.texts={path}" in done.out
    header, *rows = lines(path)
    assert header["data"]["fingerprint"] == tiny_data.fingerprint
    assert header["decode"] == {"tokens": 4, "temperature": 0.0}
    assert len({(row["user"], row["events"]) for row in rows}) == len(rows) == 90
    assert len(read_texts(path, tiny_data, tiny_split.train_end)) == 90
    windows = WindowDataset(tiny_data, training_windows(tiny_split.train_start, tiny_split.train_end, 20))
    torch.manual_seed(0)
    model = SASRec(
        SASRecConfig(hidden_size=16, feedforward_size=16), ModelContext(tiny_data.n_items, tiny_data.n_users, 20)
    )
    keys = config(texts=str(path))
    keys.check(f"model.{kind}")
    added = term(keys, model, windows)
    added.draw(windows[np.arange(len(windows))])
    loss = sum(added.terms(model).values())
    loss.backward()
    assert loss.item() > 0
    assert model.item_embedding.weight.grad.abs().sum() > 0


def test_there_is_a_text_for_each_training_window_and_a_tenth_of_the_rows(words, tmp_path, tiny_split):
    lengths = tiny_split.train_end - tiny_split.train_start
    for kind, wanted in (("rationale", (-(-(lengths - 1) // 20)).sum()), ("llm_cf", round(0.1 * (lengths - 1).sum()))):
        assert wrote(words(kind, f"--to={tmp_path / kind}")).n_texts == wanted
    ends = {(row["user"], row["events"]) for row in lines(tmp_path / "rationale")[1:]}
    assert {events for _, events in ends} >= set((lengths - 1).tolist())


def test_a_second_call_writes_nothing_and_another_template_writes_anew(words, tmp_path, monkeypatch):
    path = tmp_path / "t.jsonl"
    first = wrote(words("rationale", "--rows=30", f"--to={path}"))
    content = path.read_bytes()
    assert (first.n_written, first.n_kept) == (30, 0)
    with monkeypatch.context() as patch:
        patch.setattr(write, "Writer", None)  # not even opened
        again = wrote(words("rationale", "--rows=30", f"--to={path}"))
    assert (again.n_written, again.n_kept) == (0, 30)
    assert path.read_bytes() == content
    other = ["--rows=30", "--prompt=After {titles}, what?", f"--to={tmp_path / 'u.jsonl'}"]
    assert wrote(words("rationale", *other)).n_written == 30
    assert wrote(words("rationale", "--rows=30", "--tokens=3", f"--to={tmp_path / 'v.jsonl'}")).n_written == 30
    more = wrote(words("rationale", "--rows=40", f"--to={path}"))
    assert more.n_kept >= 1
    assert more.n_written + more.n_kept == 40


@pytest.mark.parametrize("temperature", ["0", "1.3"])
def test_stopped_in_the_middle_it_goes_on_and_ends_with_the_same_file(words, tmp_path, monkeypatch, temperature):
    monkeypatch.setattr(write, "PART_SECONDS", 0.0)
    own = ["--rows=60", "--batch=8", f"--temperature={temperature}"]
    whole, path = tmp_path / "whole.jsonl", tmp_path / "stopped.jsonl"
    wrote([*words("rationale", *own, f"--to={whole}"), f"cache_dir={tmp_path / 'other'}"])
    calls, continued = [], Writer.continued

    def dies(self, prompts, *more):
        calls.append(len(prompts))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return continued(self, prompts, *more)

    with monkeypatch.context() as patch:
        patch.setattr(Writer, "continued", dies)
        with pytest.raises(KeyboardInterrupt):
            wrote(words("rationale", *own, f"--to={path}"))
    assert not path.exists()
    (kept,) = (tmp_path / "cache" / "written").iterdir()
    # What a killed process leaves: half a part under a name of its own. And a part that the disk lost.
    (kept / ".part-x.jsonl.1-2.tmp").write_text('{"input": "x"')
    damaged = sorted(kept.glob("part-*.jsonl"))[0]
    lost = len(damaged.read_text().splitlines())
    damaged.write_text(damaged.read_text()[:20])
    done = wrote(words("rationale", *own, f"--to={path}"))
    assert done.n_kept == sum(calls[:3]) - lost > 0
    assert path.read_bytes() == whole.read_bytes()


def test_a_text_knows_no_later_event(words, tmp_path, tiny_data, monkeypatch):
    items, offsets, at = np.array(tiny_data.items), np.array(tiny_data.offsets), 3
    changed = items.copy()
    for user in range(0, tiny_data.n_users, 2):  # of every other user all that follows the first events is another
        later = slice(offsets[user] + at, offsets[user + 1])
        changed[later] = items[later][::-1] % tiny_data.n_items + 1
    found = {}
    for name, own in (("one", items), ("other", changed)):
        data = PreparedData.from_arrays(
            tmp_path / name, own, offsets, np.array(tiny_data.timestamps),
            item_table=tiny_data.item_table().drop("item_id"), user_ids=tiny_data.user_ids()["user_id"],
        )  # fmt: skip
        split = make_split(data, LeaveOneOutConfig(), None)
        monkeypatch.setattr(write, "asked_histories", lambda config, both=(data, split): both)
        path = tmp_path / f"{name}.jsonl"
        wrote(
            [
                *words("llm_cf", "--rows=99999", "--batch=256", "--history=5", f"--to={path}"),
                f"cache_dir={tmp_path / name}",
            ]
        )
        found[name] = {(row["user"], row["events"]): row["text"] for row in lines(path)[1:]}
    early = [row for row in found["one"] if row[1] <= at]
    assert len(early) > 300
    assert all(found["one"][row] == found["other"][row] for row in early)
    assert sum(found["one"][row] != found["other"].get(row) for row in found["one"]) > 300


def test_titles_that_were_not_read_are_cut_and_the_rest_passes_the_check(tiny_data):
    titles = ["", *(title.lower() for title in tiny_data.item_table().sort("item_id")["title"].to_list())]
    start = int(tiny_data.offsets[0])
    read = {titles[item] for item in tiny_data.items[start : start + 2].tolist()}
    own = next(iter(read))
    text = f"{own}, then " + " and ".join(title.upper() for title in titles[1:])
    left, n = without_unread_titles(text, titles, read)
    check_no_later_title(tiny_data, 0, start + 2, left, titles, "here")
    assert left.startswith(f"{own}, then ")
    assert n == len(titles) - 1 - len(read)
    # A title within another one, and letters that are two in lower case.
    assert without_unread_titles("İ A Garden Hose Reel!", ["garden hose", "garden hose reel"], []) == ("i̇ a ...!", 1)
    assert (
        without_unread_titles("A Garden Hose Reel", ["garden hose", "garden hose reel"], ["garden hose reel"])[1] == 1
    )


def test_wrong_use_is_one_line(cli, words, tmp_path, stored_llama):
    other = tmp_path / "other.jsonl"
    other.write_text('{"model": "m"}\n')
    taken = tmp_path / "taken.jsonl"
    wrote(words("rationale", "--rows=3", f"--to={taken}"))
    table = tmp_path / "events.csv"
    table.write_text(
        "user,item,timestamp\n" + "".join(f"u{u},i{(u + t) % 5},{t}\n" for u in range(9) for t in range(5))
    )
    bert = tmp_path / "bert"
    bert.mkdir()
    (bert / "config.json").write_text(json.dumps({"model_type": "bert", "num_hidden_layers": 2, "hidden_size": 8}))
    to = f"--to={tmp_path / 'new.jsonl'}"
    asked = words("rationale", "--rows=3")
    for line, message in (
        ([*asked, f"--to={other}"], "was not made by this command; name another file"),
        ([*asked, f"--to={taken}", "data.seed=7"], "holds texts about other histories (synthetic, leave_one_out"),
        ([*asked, f"--to={tmp_path / 'no' / 'x'}"], "there is no folder"),
        (["rationale", "data=table", f"data.path={table}", "model.backbone=tiny", to], "data=table has no item text"),
        ([*asked, f"model.backbone={bert}", to], "(bert) is no causal decoder"),
        ([*asked, f"model.backbone={stored_llama}", to], "prompts need the tokenizer of"),
        ([*asked, f"model.backbone={tmp_path / 'absent'}", to], "cannot read the backbone"),
        (["rationale", "data=synthetic", to], "name the language model that writes: model.backbone=FOLDER"),
        ([*asked, "model.n_layers=x", to], "model: Value 'x'"),
        ([*asked, "model.loss=bpr", to], "'model.loss=bpr' says nothing of what is written"),
        ([*asked, "--prompt=What?", to], "--prompt must hold {titles}"),
        ([*asked, "--rows=0", to], "--rows must be at least 1"),
        ([*asked, "--seed=-1", to], "--seed must be at least 0"),
        ([*asked, "--chat", to], "has no chat template"),
        ([*asked, "protocol=clicks", to], "protocol=clicks has rows of impressions"),
        ([*asked, "data.text.shuffle=1", to], "data.text.shuffle gives items the texts of others"),
    ):
        done = cli("write-texts", *line, cwd=tmp_path)
        assert (done.status, message in done.err) == (2, True), (line, done.err)
        assert sum(said.startswith("error:") for said in done.err.splitlines()) == 1
    assert not (tmp_path / "new.jsonl").exists()


def test_rows_of_training_alone_are_told(tiny_data, tiny_split):
    from recbench.nn.text.told_histories import target_rows, window_rows

    train = TrainingData.of(tiny_data, tiny_split)
    for rows in (target_rows(train), window_rows(train, 4)):
        target = tiny_data.offsets[rows.user] + rows.events
        assert (target > tiny_split.train_start[rows.user]).all()
        assert (target < tiny_split.train_end[rows.user]).all()
    assert len(target_rows(train)) == (tiny_split.train_end - tiny_split.train_start - 1).sum()
