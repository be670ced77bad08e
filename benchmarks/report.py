"""Figures of several rounds as one Markdown table: medians with their range, and ratios within a round."""

from __future__ import annotations

import statistics
from collections.abc import Callable

from benchmarks.measure import Figures, Line, only

#: What is compared: title, how to read it from Figures, unit, decimals.
MEASURES: tuple[tuple[str, Callable[[Figures], float | None], str, int], ...] = (
    ("training epoch", lambda f: f.epoch_seconds, "s", 2),
    ("full-ranking evaluation, all users", lambda f: f.evaluation_seconds, "s", 2),
    ("peak memory", lambda f: f.peak_rss_bytes / 2**30, "GiB", 2),
    ("process start to first step", lambda f: f.startup_seconds, "s", 1),
    ("to reach NDCG@10, training alone", lambda f: f.reach_training_seconds, "s", 1),
    ("to reach NDCG@10, from process start", lambda f: f.reach_total_seconds, "s", 1),
)
QUALITY: tuple[tuple[str, Callable[[Figures], float]], ...] = (
    ("epochs", lambda f: f.epochs),
    ("steps", lambda f: f.steps),
    ("validation NDCG@10", lambda f: f.validation_ndcg),
    ("test NDCG@10", lambda f: f.test_ndcg),
    ("test HR@10", lambda f: f.test_hr),
)
#: Share of the processors that other processes may take before the report says that it is worth nothing.
QUIET = 0.05


def table(rounds: dict[str, list[Figures]], base: str) -> str:
    """Markdown: a row a measure, the figure of each system, and for all but ``base`` the ratio to that of ``base``.

    A ratio is taken inside each round, where both ran within minutes of each other, and its median over rounds is
    quoted with [least .. greatest]: the machine drifts too much for a ratio of medians.
    """
    others = [name for name in rounds if name != base]
    heads = [base, *(head for name in others for head in (name, f"{name} / {base}"))]
    lines = ["| | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for title, read, unit, decimals in MEASURES:
        values = {name: [read(figures) for figures in given] for name, given in rounds.items()}
        if all(value is None for column in values.values() for value in column):
            continue
        cells = [_spread(values[base], f" {unit}", decimals)]
        for name in others:
            ratios = [a / b if a is not None and b else None for a, b in zip(values[name], values[base], strict=True)]
            cells += [_spread(values[name], f" {unit}", decimals), _spread(ratios, "x", 1)]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    for title, get in QUALITY:
        decimals = 0 if title in ("epochs", "steps") else 4
        cells = [_spread([get(figures) for figures in rounds[base]], "", decimals)]
        for name in others:
            cells += [_spread([get(figures) for figures in rounds[name]], "", decimals), ""]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    busiest = max(figures.others_share for given in rounds.values() for figures in given)
    if busiest > QUIET:
        lines += ["", f"Do not quote: other processes took up to {busiest:.0%} of the processors during a round."]
    cut = [name for name, given in rounds.items() if any(figures.extrapolated for figures in given)]
    if cut:
        lines += [
            "",
            f"Epoch of {', '.join(cut)}: extrapolated from its first steps; the quality of a cut epoch means nothing.",
        ]
    return "\n".join(lines)


def _spread(values: list[float] | list[float | None], unit: str, decimals: int) -> str:
    """ "median [least .. greatest]", or the value alone when there is one; "not reached" when a round has none."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return f"not reached in {len(values) - len(known)} of {len(values)}"
    middle = f"{statistics.median(known):.{decimals}f}{unit}"
    return middle if len(known) == 1 else f"{middle} [{min(known):.{decimals}f} .. {max(known):.{decimals}f}]"


def machines(lines: dict[str, list[Line]]) -> str:
    """One Markdown line a system: versions, threads, allocator; and the processor."""
    said = []
    for name, given in lines.items():
        machine = only(given, "machine")
        versions = ", ".join(f"{package} {version}" for package, version in machine["versions"].items())
        runs_on = f"{machine['threads']} threads; allocator {machine['allocator']}"
        said.append(f"- {name}: Python {machine['python']}, {versions}; {runs_on}")
        processor = f"- {machine['processor']}, {machine['cores']} cores"
    return "\n".join([*said, processor])
