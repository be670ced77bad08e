"""The thread that reads ahead is never waited for by who stops reading: the garbage collector may be that, in the middle of starting a thread."""

from __future__ import annotations

import threading

from recbench.data.sources import raw_lines


def test_who_takes_a_line_and_leaves_is_not_kept_waiting(tmp_path, monkeypatch):
    path = tmp_path / "rows.csv"
    path.write_text("a\nb\n")
    asked, go_on = threading.Event(), threading.Event()

    class Slow:
        """Gives a line, and then nothing until it may."""

        def read(self, size):
            if not asked.is_set():
                asked.set()
                return b"a\n"
            go_on.wait(30)
            return b""

    monkeypatch.setattr(raw_lines, "_unpacking", lambda file, kind: Slow())
    blocks = raw_lines.line_blocks(path, 2)
    assert next(blocks) == (1, b"a\n")
    pieces = blocks.gi_frame.f_locals["pieces"]
    leaving = threading.Thread(target=pieces.close, daemon=True)
    leaving.start()
    leaving.join(5)
    waited = leaving.is_alive()
    go_on.set()
    assert not waited
