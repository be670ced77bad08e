"""Two sweeps, studies or searches that start in the same second have folders, tables, MLflow runs and exit codes of their own."""

from __future__ import annotations

import datetime
import json

import pytest

from recbench.core.own_folder import hold
from recbench.study.pool import own_log


@pytest.fixture
def same_second(monkeypatch):
    """Hydra's clock stands still."""

    class Standing:
        @staticmethod
        def now():
            return datetime.datetime(2026, 1, 2, 3, 4, 5)

    monkeypatch.setattr("hydra.core.utils.datetime", Standing)


def test_two_sweeps_keep_apart_what_they_found(cli, tiny, tmp_path, same_second):
    one = cli("-m", "model=popularity,markov", *tiny, cwd=tmp_path)
    two = cli("-m", "model=itemknn", "training.lr=-1,1", *tiny, cwd=tmp_path)
    assert (one.status, two.status) == (0, 2)
    assert "2 of 2 jobs finished" in one.out
    assert "itemknn" not in one.out
    assert "1 of 2 jobs finished" in two.out
    folders = sorted((tmp_path / "runs" / "sweeps").iterdir())
    assert [path.name for path in folders] == ["2026-01-02_03-04-05", "2026-01-02_03-04-05-2"]
    for folder, model in zip(folders, ("popularity", "itemknn"), strict=True):
        records = [json.loads(path.read_text()) for path in sorted(folder.glob("job-*.json"))]
        assert len(records) == 2
        assert f"model={model}" in records[0]["overrides"]


def test_python_sweeps_too(tiny, tmp_path, same_second, monkeypatch):
    import recbench

    monkeypatch.chdir(tmp_path)
    found = [recbench.sweep(f"model={model}", *tiny) for model in ("popularity", "markov")]
    assert [sweep[0].config.model.name for sweep in found] == ["popularity", "markov"]
    assert len(list((tmp_path / "runs" / "sweeps").iterdir())) == 2


def test_a_folder_that_is_named_is_waited_for(cli_process, tiny, tmp_path):
    place = tmp_path / "runs" / "searches" / "mine"
    lock = hold(place)
    process = cli_process("-m", "model=popularity", f"hydra.sweep.dir={place}", *tiny, cwd=tmp_path)
    try:
        line = ""
        while "another process works in" not in line:
            line = process.stderr.readline()
            assert line
        assert not list(place.glob("job-*.json"))
    finally:
        lock.release()
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "1 of 1 jobs finished" in out


def test_the_same_command_beside_itself_has_an_mlflow_run_of_its_own(tmp_path):
    from recbench.tracking.sweep_file import SweepFile

    sweeps = tmp_path / "runs" / "sweeps"
    for name in ("a", "b"):
        SweepFile(sweeps / name).folder.mkdir(parents=True)
        SweepFile(sweeps / name).begin(["-m", "model=x,y"], None, "store#x")
    SweepFile(sweeps / "a").update(parents={"store#x": "1"})
    assert SweepFile(sweeps / "b")._earlier(["-m", "model=x,y"], "store#x") == "1"
    lock = hold(sweeps / "a")
    assert SweepFile(sweeps / "b")._earlier(["-m", "model=x,y"], "store#x") is None
    lock.release()


def test_two_studies_of_one_name_write_logs_of_their_own(tmp_path):
    first = own_log(tmp_path / "a-1.log")
    first.write(b"first")
    second = own_log(tmp_path / "a-1.log")
    assert second.name != first.name
    second.close()
    first.close()
    third = own_log(tmp_path / "a-1.log")
    assert third.name == first.name
    third.close()
    assert (tmp_path / "a-1.log").read_bytes() == b""
