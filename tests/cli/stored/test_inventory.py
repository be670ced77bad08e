"""Which run needs which."""

from __future__ import annotations

import pytest

from recbench.cli.stored.inventory import Inventory, size_of
from recbench.core.errors import UserError


@pytest.fixture
def inventory(folders):
    """a <- b <- d, a <- c."""
    for key, needed in (("m-a", {}), ("m-b", {"x": "m-a"}), ("m-c", {"x": "m-a"}), ("m-d", {"y": "m-b"})):
        folders.add(key, dependencies=needed)
    return Inventory.of(folders.path)


def test_needs_are_known_both_ways(inventory):
    assert inventory.needs("m-d") == {"y": "m-b"}
    assert inventory.needed_by("m-a") == ["m-b", "m-c"]
    assert inventory.needed_by("m-d") == []


@pytest.mark.parametrize(
    ("going", "expected"),
    [(["m-d"], ["m-b"]), (["m-d", "m-c"], ["m-a", "m-b"]), (["m-b"], []), (["m-c"], []), (["m-a"], [])],
)
def test_what_only_these_need(inventory, going, expected):
    assert inventory.only_needed_by(going) == expected


def test_a_key_wins_over_keys_that_it_begins(folders):
    for key in ("m-1", "m-12"):
        folders.add(key)
    assert Inventory.of(folders.path).find("m-1").key == "m-1"


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no run"):
        Inventory.of(tmp_path)


def test_sizes_count_files_and_no_link(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_bytes(b"12345")
    (tmp_path / "a" / "link").symlink_to("/")
    assert 5 <= size_of(tmp_path / "a") < 100
