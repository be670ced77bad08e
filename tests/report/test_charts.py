"""Charts as parts of a page."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from recbench.report.charts import clusters, curves_chart, pareto_chart, swatch
from recbench.report.columns import Axis
from recbench.report.curves import Curve
from recbench.report.pareto import Point, front

HOSTILE = "--> <script>alert(1)</script> $\\frac{\" & 'x'"


def test_a_chart_is_well_formed_and_asks_for_nothing():
    points = front({HOSTILE: (10.0, 0.2), "b": (1e6, 0.3)})
    chart = pareto_chart(
        Axis("parameters_total", "parameters", "values"), points, "ndcg@10", {HOSTILE: 1, "b": 2}, "one"
    )
    ElementTree.fromstring(chart.svg.replace("xlink:href", "href"))
    assert "http" not in chart.svg
    assert "<script" not in chart.svg
    assert HOSTILE in chart.text
    assert set(re.findall(r"#[0-9a-f]{6}\b", chart.svg)) <= {"#000000", "#ffffff"}


def test_ids_of_two_charts_never_meet():
    curves = [Curve("a", (1, 2), (1.0, 2.0), (0.1, 0.2))]
    found = [curves_chart(curves, "ndcg@10", {"a": 0}, "epochs", name).svg for name in ("one", "two")]
    ids = [set(re.findall(r'id="([^"]+)"', svg)) for svg in found]
    assert ids[0]
    assert ids[0].isdisjoint(ids[1])
    for svg, own in zip(found, ids, strict=True):
        assert set(re.findall(r'(?:href="|url\()#([^")]+)', svg)) <= own


def test_a_chart_says_in_words_what_it_shows():
    chart = curves_chart(
        [Curve("a", (1, 2, 3), (1.0, 2.0, 3.0), (0.1, 0.3, 0.2))], "ndcg@10", {"a": 0}, "epochs", "one"
    )
    assert "a 0.3000 at epoch 2" in chart.text
    assert 'role="img"' in chart.svg
    assert "a 0.3000 at epoch 2" in chart.svg


def test_points_that_lie_together_share_a_label():
    points = [
        Point("a", 1.0, 0.5, True),
        Point("b", 1.0, 0.499, False),
        Point("c", 9.0, 0.9, True),
        Point("d", 5.0, 0.1, False),
    ]
    assert sorted(sorted(names) for _, _, names in clusters(points, log=False)) == [["a", "b"], ["c"], ["d"]]


def test_swatches_differ():
    assert len({swatch(i) for i in range(8)}) == 8
