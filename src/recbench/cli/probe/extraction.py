"""``recbench probe extraction RUN``: how much of a run can be copied by somebody who may ask it for lists, and has the histories of a few users.

    the attacker has   the training histories of ``few`` of the users, and a budget of ``queries`` lists; no scores, nothing of other users
    asked about        the few real histories (asked), or for half of the budget histories made from nothing (random), from the few (markov), or by
                       walking from a random item along the run's own lists (walk)
    the copy           a model of the same or another kind, trained on the lists by ranking distillation and on the few histories as ever
    beside it          popularity, and a copy without queries (floors); the same configuration trained with another seed (ceiling)

Agr@K is the shared part of the lists for test users. A copy that ranks well but agrees little has learned from the histories, not from the run.
Few-shot extraction [arXiv 2411.11677, read at second hand]; walks and lists as in data-free extraction [Yue et al., RecSys 2021], whose released
code asks a model in training mode, so that dropout answers. Here two equal questions have equal answers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from recbench.cli.probe.settings import check_least
from recbench.cli.probe.surrogate import Lessons, Training, objective_for, teach
from recbench.config.run import RunConfig
from recbench.config.schemas import compose_model
from recbench.core.errors import UserError
from recbench.data.cases import Cases
from recbench.data.prepared import PreparedData
from recbench.data.training import TrainingData
from recbench.evaluation.agreement import agreement, rank_biased_overlap
from recbench.evaluation.outcome import Evaluation
from recbench.experiment.asking import rank_cases
from recbench.experiment.build import build_model, load_model
from recbench.experiment.context import Run, RunContext
from recbench.experiment.run import run as make_run
from recbench.models.base import Recommender
from recbench.models.closed_form import ClosedForm
from recbench.models.laid_over import parts_of
from recbench.models.registry import lookup
from recbench.models.sequence_model import SequenceModel
from recbench.posthoc.probes.sequences import Sequences, few_users, filled, outlines

#: What is asked about in each row.
ASKED = ("asked", "random", "markov", "walk")


@dataclass
class ExtractionSettings:
    """What the figures depend on."""

    few: float = 0.1  # share of the users whose training histories the attacker has
    queries: int = 0  # lists that each row asks for; 0: one for each event of the few
    k: int = 10  # length of a list
    surrogate: str = ""  # model of the copy; empty: that of the run
    repair: float = 0.0  # weight of the two-way repair loss
    epochs: int = 30
    lr: float = 1e-3
    batch_size: int = 256  # events of a step
    ceiling: bool = True  # train the configuration with another seed too, unless that run is there
    seed: int = 0

    def check(self) -> None:
        """Raise UserError for numbers that make no sense."""
        if not 0 < self.few <= 1:
            raise UserError(f"few={self.few:g} must be above 0 and at most 1, a share of the users")
        check_least(self, queries=0, k=1, epochs=1, batch_size=1, seed=0)
        if self.lr <= 0 or self.repair < 0:
            raise UserError(f"lr={self.lr:g} must be above 0, and repair={self.repair:g} not below it")


class Victim:
    """A run behind a counter: histories in, lists out, and no more of them than the budget."""

    def __init__(self, answer: Callable[[PreparedData, Cases], np.ndarray], budget: int) -> None:
        self.answer, self.left, self.asked = answer, budget, 0

    def top(self, data: PreparedData, cases: Cases) -> np.ndarray:
        """[C, K]. Raises UserError beyond the budget."""
        if len(cases) > self.left:
            raise UserError(f"{len(cases)} questions are more than the {self.left} that are left")
        self.left, self.asked = self.left - len(cases), self.asked + len(cases)
        return self.answer(data, cases)


@dataclass(frozen=True)
class Attack:
    """Everything that the rows share."""

    run: Run
    stage: RunContext
    settings: ExtractionSettings
    config: RunConfig  # of the copy
    few: Sequences
    budget: int
    victim: Recommender
    theirs: np.ndarray  # [C, K] the run's lists of the test

    def ranked(self, model: Recommender, data: PreparedData, cases: Cases) -> Evaluation:
        """With the lists of a model, by the rules of the run's protocol."""
        split = self.stage.split
        return rank_cases(model, data, split, cases, self.run.config, top_k=self.settings.k)

    def lists(self, model: Recommender, data: PreparedData, cases: Cases) -> np.ndarray:
        """[C, K]."""
        found = self.ranked(model, data, cases).top_k
        assert found is not None
        return found

    def row(self, name: str, model: Recommender, queries: int) -> dict[str, Any]:
        """How far a model's lists for the test agree with the run's, and how well it ranks."""
        found = self.ranked(model, self.stage.data, self.stage.split.test)
        assert found.top_k is not None
        shared, weighed = agreement(found.top_k, self.theirs), rank_biased_overlap(found.top_k, self.theirs)
        return {
            "name": name,
            "queries": queries,
            "agr": float(shared.mean()),
            "agr_half_width": float(1.96 * shared.std() / np.sqrt(len(shared))),
            "rbo": float(weighed.mean()),
            "ndcg": float(found.metrics([10])["ndcg@10"]),
        }


