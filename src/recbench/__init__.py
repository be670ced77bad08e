"""recbench: sequential recommenders compared under one split, one ranking kernel, one budget and one result row.

From Python, with the keys of the command line:

    import recbench

    result = recbench.run("model=sasrec", "data=synthetic", "tracking=off")
    result.metrics["test/ndcg@10"]
    result.recommend(user="17", k=5)

``import recbench`` loads nothing heavy: torch and Hydra are imported by the first call that needs them. What is listed in ``__all__`` is the
interface for people, and ``recbench.models`` the one for packages with models of their own; other modules may change at any time.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recbench.cli.face.comparison import Comparison, compare_runs
    from recbench.cli.face.frames import Data, load_data
    from recbench.cli.face.jobs import Failure, Sweep, run, sweep
    from recbench.cli.face.result import Result, load
    from recbench.cli.face.studies import StudyResult, run_study
    from recbench.cli.face.tables import results
    from recbench.core.errors import UserError

__version__ = "0.1.0"

__all__ = [
    "Comparison",
    "Data",
    "Failure",
    "Result",
    "StudyResult",
    "Sweep",
    "UserError",
    "compare_runs",
    "load",
    "load_data",
    "results",
    "run",
    "run_study",
    "sweep",
]

#: Where each public name lives. None of them may be the name of a room: importing a room would take its place.
_HOMES = {
    **dict.fromkeys(("Comparison", "compare_runs"), "recbench.cli.face.comparison"),
    **dict.fromkeys(("Data", "load_data"), "recbench.cli.face.frames"),
    **dict.fromkeys(("Failure", "Sweep", "run", "sweep"), "recbench.cli.face.jobs"),
    **dict.fromkeys(("Result", "load"), "recbench.cli.face.result"),
    **dict.fromkeys(("StudyResult", "run_study"), "recbench.cli.face.studies"),
    "results": "recbench.cli.face.tables",
    "UserError": "recbench.core.errors",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'recbench' has no attribute '{name}'")
    found = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
