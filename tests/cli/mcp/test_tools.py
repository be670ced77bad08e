"""The tools of recbench mcp: what they answer by themselves, and through the SDK's own client over stdin and stdout."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest

from recbench.cli.mcp.tools import Runs, compare, explain_run, recommend
from recbench.core.errors import UserError
from recbench.experiment.run import run


@pytest.fixture(scope="module")
def folders(run_config, tmp_path_factory):
    place = tmp_path_factory.mktemp("runs")
    return [run(run_config(place, f"model={name}")).folder.path for name in ("markov", "popularity")]


def test_the_tools_answer_and_refuse(folders):
    runs = Runs.of(folders)
    items = [row["item"] for row in recommend(runs, user="u003", k=4)["items"]]
    assert len(items) == 4
    answer = recommend(runs, history=items[:2], k=3, run=folders[1].name)
    assert answer["model"] == "popularity"
    assert not {row["item"] for row in answer["items"]} & set(items[:2])
    told = explain_run(runs)
    assert told["run"] == folders[0].name
    assert told["figures"]["test/ndcg@10"] == json.loads((folders[0] / "metrics.json").read_text())["test/ndcg@10"]
    assert compare(runs, "ndcg@10")[0]["name"] == "markov"
    for wrong, message in (
        ({"history": ["no such"]}, "unknown item"),
        ({"user": "u003", "k": 0}, "k must lie"),
        ({}, "give either"),
        ({"user": "u003", "run": "x"}, "there is no run 'x'"),
    ):
        with pytest.raises(UserError, match=message):
            recommend(runs, **wrong)
    with pytest.raises(UserError, match="no finished run"):
        Runs.of([folders[0].parent])


@pytest.mark.services
def test_the_sdks_client_is_answered(folders):
    from mcp import Client, StdioServerParameters

    words = ["-m", "recbench", "mcp", *map(str, folders)]

    async def ask():
        async with Client(
            StdioServerParameters(command=sys.executable, args=words), read_timeout_seconds=120
        ) as client:
            listed = await client.list_tools()
            known = await client.call_tool("recommend", {"user": "u003", "k": 2})
            verdicts = await client.call_tool("compare", {"metric": "hr@10"})
            unknown = await client.call_tool("recommend", {"history": ["no such"]})
            return listed, known, verdicts, unknown

    listed, known, verdicts, unknown = asyncio.run(ask())
    assert {tool.name for tool in listed.tools} == {"recommend", "explain_run", "compare"}
    assert all(tool.annotations.read_only_hint for tool in listed.tools)
    assert known.structured_content == recommend(Runs.of(folders), user="u003", k=2)
    assert verdicts.structured_content["metric"] == "hr@10"
    assert unknown.is_error
    assert "unknown item 'no such'" in unknown.content[0].text