def probe_extraction(run: Run, stage: RunContext, settings: ExtractionSettings) -> dict[str, Any]:
    """Figures and rows as plain values. Raises UserError for a run that cannot be asked about made histories, and a model that cannot be a copy."""
    settings.check()
    settings = replace(settings, k=min(settings.k, stage.data.n_items))
    victim = askable(run, stage)
    config = surrogate_config(run.config, settings)
    train = TrainingData.of_real_users(stage.data, stage.split)
    generator = np.random.default_rng(settings.seed)
    few = few_users(train, settings.few, run.config.training.max_length, generator)
    theirs = rank_cases(victim, stage.data, stage.split, stage.split.test, run.config, top_k=settings.k)
    assert theirs.top_k is not None
    budget = settings.queries or len(few.items)
    attack = Attack(run, stage, settings, config, few, budget, victim, theirs.top_k)
    rows = [attack.row("popularity", popularity(attack), 0), few_alone(attack)]
    rows += [copied(attack, kind) for kind in ASKED]
    if settings.ceiling and lookup(run.config.model.name).model.uses_seed:
        rows.append(attack.row("other_seed", other_seed(run, stage), 0))
    figures: dict[str, Any] = {"ndcg@10": float(theirs.metrics([10])["ndcg@10"]), "users_had": len(few.lengths)}
    figures |= {"events_had": len(few.items), "budget": budget}
    figures |= {f"{key}_{row['name']}": row[key] for row in rows for key in ("agr", "rbo", "ndcg", "queries")}
    return {
        "run": run.folder.key,
        "kind": "extraction",
        "settings": {**asdict(settings), "surrogate": config.model.name},
        "figures": figures,
        "rows": rows,
    }


def askable(run: Run, stage: RunContext) -> Recommender:
    """The model of the run. Raises UserError for one that gives no lists for histories of nobody."""
    name, kind = run.config.model.name, lookup(run.config.model.name).model
    if run.config.protocol.asks_clicks or not kind.ranks:
        raise UserError(f"{run.folder.key} gives no lists of items, so there is nothing to copy")
    if kind.reads_users:
        raise UserError(
            f"the model '{name}' answers for the users that it was trained on, so nobody can ask it about made histories; "
            "probe a run of a sequence model, such as sasrec"
        )
    return load_model(run, stage)


def surrogate_config(victim: RunConfig, settings: ExtractionSettings) -> RunConfig:
    """The run of the copy. Raises UserError for a model that cannot be one."""
    config = victim.uncompressed().undistilled(model=victim.model, tuned=victim.tuned)
    if settings.surrogate and settings.surrogate != victim.model.name:
        model, _ = compose_model({"model": settings.surrogate}, "surrogate", victim.data.name)
        config = replace(config, model=model)
    name, kind = config.model.name, lookup(config.model.name).model
    if not (issubclass(kind, SequenceModel) and kind.has_usual_loss()):
        raise UserError(
            f"the model '{name}' cannot learn from lists, as it does not score items by the product of a state with item vectors; "
            "set surrogate=sasrec"
        )
    if parts_of(kind, config.model):
        raise UserError(f"the model '{name}' needs other runs, which an attacker does not have; set surrogate=sasrec")
    return replace(config, seed=settings.seed)


def fresh(attack: Attack, sequences: Sequences) -> tuple[SequenceModel, PreparedData]:
    """(a copy before it has learned anything, the histories as data)."""
    data = sequences.data(attack.stage.data)
    split = replace(attack.stage.split, train_start=data.offsets[:-1], train_end=data.offsets[1:])
    model = build_model(attack.config, RunContext(data, split), {})
    assert isinstance(model, SequenceModel)
    return model, data


