"""What an export leaves: program, items, a description, and a README for whoever serves it.

model.pt2      the program, weights inside (model.onnx with --format onnx)
                                                     items.parquet  item_id (column of the scores), item (raw id), title
export.json    run, inputs, tolerance, versions      items.json     [null, [raw id, title], ...], by item_id
README.md      how to load and ask it
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from recbench.cli.export.onnx_program import check_packages, onnx_scorer, save_onnx
from recbench.cli.export.program import ABSOLUTE, RELATIVE, export_model, input_names, largest_difference, quiet
from recbench.core.disk import whole_folder
from recbench.core.errors import UserError
from recbench.evaluation.cost.efficiency import batches_of, spread
from recbench.experiment.asking import read_length

if TYPE_CHECKING:
    from recbench.cli.recommend.model_of_run import Opened

#: Test histories that the program is compared on, in batches of these sizes.
CHECKED = (1, 2, 7, 54)

TORCH_HEAD = """# {model}, exported from run {run}

`model.pt2` is a torch.export program. Plain torch loads it (it was made with {torch}); recbench is not needed.

```python
import json
import torch

score = torch.export.load("model.pt2").module()
items = json.load(open("items.json"))  # items[i] = [raw id, title]; items[0] is the pad
number = {{name: i for i, (name, _) in enumerate(items[1:], start=1)}}

history = ["{example}"]  # raw ids, oldest first; the last {width} of them
padded = torch.zeros(1, {width}, dtype=torch.int64)
padded[0, : len(history)] = torch.tensor([number[name] for name in history])
{others}scores = score({call})  # [1, {n_columns}]
scores[:, 0] = -torch.inf  # the pad
scores.scatter_(1, padded, -torch.inf)  # leaves seen items out; the run's protocol: {seen}
print([items[i] for i in scores.topk(10).indices[0].tolist()])
```
"""

ONNX_HEAD = """# {model}, exported from run {run}

`model.onnx` is an ONNX graph. onnxruntime loads it (it was made with torch {torch}); torch and recbench are not needed.

```python
import json
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
items = json.load(open("items.json"))  # items[i] = [raw id, title]; items[0] is the pad
number = {{name: i for i, (name, _) in enumerate(items[1:], start=1)}}

history = ["{example}"]  # raw ids, oldest first; the last {width} of them
padded = np.zeros((1, {width}), dtype=np.int64)
padded[0, : len(history)] = [number[name] for name in history]
{others}scores = session.run(["scores"], {{{call}}})[0]  # [1, {n_columns}]
scores[:, 0] = -np.inf  # the pad
np.put_along_axis(scores, padded, -np.inf, axis=1)  # leaves seen items out; the run's protocol: {seen}
print([items[i] for i in np.argsort(-scores[0], kind="stable")[:10].tolist()])
```
"""

TAIL = """
| input | shape | |
|---|---|---|
{inputs}

