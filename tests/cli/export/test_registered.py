"""A run as a registered model: what the stored code answers, what it refuses, and `mlflow models serve` in front of it."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request

import pytest

from benchmarks.serving import serve
from recbench.cli.export.registered import register_run
from recbench.cli.recommend.answer import recommend
from recbench.cli.recommend.histories import histories_of_users
from recbench.cli.recommend.model_of_run import open_model
from recbench.core.errors import UserError
from recbench.experiment.run import run

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def registered(run_config, tmp_path_factory):
    place = tmp_path_factory.mktemp("served")
    words = ("model=sasrec", "model.hidden_size=16", "training.max_epochs=1", "training.max_length=20")
    opened = open_model(run(run_config(place / "runs", *words)).folder.path)
    uri = f"sqlite:///{place}/mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)  # artifacts of a database in a file lie beside where it was made
        made = register_run(opened, "tiny", uri)
        yield place, opened, uri, made


def test_the_stored_model_answers_as_recommend_does_and_holds_no_pickle(registered):
    import mlflow
    import pandas as pd

    place, opened, uri, made = registered
    assert made.uri == "models:/tiny/1"
    mlflow.set_tracking_uri(uri)
    assert opened.key in mlflow.MlflowClient().get_model_version("tiny", "1").description
    folder = mlflow.artifacts.download_artifacts(made.uri, dst_path=str(place / "fetched"))
    files = [name for _, _, names in os.walk(folder) for name in names]
    assert "served_model.py" in files
    assert not [name for name in files if name.endswith((".pkl", ".pickle", ".pt", ".bin"))]
    model = mlflow.pyfunc.load_model(made.uri)
    asked = histories_of_users(opened.stage.data, opened.stage.split, ["u003", "u007"])
    names = opened.stage.data.item_table()["item"].to_list()
    rows = [[names[i - 1] for i in history.items] for history in asked]
    found = model.predict(pd.DataFrame({"history": rows, "k": [5, 5]}))
    for expected, items in zip(recommend(opened, asked, 5, None), found["items"], strict=True):
        assert [names[i - 1] for i in expected.items] == items
    first = found["items"][0][0]
    without = model.predict(pd.DataFrame({"history": rows[:1], "k": [5], "excluded": [[first]]}))["items"][0]
    assert first not in without
    assert without[:4] == found["items"][0][1:]
    with pytest.raises(Exception, match="none of the 1 items of the history is known"):
        model.predict(pd.DataFrame({"history": [["no such"]]}))


def test_what_has_no_program_is_refused(registered, run_config, tmp_path):
    opened = open_model(run(run_config(tmp_path, "model=markov")).folder.path)
    with pytest.raises(UserError, match="'markov' cannot be exported"):
        register_run(opened, "counting", registered[2])
    with pytest.raises(UserError, match="has no '/'"):
        register_run(opened, "a/b", registered[2])
    with pytest.raises(UserError, match=r"the model is not registered: postgresql://.*\("):
        register_run(registered[1], "away", "postgresql://user:word@127.0.0.1:9/none")


def test_mlflow_models_serve_answers(registered):
    place, opened, uri, made = registered
    server, port = serve(made.uri, uri, place)
    try:
        names = opened.stage.data.item_table()["item"].to_list()
        body = {"dataframe_records": [{"history": names[:3], "k": 4}, {"history": names[5:6], "k": 4}]}
        answer = _ask(port, body)
        assert [len(row["items"]) for row in answer["predictions"]] == [4, 4]
        with pytest.raises(urllib.error.HTTPError) as refused:
            _ask(port, {"dataframe_records": [{"history": ["no such"]}]})
        assert refused.value.code == 400
    finally:
        os.killpg(server.pid, 15)
        server.wait(20)


def _ask(port, body):
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as found:
        return json.load(found)
