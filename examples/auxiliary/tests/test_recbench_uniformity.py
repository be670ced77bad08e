import json

from recbench.cli.main import main

DATA = ["data=synthetic", "data.n_users=60", "data.n_items=60", "data.mean_length=12", "tracking=off"]
MODEL = [
    "model=sasrec",
    "model.hidden_size=16",
    "model.feedforward_size=16",
    "training.max_epochs=2",
    "model.auxiliary=[uniformity]",
]


def test_the_term_is_learned_beside_the_loss(tmp_path):
    places = [f"runs_dir={tmp_path}/runs", f"cache_dir={tmp_path}/cache"]
    weights = [[], ["model.auxiliary_keys.uniformity.weight=0.1"], ["model.auxiliary_keys.uniformity.weight=0.3"]]
    for words in weights:
        assert main([*DATA, *MODEL, *places, *words]) == 0
    # 0.1 is the default: the same run whether it is said or not.
    assert len(list((tmp_path / "runs").glob("sasrec-*"))) == 2
    for history in (tmp_path / "runs").glob("sasrec-*/history.jsonl"):
        first, last = (json.loads(line) for line in history.read_text().splitlines())
        assert last["train/uniformity"] < first["train/uniformity"] < 0


def test_wrong_keys_are_named(tmp_path, capsys):
    for word, said in (("weigth=1", "did you mean 'weight'"), ("weight=0", "model.auxiliary_keys.uniformity.weight")):
        assert main([*DATA, *MODEL, f"runs_dir={tmp_path}", f"model.auxiliary_keys.uniformity.{word}"]) == 2
        assert said in capsys.readouterr().err
