"""Every command that reads runs says which file is damaged and what to do, before it shows a table, and never with a traceback."""

from __future__ import annotations

import shutil

import pytest

import recbench
from recbench.core.errors import UserError

FILES = ["status.json", "config.yaml", "provenance.json", "metrics.json", "ranks.parquet", "weights.safetensors"]
HARMS = {"cut": lambda b: b[: len(b) // 2], "garbled": lambda b: bytes(x ^ 0x5A for x in b), "empty": lambda b: b""}


@pytest.fixture(scope="module")
def made(cli, tiny, tmp_path_factory):
    """A folder with two finished runs."""
    folder = tmp_path_factory.mktemp("made")
    assert cli("-m", "model=popularity,markov", *tiny, cwd=folder).status == 0
    return folder


@pytest.fixture
def place(made, tmp_path):
    shutil.copytree(made / "runs", tmp_path / "runs")
    return tmp_path


@pytest.fixture(params=[(name, harm) for name in FILES for harm in HARMS], ids=lambda p: f"{p[0]}-{p[1]}")
def damaged(request, place):
    """(the run, the file of it that is damaged)."""
    name, harm = request.param
    (run,) = (place / "runs").glob("markov-*")
    path = run / name
    path.write_bytes(HARMS[harm](path.read_bytes()))
    return run, path


def says(found, path) -> bool:
    lines = [line for line in found.err.splitlines() if path.name in line and "again" in line]
    return bool(lines) and "Traceback" not in found.err + found.out


def test_commands_for_one_run_end_with_a_line(damaged, place, cli, tiny):
    run, path = damaged
    (other,) = (place / "runs").glob("popularity-*")
    for words in (
        ["compare", str(run), str(other)],
        ["recommend", str(run), "--user", "1"],
        ["export", str(run), "--to", "out"],
        ["model=markov", *tiny],
        ["-m", "model=markov,popularity", *tiny],
        ["audit", *tiny],
    ):
        found = cli(*words, cwd=place)
        assert found.status == 2, (words, found)
        assert says(found, path), (words, found.err)
        assert "ndcg@10" not in found.out.split("popularity")[0], words


def test_commands_for_a_folder_leave_it_out_and_say_so(damaged, place, cli):
    _, path = damaged
    for words in (["report", "runs_dir=runs", "tracking=off"], ["runs", "list"]):
        found = cli(*words, cwd=place)
        assert found.status == 0, (words, found)
        assert says(found, path), (words, found.err)
    assert "half-written" in found.out


def test_python_says_it_too(damaged, place, caplog):
    run, path = damaged
    with pytest.raises(UserError, match=path.name):
        recbench.load(run)
    with pytest.raises(UserError, match=path.name):
        recbench.compare_runs([run])
    with caplog.at_level("WARNING"):
        assert recbench.results(place / "runs")["model"].to_list() == ["popularity"]
    assert path.name in caplog.text


@pytest.mark.parametrize("name", ["status.json", "config.yaml", "provenance.json", "metrics.json"])
def test_a_file_that_is_gone(place, cli, tiny, name):
    (run,) = (place / "runs").glob("markov-*")
    (run / name).unlink()
    for words in (["compare", str(run)], ["model=markov", *tiny], ["recommend", str(run), "--user", "1"]):
        found = cli(*words, cwd=place)
        assert found.status == 2, words
        assert says(found, run / name), (words, found.err)


def test_a_sweep_goes_on_with_its_other_jobs_and_is_made_good(place, cli, tiny):
    (run,) = (place / "runs").glob("markov-*")
    (run / "metrics.json").write_text("{")
    found = cli("-m", "model=markov,popularity", *tiny, cwd=place)
    assert found.status == 2
    assert "1 of 2 jobs finished" in found.out
    shutil.rmtree(run)  # as the line says
    assert cli("-m", "model=markov,popularity", *tiny, cwd=place).status == 0


def test_a_record_of_a_job_that_is_damaged(place, cli):
    from recbench.experiment.sweep import read_records

    (record, *_) = sorted((place / "runs" / "sweeps").glob("*/job-*.json"))
    record.write_text('{"job": ')
    with pytest.raises(UserError, match=r"job-00000\.json .*delete the file"):
        read_records(record.parent)


def test_ranks_whose_middle_is_damaged(place, cli):
    """Head and foot are whole, so it is known only when the ranks are read: still before the table."""
    (run,) = (place / "runs").glob("markov-*")
    content = bytearray((run / "ranks.parquet").read_bytes())
    for at in range(8, 60):
        content[at] ^= 0xFF
    (run / "ranks.parquet").write_bytes(content)
    found = cli("compare", str(run), cwd=place)
    assert found.status == 2
    assert says(found, run / "ranks.parquet")
    with pytest.raises(UserError, match=r"ranks\.parquet"):
        _ = recbench.load(run).ranks
