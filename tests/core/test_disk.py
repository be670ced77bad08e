"""Files and folders are seen whole or not at all."""

from __future__ import annotations

import errno

import pytest

from recbench.core.disk import disk_errors, remove_leftovers, whole_folder, write_atomically
from recbench.core.errors import UserError


def test_a_file_takes_its_place_only_when_the_block_ends_well(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), write_atomically(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    with write_atomically(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_takes_its_name_only_when_the_block_ends_well(tmp_path):
    folder = tmp_path / "made"
    with pytest.raises(KeyboardInterrupt), whole_folder(folder) as working:
        working.mkdir()
        (working / "a").touch()
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())
    with whole_folder(folder) as working:
        working.mkdir()
        assert not folder.exists()
    assert list(tmp_path.iterdir()) == [folder]


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path):
    for name in ("made", ".made.123", ".made.7", "made2", ".other.1"):
        (tmp_path / name).mkdir()
    (tmp_path / ".made.lock").touch()
    remove_leftovers(tmp_path / "made")
    assert {path.name for path in tmp_path.iterdir()} == {"made2", ".other.1", ".made.lock"}


@pytest.mark.parametrize(("number", "said"), [(errno.ENOSPC, "is full"), (errno.EROFS, "cannot write under")])
def test_failures_that_a_user_can_mend_name_the_setting(tmp_path, number, said):
    with pytest.raises(UserError, match=said) as caught, disk_errors(tmp_path, "cache_dir"):
        raise OSError(number, "no")
    assert "cache_dir" in str(caught.value)


def test_other_failures_pass(tmp_path):
    with pytest.raises(OSError, match="odd"), disk_errors(tmp_path, "cache_dir"):
        raise OSError(errno.EIO, "odd")
