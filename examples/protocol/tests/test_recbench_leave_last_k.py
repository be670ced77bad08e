import json

from recbench.cli.main import main

DATA = ["data=synthetic", "data.n_users=60", "data.n_items=60", "data.mean_length=12", "tracking=off"]


def run(folder, *words):
    places = [f"runs_dir={folder}/runs", f"cache_dir={folder}/cache"]
    return main([*DATA, "model=popularity", "protocol=leave_last_k", *places, *words])


def test_every_user_has_k_targets_in_one_case(tmp_path):
    assert run(tmp_path, "protocol.k=2") == 0
    (path,) = (tmp_path / "runs").glob("popularity-*/metrics.json")
    metrics = json.loads(path.read_text())
    assert metrics["protocol"].startswith("leave_last_2-full-")
    assert metrics["audit"]["test_targets"] == 2 * metrics["test/cases"]
    assert "test/recall@10" in metrics  # given only where a case has several targets


def test_another_k_is_another_run(tmp_path):
    assert run(tmp_path, "protocol.k=1") == run(tmp_path, "protocol.k=2") == 0
    assert len(list((tmp_path / "runs").glob("popularity-*"))) == 2


def test_a_wrong_k_is_named(tmp_path, capsys):
    assert run(tmp_path, "protocol.k=0") == 2
    assert "protocol.k must be at least 1" in capsys.readouterr().err