Any number of histories B at once; each padded on the right with 0 to {width} events. Over {checked} test histories, alone and in
batches, its scores lie within {difference:.2g} of the model's (allowed: {absolute:g} + {relative:g} times the score).
Protocol of the run: {protocol}.
"""

INPUTS = {
    "items": ("[B, {width}] int64", "item numbers, 1 to {n_items}, oldest first, then 0"),
    "lengths": ("[B] int64", "events of each history, at least 1"),
    "timestamps": ("[B, {width}] int64", "Unix seconds of the events, then 0"),
    "behaviours": ("[B, {width}] int64", "kinds of the events: {behaviours}; then 0"),
}


def export_run(opened: Opened, to: Path, kind: str = "torch") -> dict[str, Any]:
    """Export an opened run into the new folder ``to``; returns what export.json holds. kind: ``torch`` or ``onnx``.

    Raises UserError for a model that cannot be exported, a program that scores otherwise, and a folder that is there already. Nothing is left
    behind then.
    """
    if to.exists():
        raise UserError(f"{to} is there already; name a new folder with --to, or delete it")
    if kind == "onnx":
        check_packages()
    width = read_length(opened.model, opened.stage.split, opened.config)
    take = batches_of(opened.stage.data, opened.stage.split.test, width, "cpu")
    n_cases = len(opened.stage.split.test)
    chosen = np.array_split(spread(n_cases, sum(CHECKED)), np.cumsum(CHECKED)[:-1])
    batches = [take(cases) for cases in chosen if len(cases)]
    program = export_model(opened.model, opened.name, max(batches, key=len), width)
    with whole_folder(to) as working:
        try:
            working.mkdir(parents=True)
        except OSError as error:
            raise UserError(f"cannot write {to}: {error.strerror}; name another folder with --to") from error
        # What was stored is what will be asked.
        stored: torch.export.ExportedProgram | Callable[..., torch.Tensor]
        if kind == "onnx":
            save_onnx(program, opened.model, opened.name, working / "model.onnx")
            stored = onnx_scorer(working / "model.onnx", input_names(opened.model))
        else:
            with quiet():
                torch.export.save(program, working / "model.pt2")
                stored = torch.export.load(working / "model.pt2")
        difference = largest_difference(stored, opened.model, batches, width)
        described = {"format": kind, **_describe(opened, width, difference, sum(map(len, batches)))}
        _write_items(opened, working)
        (working / "export.json").write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
        (working / "README.md").write_text(_readme(opened, described), encoding="utf-8")
    return described


def _describe(opened: Opened, width: int, difference: float, checked: int) -> dict[str, Any]:
    data = opened.stage.data
    return {
        "run": opened.key,
        "model": opened.name,
        "protocol": opened.stage.split.protocol_id,
        "seen_items": opened.stage.split.seen_items,
        "data_fingerprint": data.fingerprint,
        "inputs": input_names(opened.model),
        "behaviours": data.manifest["behaviours"],
        "max_length": width,
        "n_items": data.n_items,
        "checked_histories": checked,
        "largest_difference": difference,
        "tolerance": {"absolute": ABSOLUTE, "relative": RELATIVE},
        "torch": torch.__version__,
    }


def _write_items(opened: Opened, working: Path) -> None:
    table = opened.stage.data.item_table().select("item_id", "item", "title")
    table.write_parquet(working / "items.parquet")
    rows = [None, *(list(row) for row in table.select("item", "title").iter_rows())]
    (working / "items.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")


def _readme(opened: Opened, described: dict[str, Any]) -> str:
    names, width = described["inputs"], described["max_length"]
    kinds = ", ".join(f"{number} {name}" for number, name in enumerate(described["behaviours"], start=1))
    values = {"width": width, "n_items": described["n_items"], "behaviours": kinds}
    rows = [f"| `{name}` | {INPUTS[name][0]} | {INPUTS[name][1]} |".format(**values) for name in names]
    onnx = described["format"] == "onnx"
    zeros = "np.zeros_like" if onnx else "torch.zeros_like"
    others = "".join(f"{name} = {zeros}(padded)  # fill in: {INPUTS[name][1].format(**values)}\n" for name in names[2:])
    call = {"items": "padded", "lengths": "np.array([len(history)])" if onnx else "torch.tensor([len(history)])"}
    written = '"{0}": {1}' if onnx else "{1}"
    return ((ONNX_HEAD if onnx else TORCH_HEAD) + TAIL).format(
        **{key: described[key] for key in ("model", "run", "torch", "protocol")},
        seen="they are masked" if described["seen_items"] == "mask" else "they stay, so leave this line out",
        width=width,
        n_columns=described["n_items"] + 1,
        example=str(opened.stage.data.item_table()["item"][0]).replace("\\", "\\\\").replace('"', '\\"'),
        others=others,
        call=", ".join(written.format(name, call.get(name, name)) for name in names),
        inputs="\n".join(rows),
        checked=described["checked_histories"],
        difference=described["largest_difference"],
        absolute=ABSOLUTE,
        relative=RELATIVE,
    )
