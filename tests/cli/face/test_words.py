"""The words of a call, and what a call leaves as it found it."""

from __future__ import annotations

import logging
import os

import pytest

from recbench.cli.face.words import messages, own_hydra, words_of
from recbench.core.errors import UserError


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["model=a data=b"], ("model=a", "data=b")),
        (["model=a", ["data=b", "seed=1"]], ("model=a", "data=b", "seed=1")),
        (["data.path='my file x=1.csv' seed=1"], ("data.path='my file x=1.csv'", "seed=1")),
        (['data.separator=" " seed=1'], ('data.separator=" "', "seed=1")),
        (["model.t.training={epochs: 1, lr: 2} ++seed=1"], ("model.t.training={epochs: 1, lr: 2}", "++seed=1")),
        (["name=two words"], ("name=two words",)),
        (["  seed=1  "], ("seed=1",)),
        (["hydra/launcher=joblib tuned@_global_=x"], ("hydra/launcher=joblib", "tuned@_global_=x")),
        ([""], ()),
    ],
)
def test_words_are_split_where_a_key_begins(given, expected):
    assert words_of(given) == expected


@pytest.mark.parametrize("given", [[3], [["seed=1", 3]], [None]])
def test_what_is_no_text_is_refused(given):
    with pytest.raises(UserError, match="give words as text"):
        words_of(given)


def test_messages_go_to_stderr_and_nothing_stays(capsys):
    package, root = logging.getLogger("recbench"), logging.getLogger()
    kept = list(root.handlers)
    root.handlers.clear()
    try:
        with messages():
            package.info("at work")
        assert capsys.readouterr().err == "at work\n"
        assert package.handlers == []
        assert package.propagate
    finally:
        root.handlers[:] = kept


def test_messages_go_where_the_caller_sends_them(caplog, capsys):
    caplog.set_level(logging.INFO)
    with messages():
        logging.getLogger("recbench.x").info("at work")
    assert "at work" in caplog.text
    assert capsys.readouterr().err == ""


def test_what_a_sweep_changes_is_put_back():
    from hydra.core.global_hydra import GlobalHydra

    before = dict(os.environ), list(logging.getLogger().handlers), GlobalHydra.instance().hydra
    with own_hydra():
        os.environ["RECBENCH_SWEEP_PARENT"] = "x"
        os.environ.pop("PATH")
        logging.getLogger().addHandler(logging.NullHandler())
        GlobalHydra.instance().hydra = object()
    assert (dict(os.environ), list(logging.getLogger().handlers), GlobalHydra.instance().hydra) == before
