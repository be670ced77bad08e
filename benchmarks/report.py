"""What was measured as a section of RESULTS.md: medians with their range, ratios to ours within a round, the floor, versions and hardware."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks import systems
from benchmarks.measure import NO_BFLOAT16, Figures, Line, figures, only

Rounds = list[dict[str, list[Line]]]

#: What is compared: title, how to read it from Figures, unit, decimals.
MEASURES: tuple[tuple[str, Callable[[Figures], float], str, int], ...] = (
    ("training epoch", lambda f: f.epoch_seconds, "s", 2),
    ("full-ranking evaluation", lambda f: f.evaluation_seconds, "s", 2),
    ("peak memory", lambda f: f.peak_rss_bytes / 2**30, "GiB", 2),
    ("process start to first step", lambda f: f.startup_seconds, "s", 1),
)
#: Share of the processors that other processes may take before the report says that it is worth nothing.
QUIET = 0.05
BASE = "ours"
#: Seconds within which the systems of a round of the stage "speed" must have begun, or the round is said to be torn.
TOGETHER = 3600.0


@dataclass(frozen=True)
class Value:
    """A figure of one round; at_least: it would have been more, had the system not been stopped."""

    number: float
    at_least: bool = False


def section(head: str, speed: Rounds, quality: Rounds, bar: float, split: str) -> str:
    """The whole section; parts of which nothing was measured are left out."""
    parts = [head]
    if any(set(runs) - {"floor"} for runs in speed):
        parts += [speed_table(speed), *torn(speed), *floor_lines(speed)]
    if quality:
        parts += [
            f"**To {split} NDCG@10 = {bar:.3f}**, each at its own default batch:",
            quality_table(quality, bar, split),
        ]
    parts += [*remarks(speed + quality), machines(speed + quality)]
    return "\n\n".join(part for part in parts if part)


def speed_table(rounds: Rounds) -> str:
    """A row a system: each measure with its spread over the rounds, and its ratio to ours.

    A ratio is taken inside each round, where both ran within minutes of each other, and its median over rounds is quoted with
    [least .. greatest]: the machine drifts too much for a ratio of medians.
    """
    found = [{name: figures(lines) for name, lines in runs.items() if name != "floor"} for runs in rounds]
    names = _names(rounds)
    lines = _head("system", *(title for title, *_ in MEASURES), f"rounds of {len(rounds)}")
    for name in [BASE] * (BASE in names) + [name for name in names if name != BASE]:
        cells = []
        for _, read, unit, decimals in MEASURES:
            cell = spread([Value(read(runs[name])) for runs in found if name in runs], f" {unit}", decimals)
            pairs = [(runs[name], runs[BASE]) for runs in found if name in runs and BASE in runs and name != BASE]
            ratios = [Value(read(theirs) / read(ours)) for theirs, ours in pairs]
            cells.append(cell + (f", **{spread(ratios, 'x', 1)}**" if ratios else ""))
        made = sum(name in runs for runs in found)
        lines.append(_row(systems.title(name), *cells, str(made)))
    return "\n".join(lines)


def quality_table(rounds: Rounds, bar: float, split: str) -> str:
    """A row a system: how long to the bar, and what it had when it stopped."""
    found = [{name: figures(lines, bar, split) for name, lines in runs.items()} for runs in rounds]
    names = _names(rounds)
    lines = _head(
        "system", "default batch", "training alone", "from process start", "epochs", f"{split} NDCG@10", "test NDCG@10"
    )
    reads: tuple[Callable[[Figures], float], ...] = (
        lambda f: f.reach_training_seconds or 0.0,
        lambda f: f.reach_total_seconds or 0.0,
    )
    for name in [BASE] * (BASE in names) + [name for name in names if name != BASE]:
        own = [runs[name] for runs in found if name in runs]
        pairs = [(runs[name], runs[BASE]) for runs in found if name in runs and BASE in runs and name != BASE]
        cells = [systems.of(name).batch]
        for read in reads:
            ratios = [Value(read(a) / read(b), a.gave_up) for a, b in pairs if not b.gave_up]
            cell = spread([Value(read(f), f.gave_up) for f in own], " s", 1)
            cells.append(cell + (f", **{spread(ratios, 'x', 1)}**" if ratios else ""))
        cells.append(spread([Value(f.epochs) for f in own], "", 0))
        cells.append(spread([Value(f.validation_ndcg if split == "validation" else f.test_ndcg) for f in own], "", 4))
        cells.append(spread([Value(f.test_ndcg) for f in own], "", 4))
        lines.append(_row(systems.title(name), *cells))
    return "\n".join(lines)


def floor_lines(rounds: Rounds) -> list[str]:
    """The floor of an epoch, as this machine measured it in each round, and ours against it."""
    given = [(only(runs["floor"], "floor"), runs.get(BASE)) for runs in rounds if "floor" in runs]
    if not given:
        return []
    lines = _head("floor of an epoch", "seconds", "our epoch against it")
    titles = {
        "fp32": "float32",
        "bf16": "logits in bfloat16",
        "as_shaped": "logits' product as fast as its own shape runs here",
    }
    for key, title in titles.items():
        if any(key not in floor["seconds"] for floor, _ in given):
            continue
        epochs = [(figures(ours).epoch_seconds / floor["seconds"][key]) for floor, ours in given if ours]
        seconds = [Value(floor["seconds"][key]) for floor, _ in given]
        ours = spread([Value(ratio) for ratio in epochs], "x", 2) if epochs else ""
        lines.append(
            _row(title + (", ours" if given[0][0]["precision"] == key else ""), spread(seconds, " s", 2), ours)
        )
    work, speeds = given[0][0]["work"], [floor["speeds"] for floor, _ in given]
    measured = {
        key: spread([Value(speed[key] / scale) for speed in speeds], f" {unit}", 0 if unit != "G values/s" else 2)
        for key, scale, unit in (
            ("product_fp32", 1e9, "GFLOP/s"),
            ("product_bf16", 1e9, "GFLOP/s"),
            ("logits_fp32", 1e9, "GFLOP/s"),
            ("logits_bf16", 1e9, "GFLOP/s"),
            ("softmax_fp32", 1e9, "G values/s"),
            ("softmax_bf16", 1e9, "G values/s"),
            ("copy", 1e9, "GB/s"),
        )
        if all(speed.get(key) for speed in speeds)
    }
    narrow = "product_bf16" in measured
    return [
        "\n".join(lines),
        f"An epoch needs {work['network_flop'] / 1e9:.0f} GFLOP in the network, {work['logits_flop'] / 1e9:.0f} for logits and their "
        f"gradients, one softmax over {work['logits'] / 1e9:.2f} G values, and {work['bytes'] / 1e9:.1f} GB through memory. Measured in the "
        f"same rounds: products {measured['product_fp32']} in float32{', ' + measured['product_bf16'] + ' in bfloat16' if narrow else ''}; "
        f"the logits' product {_both(measured, 'logits')}; softmax {_both(measured, 'softmax')}; copies {measured['copy']}."
        + ("" if narrow else f" {NO_BFLOAT16.capitalize()}."),
    ]


def _both(measured: Mapping[str, str], kind: str) -> str:
    """A speed in float32, and in bfloat16 where it was measured."""
    return " and ".join(measured[name] for name in (f"{kind}_fp32", f"{kind}_bf16") if name in measured)


def torn(rounds: Rounds) -> list[str]:
    """A line where a comparison went on so much later that the ratios of a round compare a machine with what it was before."""
    began = [[only(lines, "exit").get("began", 0.0) for lines in runs.values()] for runs in rounds]
    apart = max(max(moments) - min(moments) for moments in began)
    return (
        [f"**A round was torn: its systems began up to {apart / 3600:.1f} hours apart.**"] if apart > TOGETHER else []
    )


def remarks(rounds: Rounds) -> list[str]:
    """What makes a figure less than it seems, one line each."""
    said = {}
    for runs in rounds:
        for name, lines in runs.items():
            if name == "floor":
                continue
            data, name = only(lines, "data"), systems.title(name)
            if data.get("targets_left_out"):
                said[name, 1] = (
                    f"{name} trains {data['training_targets']:,} targets: it cuts {data['targets_left_out']:,} off long histories."
                )
            if data.get("unknown_items"):
                said[name, 2] = (
                    f"{name} does not know {data['unknown_items']:,} items that training lacks, and cannot rank them."
                )
            if any(line["event"] == "epoch" and line["extrapolated"] for line in lines):
                cut = next(line for line in lines if line["event"] == "epoch")
                said[name, 0] = f"{name}: epoch extrapolated from {cut['steps']} of its {cut['steps_of_epoch']} steps."
    busiest = max((only(lines, "exit")["others_share"] for runs in rounds for lines in runs.values()), default=0.0)
    found = [said[key] for key in sorted(said)]
    if busiest > QUIET:
        found.append(f"**Do not quote: other processes took up to {busiest:.0%} of the processors during a round.**")
    return ["\n".join(f"- {line}" for line in found)] if found else []


def machines(rounds: Rounds) -> str:
    """One Markdown line a system: versions, threads, allocator; and the processor with the memory."""
    last: dict[str, Line] = {}
    for runs in rounds:
        last.update({name: only(lines, "machine") for name, lines in runs.items()})
    said = []
    for name, machine in last.items():
        versions = ", ".join(f"{package} {version}" for package, version in machine["versions"].items())
        runs_on = f"{machine['threads']} threads; allocator {machine['allocator']}"
        said.append(f"- {systems.title(name)}: Python {machine['python']}, {versions}; {runs_on}")
    for machine in list(last.values())[-1:]:
        said.append(f"- {machine['processor']}, {machine['cores']} cores, {machine['memory_bytes'] / 2**30:.0f} GiB")
    return "\n".join(said)


def spread(values: list[Value], unit: str, decimals: int) -> str:
    """ "median [least .. greatest]", or the value alone when there is one; with ">" where a value is only a lower bound."""
    if not values:
        return ""
    numbers = [value.number for value in values]
    more = "> " if any(value.at_least for value in values) else ""
    middle = f"{more}{statistics.median(numbers):,.{decimals}f}{unit}"
    return middle if len(numbers) == 1 else f"{middle} [{min(numbers):,.{decimals}f} .. {max(numbers):,.{decimals}f}]"


def _names(rounds: Rounds) -> list[str]:
    return [name for name in dict.fromkeys(name for runs in rounds for name in runs) if name != "floor"]


def _head(*cells: str) -> list[str]:
    return [_row(*cells), "|---" * len(cells) + "|"]


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"
