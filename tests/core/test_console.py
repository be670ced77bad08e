"""No control character reaches a terminal, by whichever way it comes."""

from __future__ import annotations

import io
import json
import logging
import sys

import pytest

from recbench.core.console import CleanFormatter, clean, clean_json, clean_line, console, filtered_output

EVIL = "a\x1b[2Jb\x07c\x9b31md\x7fe\u202ef\udcff"


def is_clean(text: str) -> bool:
    return not any(c in text for c in "\x1b\x07\x9b\x7f\u202e\udcff\r")


def test_text_keeps_its_tabs_and_line_ends():
    assert clean("a\tb\nc é 漢字") == "a\tb\nc é 漢字"
    assert clean(EVIL) == "a?[2Jb?c?31md?e?f?"


def test_a_message_is_one_line():
    assert clean_line(ValueError(f"one\ntwo {EVIL}\r\nthree")) == "one two a?[2Jb?c?31md?e?f? three"


def test_json_loses_nothing():
    text = clean_json(json.dumps({"id": EVIL[:-1]}, ensure_ascii=False))
    assert is_clean(text)
    assert json.loads(text)["id"] == EVIL[:-1]


def test_what_anybody_prints_is_filtered(monkeypatch):
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    with filtered_output():
        print(EVIL, "p://u:secret@h")
        sys.stderr.writelines([EVIL, "\n"])
    assert sys.stdout is out
    assert is_clean(out.getvalue() + err.getvalue())
    assert "secret" not in out.getvalue()


@pytest.mark.parametrize("terminal", [False, True])
def test_tables_draw_with_their_own_escapes_alone(monkeypatch, terminal):
    from rich.table import Table

    out = io.StringIO()
    out.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setenv("TERM", "xterm-256color")
    table = Table(title=EVIL)
    table.add_column(EVIL)
    table.add_row(EVIL)
    with filtered_output():
        console().print(table)
    found = out.getvalue()
    assert "[2J" in found
    assert "\x1b[2J" not in found
    assert ("\x1b[" in found) == terminal
    assert not any(c in found for c in "\x07\x9b\x7f\u202e")


def test_lines_of_a_log_are_filtered_with_their_traceback():
    try:
        raise OSError(EVIL + " p://u:secret@h")
    except OSError:
        record = logging.LogRecord("recbench", logging.ERROR, "", 1, "%s", (EVIL,), sys.exc_info())
    text = CleanFormatter("%(message)s").format(record)
    assert is_clean(text)
    assert "Traceback" in text
    assert "secret" not in text


def test_a_title_that_steers_reaches_no_terminal(cli, tmp_path):
    rows = "".join(f"u{u},\x1b[31mi{(u + i) % 9}\x07,{1_500_000_000 + 60 * i}\n" for u in range(12) for i in range(6))
    (tmp_path / "log.csv").write_text("user,item,time\n" + rows)
    words = [
        "data=table",
        "data.path=log.csv",
        "data.k_core=0",
        "tracking=off",
        "hardware=cpu",
        f"cache_dir={tmp_path}/c",
    ]
    columns = ["data.columns.user=user", "data.columns.item=item", "data.columns.timestamp=time"]
    assert cli("model=popularity", *words, *columns, cwd=tmp_path).status == 0
    (run,) = (tmp_path / "runs").glob("popularity-*")
    for more in ([], ["--json"], ["--user", "nobody\x1b[2J"]):
        found = cli("recommend", str(run), "--user", "u1", *more, cwd=tmp_path)
        assert is_clean(found.out + found.err), more
    assert "\x1b" not in cli("recommend", "no\x1b[2Jwhere", "--user", "u1", cwd=tmp_path).err
