"""The page that compares runs: test figures first, a short address, and a plot of what differs between the runs that were asked for."""

from __future__ import annotations

import json

from recbench.config.settings import TrackingConfig
from recbench.tracking.store import EXPERIMENT_TAG_LENGTH, Entry
from recbench.tracking.ui_links import comparable, comparison
from recbench.tracking.views import varying, view


def entry(run_id, metrics=None, **parameters):
    figures = {"test/ndcg_at_10": 0.1, "test/hr_at_10": 0.2, "cost/parameters_total": 5.0, **(metrics or {})}
    return Entry(
        run_id, "FINISHED", 0, {}, {name.replace("__", "."): value for name, value in parameters.items()}, figures
    )


def test_parallel_coordinates_show_what_every_run_has_and_what_differs():
    runs = [
        entry("a", model="sasrec", seed="1", training__lr="0.1", data="x", model__n_layers="2"),
        entry("b", model="sasrec", seed="2", training__lr="0.2", data="x", model__n_layers="4"),
        entry("c", model="markov", seed="1", training__lr="0.1", data="x"),
    ]
    # training.lr divides them as the seed does; markov has no layers; the data are the same.
    assert varying(runs) == ["model", "seed"]
    assert varying(runs[:2]) == ["seed"]
    assert varying([]) == []


def test_words_among_numbers_are_no_axis():
    """MLflow would leave out the runs of the fewer kind."""
    assert varying([entry("a", k="1"), entry("b", k="2"), entry("c", k="auto")]) == []
    assert varying([entry("a", k="x"), entry("b", k="y"), entry("c", k="auto")]) == ["k"]


def test_a_view_begins_with_the_test_figures_and_ends_the_plot_with_the_headline():
    spent = "cost/train_seconds_with_dependencies"
    runs = [entry("a", {spent: 1.0}, model="a"), entry("b", {spent: 2.0}, model="b")]
    state = json.loads(view("tags.a = 'b'", runs))
    assert [chart.get("metricKey") for chart in state["compareRunCharts"]] == ["test/ndcg_at_10", "test/hr_at_10", None]
    plot = state["compareRunCharts"][-1]
    assert plot["type"] == "PARALLEL"
    assert plot["selectedParams"] == ["model"]
    assert plot["selectedMetrics"] == [spent, "test/ndcg_at_10"]
    sections = state["compareRunSections"]
    assert (sections[0]["name"], [section["display"] for section in sections].count(True)) == ("test", 1)
    assert state["orderByKey"] == "metrics.`test/ndcg_at_10`"
    assert state["searchFilter"] == "tags.a = 'b'"


def test_the_floor_of_a_sweep_does_not_decide_what_varies():
    runs = [
        entry("floor", model="popularity"),
        entry("a", model="sasrec", model__n_layers="1"),
        entry("b", model="sasrec", model__n_layers="2"),
    ]
    charts = json.loads(view("", runs, {"a", "b"}))["compareRunCharts"]
    assert charts[-1]["selectedParams"] == ["model.n_layers"]


def test_runs_without_test_figures_have_a_view_too():
    state = json.loads(view("", [Entry("a", "FINISHED", 0, {}, {"model": "rqvae"}, {"tokenizer/items": 3.0})]))
    assert state["compareRunCharts"] == []
    assert "orderByKey" not in state


def test_a_view_fits_into_a_tag():
    runs = [entry(str(n), **{f"p{k}_{'x' * 1500}": str(n * k) for k in range(9)}) for n in range(3)]
    assert len(view("", runs)) <= EXPERIMENT_TAG_LENGTH


class FakeClient:
    """Two runs, and what is saved."""

    def __init__(self):
        self.tags = {}

    def search(self, experiment, having, most):
        return [entry("a", model="a"), entry("b", model="b")]

    def set_experiment_tag(self, experiment, name, value):
        self.tags[name] = value


def address(uri):
    client = FakeClient()
    page = comparison(client, TrackingConfig(uri=uri), "7", comparable({"recbench.split_hash": "5911"}))
    (name,) = client.tags
    assert page.endswith(f"/#/experiments/7/runs?compareRunsMode=CHART&viewStateShareKey={name.rpartition('.')[2]}")
    return page


def test_the_address_is_short_and_has_no_password():
    assert address("sqlite:///mlflow.db").startswith("mlflow ui, then http://127.0.0.1:5000/#")
    assert len(address("http://server:5000/")) < 100
    assert address("https://me:secret@server/").startswith("https://server/#")
    page = address("postgresql://me:secret@host/db")
    assert page.startswith("mlflow ui --backend-store-uri postgresql://***@host/db, then http://127.0.0.1:5000/#")
