"""The way into a tracking store: opened within seconds or not at all, and every way in which it may be away is one error, Unreachable."""

from __future__ import annotations

import logging
import os
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from recbench.config.settings import TrackingConfig
from recbench.core.disk import is_full
from recbench.core.secrets import redact, redact_addresses, reveal
from recbench.tracking.local_database import database_file, prepare
from recbench.tracking.store import StoreFull, Unreachable

if TYPE_CHECKING:
    from recbench.tracking.library import Library

#: Databases whose drivers take ``connect_timeout``.
TIMED = ("postgresql", "mysql", "mariadb")


def open_client(config: TrackingConfig) -> Library:
    """MLflow's client of the store, in which recbench can write. Call it within ``reachable``."""
    uri = reveal(config.uri)
    path = database_file(uri)
    from recbench.tracking.library import Library

    if path is not None:
        prepare(path, lambda uri: Library(uri).client.search_experiments(max_results=1), config.timeout_seconds)
    elif "://" in uri and not uri.startswith(("http://", "https://", "file:", "databricks", "sqlite")):
        _try_database(uri, config.timeout_seconds)
    return Library(uri)


def _try_database(uri: str, seconds: int) -> None:
    """Connect once to a database server: MLflow itself would try for a minute and a half, whatever is wrong."""
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    arguments = {"connect_timeout": seconds} if uri.startswith(TIMED) else {}
    create_engine(uri, poolclass=NullPool, connect_args=arguments).connect().close()


def place_of(config: TrackingConfig) -> str:
    """How a run remembers where it was sent. Secrets are no part of it."""
    return f"{redact_addresses(config.uri)}#{config.experiment}"


@contextmanager
def reachable(config: TrackingConfig) -> Iterator[None]:
    """Give up soon on a store that does not answer, and say so as Unreachable whatever the client library raises."""
    limits = {
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(config.timeout_seconds),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "GIT_PYTHON_REFRESH": "quiet",
        "MLFLOW_LOGGING_LEVEL": "WARNING",  # else it tells of every table that it creates
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        # Read when MLflow is imported: it would report the use of its functions to its makers.
        "MLFLOW_DISABLE_TELEMETRY": os.environ.get("MLFLOW_DISABLE_TELEMETRY", "true"),
    }
    before = {name: os.environ.get(name) for name in limits}
    os.environ.update(limits)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # it warns of every retry
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:
        where = redact_addresses(config.uri)
        if is_full(error):
            raise StoreFull(f"{where} cannot be written: the disk is full; free some space") from error
        if _is_absence(error):
            raise Unreachable(f"{where} ({_reason(error)})") from error
        raise
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def _is_absence(error: Exception) -> bool:
    """Whether an error says that the store cannot be had, rather than that we used it wrongly."""
    if isinstance(error, OSError | sqlite3.Error | ImportError):  # requests' connection errors are OSErrors
        return True
    return type(error).__module__.startswith(("mlflow", "sqlalchemy", "requests", "urllib3", "psycopg"))


def _reason(error: Exception) -> str:
    """The first line of an error, without the secrets that a driver may repeat."""
    first = redact(str(error).strip().partition("\n")[0])
    return f"{type(error).__name__}: {first[:120]}"
