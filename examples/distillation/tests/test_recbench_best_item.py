import json

from recbench.cli.main import main

DATA = ["data=synthetic", "data.n_users=60", "data.n_items=60", "data.mean_length=12", "tracking=off"]
STUDENT = ["model=sasrec", "model.hidden_size=16", "model.feedforward_size=16", "training.max_epochs=2"]


def test_a_student_learns_from_the_teachers_best_items(tmp_path):
    places = [f"runs_dir={tmp_path}/runs", f"cache_dir={tmp_path}/cache"]
    teacher = ["distillation.teacher.model=sasrec", "distillation.teacher.hidden_size=24", "distillation.force=true"]
    for mode in ("offline", "online"):  # the same run: where the teacher's answers lie changes no result
        assert main([*DATA, *STUDENT, *places, "distillation=best_item", f"distillation.mode={mode}", *teacher]) == 0
    (student,) = (
        path for path in (tmp_path / "runs").glob("sasrec-*") if "best_item" in (path / "config.yaml").read_text()
    )
    first, last = (json.loads(line) for line in (student / "history.jsonl").read_text().splitlines())
    assert 0 < last["train/best_item"] < first["train/best_item"]


def test_a_wrong_weight_is_named(tmp_path, capsys):
    assert main([*DATA, *STUDENT, "distillation=best_item", "distillation.weight=0", f"runs_dir={tmp_path}"]) == 2
    assert "distillation.weight must be positive" in capsys.readouterr().err
