"""The model that ``recbench export RUN --mlflow NAME`` registers, as the code that MLflow stores and runs ("models from code": nothing is pickled).

It reads the folder of an export (``model.pt2``, ``items.json``, ``export.json``) with plain torch; recbench is not needed
where it is served.
A row of the question: history (raw ids, oldest first) and, as far as wanted, k (10), excluded (raw ids that are not listed) and, for models that
read them, times (Unix seconds) and behaviours. A row of the answer: items (raw ids, best first) and scores.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel

#: Items of a list unless k says otherwise.
USUAL_K = 10


class ServedModel(PythonModel):
    """Loads the program once and answers every row of a question in one batch."""

    def load_context(self, context: Any) -> None:
        folder = Path(context.artifacts["export"])
        self.described = json.loads((folder / "export.json").read_text(encoding="utf-8"))
        self.items = [row and row[0] for row in json.loads((folder / "items.json").read_text(encoding="utf-8"))]
        self.number = {name: i for i, name in enumerate(self.items) if i}
        self.kinds = {name: i for i, name in enumerate(self.described["behaviours"], start=1)}
        self.score = torch.export.load(folder / "model.pt2").module()

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        rows = model_input.to_dict("records")
        histories = [self._known(row, place) for place, row in enumerate(rows)]
        with torch.no_grad():
            scores = self.score(*self._inputs(rows, histories)).float().clone()
        scores[:, 0] = -torch.inf
        masked = self.described["seen_items"] == "mask"
        answers = []
        for row, (history, _), line in zip(rows, histories, scores, strict=True):
            out = [*(history if masked else []), *(self.number.get(str(x), 0) for x in _list(row.get("excluded")))]
            line[torch.tensor(out, dtype=torch.int64)] = -torch.inf
            k = row.get("k")
            best = line.topk(min(USUAL_K if k is None or pd.isna(k) else max(int(k), 0), len(line) - 1))
            kept = best.values > -torch.inf
            numbers, values = best.indices[kept].tolist(), best.values[kept].tolist()
            answers.append({"items": [self.items[i] for i in numbers], "scores": values})
        return pd.DataFrame(answers, columns=["items", "scores"])

    def _known(self, row: dict[str, Any], place: int) -> tuple[list[int], list[int]]:
        """(numbers of the known items of a history, their places in it). An unknown item is left out, as a history of nothing else cannot be."""
        given = [str(name) for name in _list(row.get("history"))]
        places = [i for i, name in enumerate(given) if name in self.number]
        if not places:
            raise _refusal(f"row {place}: none of the {len(given)} items of the history is known to this model")
        return [self.number[given[i]] for i in places], places

    def _inputs(self, rows: list[dict[str, Any]], histories: list[tuple[list[int], list[int]]]) -> list[torch.Tensor]:
        width = self.described["max_length"]
        columns = {"items": [history for history, _ in histories]}
        for name, key in (("timestamps", "times"), ("behaviours", "behaviours")):
            if name in self.described["inputs"]:
                columns[name] = [
                    self._beside(row, key, places, i)
                    for i, (row, (_, places)) in enumerate(zip(rows, histories, strict=True))
                ]
        padded = {}
        for name, lists in columns.items():
            padded[name] = torch.zeros(len(lists), width, dtype=torch.int64)
            for i, values in enumerate(lists):
                last = values[-width:]
                padded[name][i, : len(last)] = torch.tensor(last)
        padded["lengths"] = torch.tensor([min(len(history), width) for history, _ in histories])
        return [padded[name] for name in self.described["inputs"]]

    def _beside(self, row: dict[str, Any], key: str, places: list[int], at: int) -> list[int]:
        """What stands beside each known item of a history: its time, or the number of its behaviour."""
        given = _list(row.get(key))
        if len(given) != len(_list(row.get("history"))):
            raise _refusal(f"row {at}: this model reads {key}; give one for each item of the history")
        if key == "times":
            return [int(given[i]) for i in places]
        unknown = sorted({str(given[i]) for i in places} - set(self.kinds))
        if unknown:
            raise _refusal(f"row {at}: unknown behaviour '{unknown[0]}'; known: {', '.join(self.kinds)}")
        return [self.kinds[str(given[i])] for i in places]


def _list(value: Any) -> list[Any]:
    """A cell that may be missing."""
    if value is None or (isinstance(value, float) and pd.isna(value)):
        return []
    return list(value)


def _refusal(text: str) -> MlflowException:
    """Answered as a bad question, not as a failure of the server."""
    return MlflowException(text, error_code=INVALID_PARAMETER_VALUE)


mlflow.models.set_model(ServedModel())
