"""What a run imports in order to send itself to MLflow; ``forked.py`` has it imported once, where a study is tracked there.

MLflow reads its settings when it is imported, so they are the ones of a run.
"""

import contextlib
from importlib import import_module

from recbench.config.settings import TrackingConfig
from recbench.tracking.client import reachable
from recbench.tracking.store import Unreachable

# Without MLflow each run says for itself that it cannot be sent.
with contextlib.suppress(Unreachable), reachable(TrackingConfig()):
    for module in ("recbench.tracking.library", "mlflow.store.tracking.sqlalchemy_store"):
        import_module(module)
