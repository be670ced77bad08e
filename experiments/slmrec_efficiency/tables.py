"""results.csv of the measurements, and the tables of the README out of it."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recbench.study.records import write_csv
from recbench.study.results import write_readme

#: What is said of a task in the training table: name, targets a user.
TRAINING = {
    "one_target": "the last event only",
    "all_targets": "every event",
    "taught_offline": "every event, teacher's states from disk",
    "taught_online": "every event, teacher asked at every step",
}


def processor(device: str) -> str:
    """What computed."""
    from recbench.experiment.provenance import processor as cpu

    if device == "cuda":
        import torch

        return torch.cuda.get_device_name()
    return cpu()


def code() -> dict[str, Any]:
    """Commit and torch version, for the last columns of results.csv."""
    import torch

    from recbench.experiment.provenance import code_state

    state = code_state()
    return {
        "torch": torch.__version__,
        "commit": str(state.get("commit") or "") + ("-dirty" if state.get("dirty") else ""),
    }


def write(folder: Path, results: Sequence[Mapping[str, Any]]) -> None:
    """results.csv, a line a case."""
    write_csv(folder / "results.csv", [dict(result) for result in results])


def read(folder: Path) -> list[dict[str, Any]]:
    """What ``write`` wrote, numbers as numbers."""
    with (folder / "results.csv").open(newline="", encoding="utf-8") as file:
        return [{name: _number(value) for name, value in row.items()} for row in csv.DictReader(file)]


def _number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def show(folder: Path, paper: Mapping[str, float]) -> None:
    """Print the tables, and put them into the README of the folder if it has the markers."""
    results = read(folder)
    text = "\n\n".join([about(results[0]), inference(results, paper), training(results, paper), size(results, paper)])
    print(text)
    write_readme(folder / "README.md", text)


def about(one: Mapping[str, Any]) -> str:
    """What was measured, on what."""
    wide = f"1/{one['width']:.0f} of the widths" if one["width"] > 1 else "the full widths"
    return (
        f"{wide} of Llama-2-7B, random frozen {one['precision']} weights with LoRA; {one['history']:.0f} items a history, prompt {one['prompt']}, "
        f"{one['n_items']:,.0f} items; {one['processor']}, {one['threads']:.0f} threads, torch {one['torch']}, commit {one['commit'][:7]}."
    )


def inference(results: Sequence[Mapping[str, Any]], paper: Mapping[str, float]) -> str:
    """Milliseconds a user, and how many times faster than the deepest model."""
    rows = [r for r in results if r["task"] == "inference"]
    deepest = f"{max(r['layers'] for r in results):.0f}"
    lines = [
        [
            "layers",
            "prompt",
            "ms a user",
            f"x against {deepest}, same form",
            f"x against {deepest}, full prompt",
            "memory",
        ]
    ]
    lines += [
        [
            f"{r['layers']:.0f}",
            r["form"],
            f"{r['ms_per_user']:.2f}",
            f"{r['ratio_same_form']:.1f}",
            f"{r['ratio_full_prompt']:.1f}",
            _bytes(r),
        ]
        for r in rows
    ]
    lines.append(["4 (paper)", "full", "", f"{paper['inference']:.1f}", f"{paper['inference']:.1f}", ""])
    return f"Inference, {rows[0]['batch']:.0f} users a batch:\n\n" + _markdown(lines)


def training(results: Sequence[Mapping[str, Any]], paper: Mapping[str, float]) -> str:
    """Milliseconds of training a user, and a target, by what a user is asked for."""
    rows = [r for r in results if r["task"] in TRAINING]
    deepest = f"{max(r['layers'] for r in results):.0f}"
    lines = [
        [
            "layers",
            "prompt",
            "targets",
            "ms a user",
            "ms a target",
            f"x against {deepest}, same form",
            f"x against {deepest}, full prompt",
            "memory",
        ]
    ]
    for r in rows:
        per_target = r["ms_per_user"] / (1 if r["task"] == "one_target" else r["history"])
        same = f"{r['ratio_same_form']:.1f}" if r.get("ratio_same_form") not in (None, "") else ""
        lines.append(
            [f"{r['layers']:.0f}", r["form"], TRAINING[r["task"]], f"{r['ms_per_user']:.2f}", f"{per_target:.3f}", same,
             f"{r['ratio_full_prompt']:.1f}", _bytes(r)]
        )  # fmt: skip
    lines.append(
        [
            "4 (paper)",
            "full",
            TRAINING["one_target"],
            "",
            "",
            f"{paper['training']:.1f}",
            f"{paper['training']:.1f}",
            "",
        ]
    )
    return f"Training step, {rows[0]['batch']:.0f} users a batch:\n\n" + _markdown(lines)


def size(results: Sequence[Mapping[str, Any]], paper: Mapping[str, float]) -> str:
    """Parameters by depth, without a prompt and without a token table, which no item passes through."""
    rows = {r["layers"]: r for r in results if r["task"] == "inference" and r["form"] == "none"}
    full = rows[max(rows)]["parameters_total"]
    lines = [["layers", "parameters", "trained", "share"]]
    lines += [
        [
            f"{n:.0f}",
            f"{r['parameters_total']:,.0f}",
            f"{r['parameters_trainable']:,.0f}",
            f"{100 * r['parameters_total'] / full:.1f} %",
        ]
        for n, r in rows.items()
    ]
    lines.append(
        [
            "4 (paper, with its token table; its 13 % is against Open-P5)",
            "944M",
            "3M",
            f"{100 * paper['parameters']:.1f} %",
        ]
    )
    return "Parameters:\n\n" + _markdown(lines)


def _bytes(result: Mapping[str, Any]) -> str:
    return f"{result['above_libraries_bytes'] / 2**30:.2f} GiB"


def _markdown(lines: list[list[str]]) -> str:
    head, *body = lines
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, ["---:"] * len(head), *body])
