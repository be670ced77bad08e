"""Folders that one process has for itself."""

from __future__ import annotations

import threading

from recbench.core.own_folder import claim, hold, is_held


def test_everybody_gets_a_folder_of_their_own(tmp_path):
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(claim(tmp_path / "a" / "now").name)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == ["now", *(f"now-{n}" for n in range(2, 9))]


def test_a_folder_is_held_until_it_is_let_go(tmp_path):
    folder = tmp_path / "search"
    assert not is_held(folder)
    lock = hold(folder)
    assert is_held(folder)
    got: list[object] = []
    waiting = threading.Thread(target=lambda: got.append(hold(folder)))
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive()
    lock.release()
    waiting.join(20)
    assert got
    got[0].release()
    assert not is_held(folder)
