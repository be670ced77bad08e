"""The law of run keys: what changes a result changes the key, and nothing else does."""

from __future__ import annotations

import pytest

from recbench.config.run import RunConfig
from recbench.experiment import key
from recbench.experiment.context import RunContext
from recbench.experiment.key import make_key, run_key


@pytest.fixture(scope="module")
def stage(tiny_data, tiny_split):
    return RunContext(tiny_data, tiny_split)


@pytest.fixture(scope="module")
def key_of(compose, tiny, stage):
    """key_of("model=sasrec", ...) -> the key of that command line."""
    return lambda *words: run_key(RunConfig.from_hydra(compose(*tiny, *words)), stage)


def test_a_key_is_readable_and_the_same_in_every_process_and_release(monkeypatch):
    # Another value here makes every stored run of every user a stranger.
    monkeypatch.setattr(key, "RESULTS_VERSION", 1)
    assert make_key("sasrec", {"seed": 1, "model": {"a": 1, "b": [1, 2]}}) == "sasrec-7267f48985b4"
    assert make_key("x", {"a": 1, "b": 2}) == make_key("x", {"b": 2, "a": 1})
    assert make_key("x", {"a": 1}) != make_key("x", {"a": 2})


def test_code_that_changes_results_makes_new_keys(monkeypatch):
    before = make_key("x", {"a": 1})
    monkeypatch.setattr(key, "RESULTS_VERSION", key.RESULTS_VERSION + 1)
    assert make_key("x", {"a": 1}) != before


@pytest.mark.parametrize(
    "word",
    [
        "seed=2",
        "model.hidden_size=32",
        "model.dropout=0.1",
        "model.loss=bce",
        "training.lr=0.01",
        "training.max_epochs=7",
        "training.batch_size=64",
        "training.max_length=10",
        "training.patience=3",
        "evaluation.cutoffs=[5]",
    ],
)
def test_what_changes_a_result_changes_the_key(key_of, word):
    assert key_of("model=sasrec", word) != key_of("model=sasrec")


@pytest.mark.parametrize(
    "word",
    [
        "hardware=auto",
        "hardware.threads=2",
        "hardware.logits=float32",
        "runs_dir=elsewhere",
        "cache_dir=elsewhere",
        "tracking.experiment=other",
        "tracking=mlflow",
        "evaluation.cutoffs=[20,10,5,1]",
    ],
)
def test_where_a_run_computes_and_lies_is_not_in_its_key(key_of, word):
    assert key_of("model=sasrec", word) == key_of("model=sasrec")


@pytest.mark.parametrize(
    ("words", "kind"), [("model=hllm model.tower=", "bert"), ("model=e4srec model.backbone=", "llama")]
)
def test_a_language_model_in_a_folder_counts_by_its_content(key_of, tmp_path, words, kind):
    for name, weights, merges in (("here", b"1", "a"), ("there", b"1", "a"), ("other", b"2", "a"), ("cut", b"1", "b")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(f'{{"model_type": "{kind}", "num_hidden_layers": 6}}')
        (tmp_path / name / "model.safetensors").write_bytes(weights)
        (tmp_path / name / "merges.txt").write_text(merges)
        (tmp_path / name / "README.md").write_text(name)
    places = ("here", "there", "other", "cut")
    here, there, other, cut = (key_of(*f"{words}{tmp_path / name}".split()) for name in places)
    assert here == there
    assert len({here, other, cut}) == 3


def test_a_hub_name_stands_in_a_key_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").mkdir()
    for name in ("tiny", "somebody/model"):
        assert key._read_from(name, tmp_path) == name


def test_another_split_or_other_data_is_another_run(key_of, compose, tiny, stage, tmp_path):
    import numpy as np

    from recbench.data.protocol import LeaveOneOutConfig
    from recbench.data.split import make_split
    from recbench.data.store import PreparedData

    config = RunConfig.from_hydra(compose(*tiny, "model=sasrec"))
    keeping = make_split(stage.data, LeaveOneOutConfig(seen_items="keep"), None)
    items = np.array(stage.data.items)
    items[[0, 1]] = items[[1, 0]]
    other = PreparedData.from_arrays(
        tmp_path, items, stage.data.offsets, stage.data.timestamps, n_items=stage.data.n_items
    )
    keys = {run_key(config, RunContext(data, split)) for data, split in ((stage.data, keeping), (other, stage.split))}
    assert len(keys | {run_key(config, stage)}) == 3


def test_a_computed_model_knows_neither_seed_nor_learning_rate(key_of):
    same = {key_of("model=markov", word) for word in ("seed=1", "seed=2", "training.lr=0.5", "training.max_epochs=3")}
    assert len(same) == 1
    assert key_of("model=markov", "model.backoff=0.5") not in same
    assert key_of("model=markov", "training.max_length=10") not in same


@pytest.mark.parametrize(
    "word",
    [
        "model.item_table.hidden_size=32",
        "model.item_table.training.max_epochs=3",
        "distillation.teacher.n_layers=4",
        "distillation.teacher.training.lr=0.01",
        "distillation.norm_weight=0.5",
        "distillation.form=released",
    ],
)
def test_a_key_depends_on_what_a_run_stands_on(compose, tiny, stage, word):
    def key(*words):
        composed = compose(*tiny, "model=slmrec", *words)
        return run_key(RunConfig.from_hydra(composed), stage)

    assert key(word) != key()


def test_the_item_table_of_slmrec_is_the_plain_run_of_that_model(compose, tiny, stage):
    from recbench.experiment.dependencies import dependency_configs

    slmrec = RunConfig.from_hydra(compose(*tiny, "model=slmrec"))
    plain = RunConfig.from_hydra(compose(*tiny, "model=sasrec"))
    assert run_key(dependency_configs(slmrec)["item_table"], stage) == run_key(plain, stage)
