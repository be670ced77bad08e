"""What the figures of an audit come to, in sentences: what to beware of first, the gravest in front, then what is in order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

#: From these shares on, a figure is told as a warning.
LEAK, TIES, COLD, MASKED, LITTLE_ORDER = 0.01, 0.05, 0.05, 0.001, 0.05
COLD_USERS, BLIND, COLD_ITEMS, POPULAR, UNREAD, UNTESTED = 0.05, 0.01, 0.25, 0.3, 0.25, 0.5
#: Test targets below which intervals are wide.
FEW_TARGETS = 1000
#: Shares with a word of their own.
WORDS = (
    (1 / 10, "a tenth"), (1 / 5, "a fifth"), (1 / 4, "a quarter"), (1 / 3, "a third"), (2 / 5, "two fifths"), (1 / 2, "half"),
    (3 / 5, "three fifths"), (2 / 3, "two thirds"), (3 / 4, "three quarters"), (4 / 5, "four fifths"), (9 / 10, "nine tenths"),
)  # fmt: skip


class Finding(NamedTuple):
    """level: ``beware`` or ``fine``. weight: how much of the test it is about, from 0 to 1; findings of one level are in its order."""

    level: str
    text: str
    weight: float = 0.0


def findings(found: Mapping[str, Any]) -> list[Finding]:
    """Sentences on an audit (``recbench.cli.audit.make.make_audit``), warnings first, the gravest in front."""
    said = [
        *_on_time(found),
        *_on_users(found),
        *_on_items(found),
        *_on_size(found),
        *_on_repeats(found),
        *_on_order(found),
        *_on_floors(found),
    ]
    return sorted(said, key=lambda finding: (finding.level != "beware", -finding.weight))


def share(value: float) -> str:
    """A share in words where there is a word for it, with the figure.

    >>> share(0.331), share(0.442), share(0.999), share(0.0), share(1.0), share(0.0004)
    ('a third (33.1%)', '44.2%', 'nearly all (99.9%)', 'none', 'all', 'less than 0.1%')
    """
    if value <= 0:
        return "none"
    if value >= 1:
        return "all"
    if value < 0.001:
        return "less than 0.1%"
    word = next((word for exact, word in WORDS if abs(value - exact) <= 0.04 * exact), "")
    word = "nearly all" if value >= 0.95 else word
    return f"{word} ({value:.1%})" if word else f"{value:.1%}"


def _finding(is_grave: bool, weight: float, text: str) -> Finding:
    return Finding("beware" if is_grave else "fine", text[:1].upper() + text[1:], weight)


def _on_time(found: Mapping[str, Any]) -> list[Finding]:
    split, time = found["split"], found["time"]
    if not time:
        text = "The data have no timestamps. Nobody can know how much the split leaks, or how far the order of events is only that of the file."
        return [Finding("beware", text, 0.6)]
    leaked, tied = split["leaked_targets"], split["tied_targets"]
    past = "Training ends before the first test target."
    if leaked > 0:
        past = f"{share(leaked)} of the test targets are older than the newest training event"
        later = f"on average {split['later_training']:.1%} of training is later than a target"
        past += f": training knows the future ({later})." if leaked >= LEAK else f" ({later})."
    ties = "No test target carries the timestamp of the event before it."
    if tied:
        ties = f"{share(tied)} of the test targets carry the timestamp of the event before them: their order is that of the file."
    said = [_finding(leaked >= LEAK, leaked, past), _finding(tied >= TIES, tied, ties)]
    if time["whole_days"] >= 0.99:
        said.append(
            Finding("beware", "All timestamps are whole days: within a day the order is that of the file.", 0.3)
        )
    return said


def _on_users(found: Mapping[str, Any]) -> list[Finding]:
    """Users and cases of which training knows nothing."""
    cold = found.get("cold", {})
    said = []
    if "cold_users" in cold:
        value = cold["cold_users"]
        text = f"{share(value)} of the test users have no training event: a model that learns a vector for each user knows nothing of them."
        said.append(_finding(value >= COLD_USERS, value, text if value else "Every test user has a training event."))
    if cold.get("blind_cases", 0.0) > 0:
        value = cold["blind_cases"]
        text = f"{share(value)} of the test cases have no history that training knows: nothing personal can be said of them."
        said.append(_finding(value >= BLIND, value, text))
    return said


def _on_items(found: Mapping[str, Any]) -> list[Finding]:
    value = found["split"]["cold_targets"]
    text = f"{share(value)} of the test targets never occur in training: no trained model can know them."
    said = [_finding(value >= COLD, value, text if value else "Every test target occurs in training.")]
    unknown = found.get("cold", {}).get("cold_items", 0.0)
    if unknown >= COLD_ITEMS:
        said.append(_finding(True, unknown / 2, f"{share(unknown)} of the items have no training event."))
    popular = found.get("cases", {}).get("popular_targets", 0.0)
    if popular >= POPULAR:
        text = f"{share(popular)} of the test targets are among the most popular 1 % of items: popularity alone goes far here."
        said.append(_finding(True, popular / 2, text))
    return said


def _on_size(found: Mapping[str, Any]) -> list[Finding]:
    """How much is tested, and how much of it a model reads."""
    said = []
    split, cases = found["split"], found.get("cases", {})
    targets = split.get("test_targets")
    if targets is not None and targets < FEW_TARGETS:
        said.append(Finding("beware", f"The test is small: {targets:,} targets. Intervals will be wide.", 0.25))
    users, without = found.get("data", {}).get("n_users"), split.get("users_without_case")
    if users and without is not None and without / users >= UNTESTED:
        text = f"{share(without / users)} of the users are not tested ({without:,} of {users:,})."
        said.append(_finding(True, 0.15, text))
    unread = cases.get("beyond_length", 0.0)
    if unread >= UNREAD:
        text = f"{share(unread)} of the test cases have more than the {cases['max_length']} events that a model reads; see training.max_length."
        said.append(_finding(True, unread / 2, text))
    return said


def _on_repeats(found: Mapping[str, Any]) -> list[Finding]:
    repeated, rule = found["split"]["repeated_targets"], found["seen_items"]
    if not repeated:
        return [Finding("fine", "No test target is already in its history.")]
    text = f"{share(repeated)} of the test targets are already in their history"
    if rule == "mask":
        return [_finding(repeated >= MASKED, repeated, f"{text} and cannot be hit, because seen items are masked.")]
    return [_finding(False, repeated, f"{text}; seen items are ranked.")]


def _on_order(found: Mapping[str, Any]) -> list[Finding]:
    said = []
    for probe in found["probes"]:
        name = probe["model"]
        if probe["relative"] is None:
            said.append(Finding("beware", f"The probe {name} never hits, so it says nothing about order.", 0.2))
        elif probe["unchanged"] == 1:
            text = f"The probe {name} reads no order: every rank stayed. Choose another with --probe."
            said.append(Finding("beware", text, 0.2))
        else:
            loss, least, most = -probe["relative"], -probe["high"], -probe["low"]
            little = loss < LITTLE_ORDER or least <= 0
            verdict = "order matters here."
            if little:
                verdict = "order matters little here." if loss < LITTLE_ORDER else "that may be chance."
            text = f"With shuffled histories {name} loses {loss:.1%} of its {probe['metric']} ({least:.1%} to {most:.1%}): {verdict}"
            said.append(_finding(little, 0.35, text))
    return said


def _on_floors(found: Mapping[str, Any]) -> list[Finding]:
    known = [floor for floor in found["floors"] if "metrics" in floor]
    metric = found["floor_metric"]
    told = ", ".join(f"{floor['model']} {floor['metrics'][metric]:.4f}" for floor in known)
    return (
        [Finding("fine", f"The floor in {metric}: {told}. A model below it has learned nothing personal.", 1.0)]
        if known
        else []
    )
