"""What the figures of an audit come to, in sentences: what to beware of first, then what is in order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

#: From these shares on, a figure is told as a warning.
LEAK, TIES, COLD, MASKED, LITTLE_ORDER = 0.01, 0.05, 0.05, 0.001, 0.05


class Finding(NamedTuple):
    """level: ``beware`` or ``fine``."""

    level: str
    text: str


def findings(found: Mapping[str, Any]) -> list[Finding]:
    """Sentences on an audit (``recbench.cli.audit.make.make_audit``), warnings first."""
    said = [*_on_time(found), *_on_cold(found), *_on_repeats(found), *_on_order(found), *_on_floors(found)]
    return sorted(said, key=lambda finding: finding.level != "beware")


def _of(is_grave: bool, text: str) -> Finding:
    return Finding("beware" if is_grave else "fine", text)


def _on_time(found: Mapping[str, Any]) -> list[Finding]:
    split, time = found["split"], found["time"]
    if not time:
        text = "No timestamps: how much the split leaks, and how much of the order is only the file's, cannot be known."
        return [Finding("beware", text)]
    leaked, tied = split["leaked_targets"], split["tied_targets"]
    said = [
        _of(
            leaked >= LEAK,
            f"{leaked:.1%} of the test targets are older than the newest training event; {split['later_training']:.1%} of training "
            "is later than a target. " + ("The future is in training." if leaked >= LEAK else "Training ends first."),
        ),
        _of(
            tied >= TIES,
            f"{tied:.1%} of the test targets carry the timestamp of the event before them: their order is that of the file."
            if tied
            else "No test target carries the timestamp of the event before it.",
        ),
    ]
    if time["whole_days"] >= 0.99:
        said.append(Finding("beware", "The clock of these data is a calendar: all timestamps are whole days."))
    return said


def _on_cold(found: Mapping[str, Any]) -> list[Finding]:
    cold = found["split"]["cold_targets"]
    return [
        _of(cold >= COLD, f"{cold:.1%} of the test targets never occur in training; no trained model can know them.")
    ]


def _on_repeats(found: Mapping[str, Any]) -> list[Finding]:
    repeated, rule = found["split"]["repeated_targets"], found["seen_items"]
    if rule == "mask":
        text = f"{repeated:.1%} of the test targets stand in their own history and cannot be hit, because seen items are masked."
        return [_of(repeated >= MASKED, text)]
    return [Finding("fine", f"{repeated:.1%} of the test targets stand in their own history; seen items are ranked.")]


def _on_order(found: Mapping[str, Any]) -> list[Finding]:
    said = []
    for probe in found["probes"]:
        name = probe["model"]
        if probe["relative"] is None:
            said.append(Finding("beware", f"The probe {name} never hits, so it says nothing about order."))
        elif probe["unchanged"] == 1:
            said.append(
                Finding("beware", f"The probe {name} reads no order: every rank stayed. Choose another with --probe.")
            )
        else:
            loss, least, most = -probe["relative"], -probe["high"], -probe["low"]
            little = loss < LITTLE_ORDER or least <= 0
            verdict = "order matters here."
            if little:
                verdict = "order matters little here." if loss < LITTLE_ORDER else "that may be chance."
            text = f"With shuffled histories {name} loses {loss:.1%} of its {probe['metric']} ({least:.1%} to {most:.1%}): {verdict}"
            said.append(_of(little, text))
    return said


def _on_floors(found: Mapping[str, Any]) -> list[Finding]:
    known = [floor for floor in found["floors"] if "metrics" in floor]
    metric = found["floor_metric"]
    told = ", ".join(f"{floor['model']} {floor['metrics'][metric]:.4f}" for floor in known)
    return (
        [Finding("fine", f"The floor in {metric}: {told}. A model below it has learnt nothing personal.")]
        if known
        else []
    )
