from recbench.cli.main import main


def test_runs_are_listed_by_what_they_cost(tmp_path, capsys):
    data = ["data=synthetic", "data.n_users=60", "data.n_items=60", "tracking=off", f"cache_dir={tmp_path}/cache"]
    assert main([*data, "model=itemknn", f"runs_dir={tmp_path}/runs"]) == 0
    capsys.readouterr()
    assert main(["cheapest", str(tmp_path / "runs")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[-1].split("-")[0] for line in lines} == {"itemknn", "popularity"}
    assert [float(line.split()[0]) for line in lines] == sorted(float(line.split()[0]) for line in lines)


def test_the_help_lists_it_and_a_wrong_folder_is_named(tmp_path, capsys):
    assert main(["--help"]) == 0
    assert "cheapest" in capsys.readouterr().out
    assert main(["cheapest", str(tmp_path)]) == 2
    assert "holds no finished run" in capsys.readouterr().err
