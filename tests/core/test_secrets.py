"""Secrets of addresses leave a word before anybody sees it, and come back where a connection is opened."""

from __future__ import annotations

import json
import os

import pytest

from recbench.core import secrets
from recbench.core.secrets import hide, hide_values, redact, redact_values, reveal


@pytest.fixture(autouse=True)
def own_vault(monkeypatch):
    monkeypatch.setattr(secrets, "_hidden", {})
    monkeypatch.delenv(secrets.VARIABLE, raising=False)


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("tracking.uri=postgresql://ann:pa55word@db.example/m", "tracking.uri=postgresql://***@db.example/m"),
        ("--uri=mysql+pymysql://root:a/b?c#d@e@db:3306/m", "--uri=mysql+pymysql://***@db:3306/m"),
        ("mysql://root:12/34@db/m", "mysql://***@db/m"),
        ("https://tok-1234567@host/x", "https://***@host/x"),
        ("data.mirror=https://h/x?X-Amz-Signature=abc&part=1", "data.mirror=https://h/x?X-Amz-Signature=***&part=1"),
        ("http://h:8080/?api_key=s3cr3t#top", "http://h:8080/?api_key=***#top"),
        ("a=p://u:one@h/1,p://v:two@i/2", "a=p://***@h/1,p://***@i/2"),
        ("'postgresql://me:pw@h/d'", "'postgresql://***@h/d'"),
    ],
)
def test_a_secret_is_hidden_and_found_again(word, shown):
    assert hide(word) == shown
    assert reveal(shown) == word
    assert hide(shown) == shown
    assert redact(word) == shown


@pytest.mark.parametrize(
    "word",
    [
        "http://h:8080/x@y",
        "sqlite:////home/me@work/m.db",
        "http://[::1]:5000/a@b",
        "training.lr=1",
        "s3://b/a:b@c",
        "a@b.c",
    ],
)
def test_what_is_no_secret_stays(word):
    assert hide(word) == word == redact(word)


def test_two_users_of_one_server_are_told_apart_in_a_process_and_alike_where_it_is_stored():
    one, two = hide("p://a:x@h/1"), hide("p://b:y@h/1")
    assert one != two
    assert (reveal(one), reveal(two)) == ("p://a:x@h/1", "p://b:y@h/1")
    assert redact(one) == redact(two) == "p://***@h/1"


def test_a_mark_of_another_server_is_given_no_secret():
    hide("p://a:x@h/1")
    assert reveal("p://***@evil/1") == "p://***@evil/1"


def test_a_process_that_is_started_knows_what_was_hidden(monkeypatch):
    hide("p://ann:wonderful@h/1")
    told = os.environ[secrets.VARIABLE]
    assert json.loads(told)
    monkeypatch.setattr(secrets, "_hidden", {})
    assert reveal("p://***@h/1") == "p://ann:wonderful@h/1"
    assert redact("no wonderful day") == "no *** day"


def test_messages_of_drivers_lose_user_and_password_even_out_of_their_address():
    hide("postgresql://ann:p%40ssword@h/m")
    said = redact('FATAL: authentication failed for user "ann" with p@ssword or p%40ssword; cannot plan')
    assert said == 'FATAL: authentication failed for user "***" with *** or ***; cannot plan'


@pytest.mark.parametrize(
    "name", ["MLFLOW_TRACKING_PASSWORD", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD", "X_API_KEY"]
)
def test_values_of_variables_that_hold_secrets_are_never_shown(monkeypatch, name):
    monkeypatch.setenv(name, "correct-horse")
    assert redact("401 for correct-horse") == "401 for ***"


@pytest.mark.parametrize(
    ("name", "value"),
    [("TOKENIZERS_PARALLELISM", "false"), ("MY_TOKEN", "true"), ("PWD", "/home/ann"), ("A_TOKEN", "1")],
)
def test_other_variables_are_no_secrets(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert redact(f"it is {value}, {value}") == f"it is {value}, {value}"


def test_nested_values():
    values = {"tracking": {"uri": "p://u:secret@h/m"}, "list": ["p://u:secret@h/m", 3], "n": None}
    stored = {"tracking": {"uri": "p://***@h/m"}, "list": ["p://***@h/m", 3], "n": None}
    assert redact_values(values) == stored == hide_values(values)


def test_the_saved_view_in_a_link_of_mlflow_is_no_secret():
    link = "http://127.0.0.1:5000/#/experiments/1/runs?compareRunsMode=CHART&viewStateShareKey=5f0c2b"
    assert redact(link) == link
    assert redact(f"{link}&apiKey=abcdef") == f"{link}&apiKey=***"
