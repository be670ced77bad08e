"""Runs to rows."""

from __future__ import annotations

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
