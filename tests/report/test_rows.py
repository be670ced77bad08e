"""Runs to rows."""

from __future__ import annotations

import json

from recbench.report.collect import read_folder
from recbench.report.rows import rows_of


def named(folders):
    return {row.name: [run.seed for run in row.runs] for row in rows_of(read_folder(folders.path))}


def test_seeds_of_one_config_are_one_row_wherever_they_ran(folders):
    folders.add("sasrec-b", seed=2, config={"hardware": {"threads": 8}, "runs_dir": "elsewhere"})
    folders.add("sasrec-a", seed=10)
    assert named(folders) == {"sasrec": [2, 10]}


def test_rows_of_one_model_are_named_by_what_differs(folders):
    folders.add("sasrec-1", config={"training": {"lr": 0.003}})
    folders.add("sasrec-2")
    folders.add("sasrec-3", config={"distillation": {"name": "logits"}})
    folders.add("ease-1", config={"model": {"name": "ease"}})
    assert set(named(folders)) == {"sasrec lr=0.003", "sasrec lr=0.001", "sasrec + logits", "ease"}


def test_a_field_that_came_later_does_not_split_a_row(folders):
    """An older config lacks keys that a newer one holds at their default."""
    folders.add("popularity-1", config={"model": {"name": "popularity", "hidden_size": 0}})
    import yaml

    path = folders.path / "popularity-1" / "config.yaml"
    old = {**yaml.safe_load(path.read_text()), "model": {"name": "popularity"}, "cache_dir": "c"}
    old["hardware"], old["tracking"] = {"name": "auto"}, {"name": "off"}
    path.write_text(yaml.safe_dump(old))
    folders.add("popularity-2", seed=2)
    newer = {**old, "seed": 2, "training": {**old["training"], "l2": 0.0, "patience": 10}}
    (folders.path / "popularity-2" / "config.yaml").write_text(yaml.safe_dump(newer))
    assert named(folders) == {"popularity": [1, 2]}


def test_the_same_seed_twice_makes_two_rows_with_two_names(folders):
    folders.add("sasrec-1")
    folders.add("sasrec-2")
    rows = rows_of(read_folder(folders.path))
    assert [len(row.runs) for row in rows] == [1, 1]
    assert len({row.name for row in rows}) == 2


def test_of_keys_that_vary_together_the_one_that_a_command_named_is_told(folders):
    for i, size in enumerate((32, 64)):
        path = folders.add(f"sasrec-{i}", config={"model": {"hidden_size": size, "feedforward_size": 4 * size}})
        assert set(named(folders)) <= {"sasrec", "sasrec hidden_size=32", "sasrec hidden_size=64"}
    for path in folders.path.iterdir():
        made = json.loads((path / "provenance.json").read_text())
        command = "recbench -m model=sasrec model.feedforward_size=128,256"
        (path / "provenance.json").write_text(json.dumps({**made, "command": command}))
    assert set(named(folders)) == {"sasrec feedforward_size=128", "sasrec feedforward_size=256"}


def test_many_keys_are_cut_to_those_that_tell_rows_apart_and_never_to_a_hash(folders):
    for i in range(8):
        bits = {f"k{j}": (i >> j) & 1 for j in range(3)} | {f"x{j}": (i * (j + 3)) % 7 for j in range(4)}
        folders.add(f"sasrec-{i}", config={"model": bits})
    names = list(named(folders))
    assert len(set(names)) == 8
    assert not any("#" in name for name in names)
    assert all(name.count("=") <= 4 for name in names)
