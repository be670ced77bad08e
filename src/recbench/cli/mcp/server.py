"""The tools behind the official SDK of the Model Context Protocol. A mistake of the asker is answered with its one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from recbench import __version__
from recbench.cli.mcp import tools
from recbench.core.errors import UserError

if TYPE_CHECKING:
    from mcp.server import MCPServer


def make_server(runs: tools.Runs) -> MCPServer:
    """A server whose tools ask the given runs; needs the extra ``mcp``."""
    from mcp.server import MCPServer
    from mcp.types import ToolAnnotations

    read_only = ToolAnnotations(
        read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
    )
    server = MCPServer(
        "recbench",
        instructions=f"Asks finished recommendation runs. Their keys: {', '.join(runs.folders)}.",
        version=__version__,
        log_level="WARNING",
    )

    @server.tool(annotations=read_only)
    def recommend(
        history: list[str] | None = None,
        user: str | None = None,
        k: int = 10,
        run: str | None = None,
        times: list[str] | None = None,
    ) -> dict[str, Any]:
        """The best k items for a history (raw item ids, oldest first) or for a known user, with ids, titles and scores. times: one an item, ISO
        dates or Unix seconds, for models that read them. run: the key of a run; by default the first."""
        return _told(lambda: tools.recommend(runs, history, user, k, run, times))

    @server.tool(annotations=read_only)
    def explain_run(run: str | None = None) -> dict[str, Any]:
        """What a run is: model and settings, test figures and costs, protocol with its audit (how much the split leaks), where it comes from."""
        return _told(lambda: tools.explain_run(runs, run))

    @server.tool(annotations=read_only)
    def compare(metric: str = "ndcg@10", reference: str | None = None) -> dict[str, Any]:
        """The runs judged against each other by a metric such as ndcg@10, hr@20 or mrr: means, 95 % intervals of users and seeds, and groups; runs
        that share a letter are not told apart. reference: the name of the one that the others are compared with."""
        return _told(lambda: {"metric": metric, "verdicts": tools.compare(runs, metric, reference)})

    return server


def _told(answer: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    from mcp.server.mcpserver.exceptions import ToolError

    try:
        return answer()
    except UserError as error:
        raise ToolError(str(error)) from error
