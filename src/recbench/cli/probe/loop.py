"""``recbench probe loop RUN``: what becomes of a model that is retrained on the clicks on its own lists, round after round.

    round 0     the run as it is: lists for all users behind their training events
    a round     each user clicks an item of its list (``posthoc/probes/taste.py``: the generator's own taste times the place), the clicks are
                appended to training, the model goes on from its weights over all that there is then (a computed model is computed anew)
    beside it   chosen: the same with events that users choose from the whole catalogue, not from lists. What grows there too is no feedback

With ``copies`` each item stands twice in the catalogue, as it is and with its text rewritten, as in Source Echo Chamber [arXiv 2405.17998]; users
cannot tell them apart. The rewrites are stand-ins for those of a language model.

Nobody clicks an item that the run is tested on, so NDCG of the test stays what it was asked. Only on ``data=synthetic`` is a user's taste known.

Shapes: U users, K items of a list.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recbench.cli.probe import copies
from recbench.cli.probe.loop_world import LoopSettings, World, first_histories, held_back, padded
from recbench.config.run import RunConfig
from recbench.core.errors import UserError
from recbench.core.run_folder import RunFolder
from recbench.data.batches import evaluation_batches
from recbench.data.cases import Cases
from recbench.data.prepared import PreparedData
from recbench.data.training import TrainingData
from recbench.evaluation.beyond_accuracy import coverage, exposure, gini
from recbench.evaluation.lists.material import most_popular_first
from recbench.experiment.asking import rank_cases
from recbench.experiment.build import build_model, load_model
from recbench.experiment.context import Run, RunContext
from recbench.experiment.device import device_of
from recbench.experiment.produce import fit
from recbench.models.base import Recommender
from recbench.models.closed_form import ClosedForm
from recbench.models.laid_over import parts_of
from recbench.models.registry import lookup
from recbench.posthoc.probes.taste import Histories, Taste, clicked, drawn

ROWS_AT_ONCE = 512
#: Share of the items, most met in training, whose part of what is shown is told.
POPULAR = 0.1
#: Two loops, each from the run itself: events are clicks on its lists, or chosen from the whole catalogue.
LOOPS = ("clicks", "chosen")


def probe_loop(run: Run, stage: RunContext, settings: LoopSettings) -> dict[str, Any]:
    """Figures and a row a round and loop, as plain values. Raises UserError for data without a known taste and models that cannot go on."""
    settings.check()
    config = checked(run, settings)
    taste = Taste.of(stage.data, config.data)
    model = load_model(run, stage).to(device_of(config.hardware))
    train = TrainingData.of(stage.data, stage.split)
    n = stage.data.n_items
    popular = np.zeros(n + 1, dtype=bool)
    popular[most_popular_first(train.item_counts())[: max(1, int(POPULAR * n))]] = True
    used = stage
    if settings.copies != "none":
        used = copies.doubled(stage)
        model = copies.model_with_copies(model, config, stage, used, settings.copies).to(device_of(config.hardware))
    world = World(config, used, settings, taste, n, held_back(stage), popular)
    histories = first_histories(train)
    start = Moment(world, model.eval(), histories, world.grown(histories))
    rows = [{"loop": "", **measured(start, 0)}]
    for number, loop in enumerate(LOOPS):
        rows += rounds_of(start, loop, np.random.default_rng((settings.seed, number)))
    figures = {f"{key}_0": value for key, value in rows[0].items() if isinstance(value, float)}
    for loop in LOOPS:
        last = [row for row in rows if row["loop"] == loop][-1]
        figures |= {f"{key}_{loop}": value for key, value in last.items() if isinstance(value, float)}
    figures["rounds"] = settings.rounds
    return {
        "run": run.folder.key,
        "kind": "loop",
        "settings": asdict(settings),
        "figures": figures,
        "rows": rows,
    }


def checked(run: Run, settings: LoopSettings) -> RunConfig:
    """The config that rounds are trained by. Raises UserError for a run that cannot be retrained here."""
    config, kind = run.config, lookup(run.config.model.name).model
    if config.protocol.asks_clicks or not kind.ranks or kind.score is Recommender.score:
        raise UserError(f"the model '{config.model.name}' gives no scores over the catalogue; probe another one")
    if config.attack.name != "none" or config.compression.name != "none":
        raise UserError("probe a run without attack and compression: these would be part of every round")
    if parts_of(kind, config.model) or config.distillation.name != "none" or config.training.selection != "none":
        raise UserError(
            f"{run.folder.key} needs other runs, which would have to be made anew in each round; probe one that needs none"
        )
    if settings.copies != "none":
        copies.check_copies(config)
    every: dict[str, Any] = {"max_epochs": settings.epochs, "validate_every": settings.epochs, "init_from": None}
    return replace(config, training=replace(config.training, **every))


@dataclass(frozen=True)
class Moment:
    """The end of a round: the model, the histories that it answers to, and the data with them (``world.grown(histories)``). What both this round's
    figures and the next round's events need is computed once."""

    world: World
    model: Recommender
    histories: Histories
    stage: RunContext

    @cached_property
    def liked(self) -> np.ndarray:
        """[U, n + 1] as ``World.liked``."""
        return self.world.liked(self.histories)

    @cached_property
    def best(self) -> tuple[np.ndarray, np.ndarray]:
        """(lists [U, K], [U, K] bool: the other version of the item has an equal score). By the protocol's rule on what a user knows already; a user
        who knows one version of an item knows both."""
        world, split = self.world, self.stage.split
        start, end = split.train_start, split.train_end
        user = np.flatnonzero(self.histories.lengths > 0)
        nothing = np.arange(len(user) + 1, dtype=np.int64), np.ones(len(user), dtype=np.int32)
        at = np.minimum(end[user], len(self.stage.data.items) - 1)
        cases = Cases(user, start[user], end[user], *nothing, at)
        k = min(world.settings.k, world.n)
        lists, tied = np.zeros((len(end), k), dtype=np.int64), np.zeros((len(end), k), dtype=bool)
        for numbers, scores, seen in scored(world, self.model, self.stage.data, cases):
            both = torch.cat([seen, copies.other_of(seen, world.n)], dim=1) if world.has_copies else seen
            hidden = scores.scatter(1, both, -torch.inf) if split.seen_items == "mask" else scores.clone()
            hidden[:, 0] = -torch.inf
            best = hidden.topk(k, dim=1)
            lists[user[numbers]] = torch.where(best.values.isfinite(), best.indices, 0).cpu().numpy()
            if world.has_copies:
                other = hidden.gather(1, copies.other_of(best.indices, world.n))
                tied[user[numbers]] = (other == best.values).cpu().numpy()
        return lists, tied

    def shown(self, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """As ``best``, the two versions of a tied item exchanged for half of the users."""
        lists, tied = self.best
        return copies.fair_ties(lists, tied, self.world.n, generator) if self.world.has_copies else lists, tied


def rounds_of(start: Moment, loop: str, generator: np.random.Generator) -> list[dict[str, Any]]:
    """The rows of the rounds 1, 2, ... of one loop."""
    world, moment, rows = start.world, start, []
    for number in range(1, world.settings.rounds + 1):
        histories = moment.histories
        if loop == "clicks":
            lists, _ = moment.shown(generator)
            items = clicked(lists, np.take_along_axis(moment.liked, world.taste.base(lists), axis=1), generator)
        else:
            items = np.maximum(drawn(moment.liked, generator), 0)
        last = histories.times[np.arange(len(items)), np.maximum(histories.lengths - 1, 0)]
        histories = histories.with_events(items, last + world.taste.pauses(len(items), generator))
        stage = world.grown(histories)
        moment = Moment(world, retrained(world, moment.model, stage, number), histories, stage)
        rows.append({"loop": loop, **measured(moment, number), "events": int((items > 0).sum())})
    return rows


def retrained(world: World, before: Recommender, stage: RunContext, number: int) -> Recommender:
    """The model of the next round."""
    torch.manual_seed(world.config.seed * 1_000_003 + number)
    model = build_model(world.config, stage, {}, stored=world.has_copies)
    if world.has_copies:
        model.load_state_dict(before.state_dict())
    elif world.settings.warm and not isinstance(model, ClosedForm):
        known = dict(before.named_parameters())
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(known[name])
    # All epochs are trained and the last is kept: nothing is chosen by validation, as in a service that goes on.
    split = replace(stage.split, validation_in_training=True)
    with tempfile.TemporaryDirectory(prefix="recbench-loop-") as folder:
        place = RunFolder(Path(folder) / f"round-{number}")
        place.path.mkdir()
        fit(model, TrainingData.of(stage.data, stage.split), world.config, RunContext(stage.data, split), place, None)
    return model.to(device_of(world.config.hardware)).eval()


@torch.no_grad()
def scored(world: World, model: Recommender, data: PreparedData, cases: Cases) -> Any:
    """Blocks of (case numbers [B], scores [B, V], the whole history [B, L], 0 past the end)."""
    device = device_of(world.config.hardware)
    length = world.config.training.max_length
    for numbers, batch in evaluation_batches(data, cases, length, ROWS_AT_ONCE):
        scores = model.score(batch.to(device)).float()
        part = cases.select(numbers)
        seen = torch.from_numpy(padded(data.items, part.start, part.end))
        yield numbers, scores, seen.to(device)


def measured(moment: Moment, number: int) -> dict[str, Any]:
    """What the lists of a round look like, and how well the test is ranked."""
    world, histories, train = moment.world, moment.histories, moment.stage
    lists, tied = moment.shown(np.random.default_rng((world.settings.seed, 7)))
    base = world.taste.base(lists)
    seen = exposure(base, world.n)
    bought = np.bincount(world.taste.base(histories.items[histories.real]), minlength=world.n + 1)[1:]
    found = {
        "round": number,
        "gini": gini(seen),
        "popular_share": float(world.popular[base[base > 0]].mean()),
        "coverage": coverage(seen),
        "liked": float((np.take_along_axis(moment.liked, base, axis=1) * first_in_row(base)).sum(axis=1).mean()),
        "gini_training": gini(bought),
    }
    if not world.has_copies:
        ranked = rank_cases(moment.model, train.data, train.split, train.split.test, world.config)
        return {**found, "ndcg": float(ranked.metrics([10])["ndcg@10"])}
    called = np.random.default_rng((world.settings.seed, 8)).random(world.n) < 0.5
    found["copies"] = copies.share_of_copies(lists, tied, world.n, np.zeros(world.n, dtype=bool))
    found["copies_dealt"] = copies.share_of_copies(lists, tied, world.n, called)
    return {**found, **preferred(world, moment.model, train.data, train.split.test)}


def first_in_row(items: np.ndarray) -> np.ndarray:
    """[U, K] bool: the item stands at no earlier place of its row, as its other version may."""
    order = np.argsort(items, axis=1, kind="stable")
    ordered = np.take_along_axis(items, order, axis=1)
    found = np.ones(items.shape, dtype=bool)
    np.put_along_axis(found, order[:, 1:], ordered[:, 1:] != ordered[:, :-1], axis=1)
    return found


def preferred(world: World, model: Recommender, data: PreparedData, test: Cases) -> dict[str, float]:
    """NDCG@10 of the test among the originals and, of the targets' copies, among the copies; and 2 (o - c) / (o + c)."""
    sums: dict[str, float] = {"originals": 0.0, "copies": 0.0}
    for numbers, scores, seen in scored(world, model, data, test):
        first: Tensor = torch.from_numpy(test.targets[test.target_offsets[numbers]].astype(np.int64)).to(scores.device)
        for name, value in copies.preference(scores, first, seen, world.n).items():
            sums[name] += value / len(test)
    ours, theirs = sums["originals"], sums["copies"]
    return {
        "ndcg": ours,
        "ndcg_copies": theirs,
        "difference": 2 * (ours - theirs) / (ours + theirs) if ours + theirs else 0.0,
    }