def few_alone(attack: Attack) -> dict[str, Any]:
    """The floor: a model trained on the few histories, with no question asked. Its epoch is chosen by their last events."""
    lessons = Lessons(attack.few, np.zeros((len(attack.few.items), attack.settings.k), dtype=np.int32))
    model, data = fresh(attack, attack.few)
    ends = attack.few.offsets[1:][lessons.kept_back()] - 1
    cases = attack.few.cases(ends - 1, attack.few.items[ends])

    def judge(trained: SequenceModel) -> float:
        return float(attack.ranked(trained, data, cases).metrics([10])["ndcg@10"])

    taught(attack, model, data, lessons, judge)
    return attack.row("few", model, 0)


def copied(attack: Attack, kind: str) -> dict[str, Any]:
    """A copy that asked about the few real histories alone, or for half of its budget about made ones. Its epoch is chosen by agreement."""
    generator = np.random.default_rng((attack.settings.seed, ASKED.index(kind)))
    victim = Victim(lambda data, cases: attack.lists(attack.victim, data, cases), attack.budget)
    of_real = attack.budget if kind == "asked" else -(-attack.budget // 2)
    at = np.sort(generator.permutation(len(attack.few.items))[:of_real])
    answers = np.zeros((len(attack.few.items), attack.settings.k), dtype=np.int32)
    answers[at] = victim.top(attack.few.data(attack.stage.data), attack.few.cases(at))
    sequences = attack.few
    if kind != "asked" and victim.left:
        outline = outlines(attack.few, victim.left, generator)
        made, said = walked(outline, victim, attack, generator) if kind == "walk" else (None, None)
        if made is None or said is None:
            made = filled(kind, outline, attack.few, attack.stage.data.n_items, generator)
            said = victim.top(made.data(attack.stage.data), made.cases(np.arange(len(made.items))))
        sequences, answers = attack.few.followed_by(made), np.concatenate([answers, said])
    lessons = Lessons(sequences, answers, attack.stage.split.seen_items == "mask")
    model, data = fresh(attack, sequences)
    asked = answers[:, 0] > 0
    kept = np.flatnonzero(asked & np.repeat(lessons.kept_back(), sequences.lengths))
    if not len(kept):
        raise UserError(f"with queries={attack.budget} no list is left to choose an epoch by; raise it")

    def judge(trained: SequenceModel) -> float:
        return float(agreement(attack.lists(trained, data, sequences.cases(kept)), answers[kept]).mean())

    taught(attack, model, data, lessons, judge)
    return attack.row(kind, model, victim.asked)


def walked(
    outline: Sequences, victim: Victim, attack: Attack, generator: np.random.Generator
) -> tuple[Sequences, np.ndarray]:
    """(histories that follow the run's own lists, what it said after each event): a random item first, then an even draw from the last list."""
    items = outline.items.copy()
    start, lengths = outline.offsets[:-1], outline.lengths
    items[start] = generator.integers(1, attack.stage.data.n_items + 1, len(start))
    answers = np.zeros((len(items), attack.settings.k), dtype=np.int32)
    for step in range(int(lengths.max())):
        so_far = Sequences(items, outline.place, outline.offsets, outline.real)
        at = (start + step)[lengths > step]
        said = victim.top(so_far.data(attack.stage.data), so_far.cases(at))
        answers[at] = said
        further = lengths[lengths > step] > step + 1
        chosen = said[further][np.arange(further.sum()), generator.integers(said.shape[1], size=int(further.sum()))]
        items[at[further] + 1] = np.where(chosen > 0, chosen, said[further][:, 0])
    return Sequences(items, outline.place, outline.offsets, outline.real), answers


def taught(
    attack: Attack, model: SequenceModel, data: PreparedData, lessons: Lessons, judge: Callable[[SequenceModel], float]
) -> None:
    """Train a copy in place."""
    asked = attack.settings
    how = Training(asked.epochs, asked.lr, asked.batch_size, asked.seed)
    teach(model, data, lessons, how, objective_for(model, asked.k, asked.repair), judge)


def popularity(attack: Attack) -> Recommender:
    """The floor that knows the counts of all training events."""
    model, _ = compose_model({"model": "popularity"}, "reference", attack.run.config.data.name)
    found = build_model(replace(attack.run.config, model=model), attack.stage, {})
    assert isinstance(found, ClosedForm)
    found.fit_to(attack.stage.train)
    return found


def other_seed(run: Run, stage: RunContext) -> Recommender:
    """The model of the same configuration with the next seed; that run is found beside the probed one, or made there."""
    config = replace(run.config, seed=run.config.seed + 1, runs_dir=run.folder.path.parent)
    return load_model(make_run(config, stage), stage)
