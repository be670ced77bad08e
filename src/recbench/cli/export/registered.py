"""``recbench export RUN --mlflow NAME``: an export as a registered model of the tracking store, which ``mlflow models serve`` answers with."""

from __future__ import annotations

import logging
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from recbench.cli.export.folder import export_run
from recbench.core.errors import UserError
from recbench.core.secrets import reveal
from recbench.tracking.client import open_client, reachable
from recbench.tracking.store import KEY_TAG, Unreachable

if TYPE_CHECKING:
    from recbench.cli.recommend.model_of_run import Opened
    from recbench.config.settings import TrackingConfig

CODE = Path(__file__).with_name("served_model.py")


class Registered(NamedTuple):
    """uri: as ``mlflow models serve --model-uri`` takes it, such as models:/beauty/1."""

    uri: str
    described: dict[str, Any]


def register_run(opened: Opened, name: str, tracking_uri: str) -> Registered:
    """Export an opened run and register it under ``name``. Raises UserError for a model without a program, and for a store that cannot be asked."""
    if not name or "/" in name or ":" in name:
        raise UserError(f"--mlflow {name}: the name of a registered model has no '/' and no ':'")
    store = replace(opened.config.tracking, uri=tracking_uri)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "export"
        described = export_run(opened, folder)
        try:
            with reachable(store):
                version = _new_version(opened, name, store, folder, described)
        except Unreachable as error:
            raise UserError(f"the model is not registered: {error}") from error
    return Registered(f"models:/{name}/{version}", described)


def _new_version(opened: Opened, name: str, store: TrackingConfig, folder: Path, described: dict[str, Any]) -> str:
    """Store an export as the next version of a registered model. Call it within ``reachable``."""
    library = open_client(store)
    import mlflow
    import torch

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    needs = [name for name in described["inputs"] if name not in ("items", "lengths")]
    tags = {KEY_TAG: opened.key, "recbench.model": opened.name, "recbench.kind": "export"}
    before = mlflow.get_tracking_uri()
    try:
        mlflow.set_tracking_uri(reveal(store.uri))
        experiment = library.experiment(store.experiment)
        with mlflow.start_run(experiment_id=experiment, run_name=f"export {opened.key}", tags=tags):
            info = mlflow.pyfunc.log_model(
                name="model",
                python_model=str(CODE),
                artifacts={"export": str(folder)},
                signature=signature(needs),
                input_example=None,
                pip_requirements=[
                    f"torch=={torch.__version__.split('+')[0]}",
                    f"mlflow=={mlflow.__version__}",
                    "pandas",
                ],
                registered_model_name=name,
                metadata={key: described[key] for key in ("run", "model", "protocol", "data_fingerprint")},
            )
        version = str(info.registered_model_version)
        library.client.update_model_version(name, version, description=_description(opened, described))
        return version
    finally:
        mlflow.set_tracking_uri(before)


def signature(needs: list[str]) -> Any:
    """What is asked and answered; needs: "timestamps", "behaviours", where the model reads them."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec
    from mlflow.types.schema import Array

    words, numbers = Array(DataType.string), Array(DataType.long)
    asked: list[ColSpec | TensorSpec] = [
        ColSpec(words, "history"),
        ColSpec(DataType.long, "k", required=False),
        ColSpec(words, "excluded", required=False),
        *([ColSpec(numbers, "times")] if "timestamps" in needs else []),
        *([ColSpec(words, "behaviours")] if "behaviours" in needs else []),
    ]
    return ModelSignature(Schema(asked), Schema([ColSpec(words, "items"), ColSpec(Array(DataType.double), "scores")]))


def _description(opened: Opened, described: dict[str, Any]) -> str:
    figures = {name: value for name, value in opened.metrics.items() if name.startswith("test/") and "ndcg@10" in name}
    said = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
    return (
        f"{described['model']} of the run {described['run']}, protocol {described['protocol']}; {said or 'no ndcg@10'}. "
        f"Its scores lie within {described['largest_difference']:.2g} of the model's over {described['checked_histories']} test histories."
    )
