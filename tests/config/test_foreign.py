"""Files that may be a stranger's set no place of this machine and read nothing of it."""

from __future__ import annotations

import pytest

from recbench.config.foreign import refuse_foreign_word
from recbench.core.errors import UserError
from recbench.study.definition import load_study

BAD_WORDS = [
    "runs_dir=elsewhere", "cache_dir=x", "++runs_dir=x", "hydra.run.dir=x", "hydra/launcher=joblib", "+hydra.callbacks.a._target_=os.system",
    "tracking.uri=http://evil", "tracking.uri=m.db", "data.raw_dir=x", "data.mirror=https://evil", "data.path=/etc/passwd", "data.path=~/x.csv",
    "data.path='/etc/passwd'", "data.path=../../x.csv", "data.items_path=a/../../b", "data.text.path=/x.npz", "model.backbone=/home/me/llm",
    "model.backbone=file:///x", "+tracking={uri: 'http://evil', name: mlflow}", "data={name: table, path: /etc/passwd}", "model.auxiliary=[/x]",
    "model.backbone=${oc.env:HOME}", "seed=${oc.env:SEED}", "training.lr=${oc.decode:1}", "model.backbone='${oc.env:HOME}'",
    "model.backbone=${oc.env:RECBENCH_SECRETS}", "model.backbone=${oc.env:RECBENCH_MINILM,${oc.env:HOME}}", "model.backbone=${runs_dir}",
    "data.path=choice(a.csv, /etc/passwd)",
]  # fmt: skip


@pytest.mark.parametrize("word", BAD_WORDS)
def test_a_word_that_leaves_the_study_is_refused(word):
    with pytest.raises(UserError, match=r"x/study\.yaml (sets|names|would read)") as caught:
        refuse_foreign_word(word, "x/study.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "word",
    [
        "model=sasrec", "training.lr=1e-3", "data.path=ml-1m.txt.gz", "data.path=sub/a.csv",
        "data.text.encoder=sentence-transformers/all-MiniLM-L6-v2",
        "model.backbone=${oc.env:RECBENCH_MINILM,'sentence-transformers/all-MiniLM-L6-v2'}", "tracking=off",
        "hardware.threads=2",
        "data.text.template='{title}; {brand}'", "model.auxiliary=[duorec,cl4srec]", "data.separator=::",
        "training.lr=tag(log, interval(1e-4, 1e-2))",
    ],
)  # fmt: skip
def test_what_a_study_says_is_taken(word):
    refuse_foreign_word(word, "x/study.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "base: [cache_dir=here]\nrows: {a: [model=popularity]}",
        "rows: {a: [[model=popularity, [data.path=/etc/passwd]]]}",
        "rows: {a: {overrides: [model=popularity], search: {data.path: [a.csv, /etc/passwd]}}}",
        "search: {model.backbone: ['${oc.env:HOME}']}\nrows: {a: [model=popularity]}",
        "shared: {s: ['tracking.uri=http://evil']}\nrows: {a: [model=popularity]}",
        'rows: {a: [model=popularity, "seed=\\u0024{oc.env:HOME}"]}',
    ],
)
def test_a_study_is_read_whole(tmp_path, text):
    (tmp_path / "study.yaml").write_text(text)
    with pytest.raises(UserError, match=r"study\.yaml (sets|names|would read)"):
        load_study(tmp_path / "study.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "runs_dir: x", "cache_dir: /x", "data: {path: /etc/passwd}", "tracking: {uri: 'http://evil'}", "hydra: {run: {dir: /x}}",
        "defaults: [{/data: table}]", "model: {backbone: /home/me}", "model: {backbone: '${oc.env:HOME}'}", "training: {lr: '${oc.env:LR}'}",
        "model: {a: {b: [../x]}}", "[1, 2]", "model: {", "seed: 3",
    ],
)  # fmt: skip
def test_a_tuned_file_sets_model_and_training_alone(tmp_path, cli, tiny, text):
    (tmp_path / "tuned").mkdir()
    (tmp_path / "tuned" / "x.yaml").write_text(text)
    found = cli("model=popularity", "tuned=x", *tiny, cwd=tmp_path)
    assert found.status == 2
    assert found.err.strip().startswith("error: ")
    assert len(found.err.strip().splitlines()) == 1
    assert "x.yaml" in found.err
    assert not (tmp_path / "runs").exists()


def test_a_search_space_is_read_like_a_study(tmp_path, cli, tiny):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    (tmp_path / "space.yaml").write_text("model.backbone: choice(/home/me, b)\n")
    found = cli("tune", "model=sasrec", "--space", "space.yaml", *tiny, cwd=tmp_path)
    assert found.status == 2
    assert "space.yaml names a place of this machine" in found.err
