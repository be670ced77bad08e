import json

import pytest

from recbench.cli.main import main


@pytest.fixture
def playlists(tmp_path):
    """Thirty playlists that walk around a circle of eight tracks."""
    path = tmp_path / "lists.jsonl"
    lines = ({"playlist": f"p{i}", "tracks": [f"track {(i + step) % 8}" for step in range(7)]} for i in range(30))
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def run(path, folder, *words):
    places = [f"runs_dir={folder}/runs", f"cache_dir={folder}/cache"]
    return main(["data=playlists", f"data.path={path}", "data.k_core=0", "tracking=off", *places, *words])


def test_the_order_of_the_tracks_is_learned(playlists, tmp_path):
    assert run(playlists, tmp_path, "model=markov") == 0
    (found,) = (tmp_path / "runs").glob("markov-*/metrics.json")
    assert json.loads(found.read_text())["test/hr@1"] == 1


def test_a_line_that_is_no_playlist_is_named(playlists, tmp_path, capsys):
    playlists.write_text(playlists.read_text() + '{"tracks": 3}\n')
    assert run(playlists, tmp_path, "model=popularity") == 2
    assert "line 31, is no playlist" in capsys.readouterr().err
