"""``recbench probe sae RUN``: a sparse dictionary on a run's states, what its latents say, and what taking one away does to the lists.

Every figure stands beside that of a random dictionary of the same size. At k = 16 such a one tells concepts as well as a learned one; use a small k.

Shapes: N states, D width, m latents, V = n_items + 1, C test cases.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recbench.cli.probe.settings import check_least
from recbench.core.errors import UserError
from recbench.data.batches import Batch, WindowDataset, evaluation_batches, training_windows
from recbench.data.training import TrainingData
from recbench.evaluation.evaluate import evaluate
from recbench.experiment.build import load_model
from recbench.experiment.context import Run, RunContext
from recbench.models.base import Recommender
from recbench.models.sequence_model import SequenceModel
from recbench.posthoc.probes.concepts import (
    Attributes,
    Concepts,
    attributes_of,
    find_concepts,
    item_attributes,
    item_detectors,
)
from recbench.posthoc.probes.dictionary import (
    Dictionary,
    learn_dictionary,
    matched_share,
    neurons,
    principal_axes,
    random_dictionary,
)

WINDOWS_AT_ONCE = 512
#: Length of the lists in which a concept's share is counted.
LIST = 10
#: Items shown of a latent.
SHOWN_ITEMS = 5


@dataclass
class SaeSettings:
    """What the figures depend on."""

    k: int = 4  # latents that make a state
    width: int = 8  # latents, as a multiple of the states' width
    epochs: int = 20
    most_states: int = 300_000  # that the dictionary is learned from
    shown: int = 30  # latents on the page
    seed: int = 0

    def check(self) -> None:
        """Raise UserError for numbers that make no sense."""
        check_least(self, k=1, width=1, epochs=1, most_states=1, shown=1)


@dataclass(frozen=True)
class States:
    """states [N, D] float32; last, following [N]: the items before and after; half_a [N] bool: half of the users."""

    states: Tensor
    last: np.ndarray
    following: np.ndarray
    half_a: np.ndarray


@dataclass(frozen=True)
class Fired:
    """What a dictionary makes of the states: activations and their latents, [N, k] each."""

    dictionary: Dictionary
    values: Tensor
    which: Tensor

    @classmethod
    def of(cls, dictionary: Dictionary, found: States) -> Fired:
        return cls(dictionary, *dictionary.latents(found.states))


def probe_sae(run: Run, stage: RunContext, settings: SaeSettings) -> dict[str, Any]:
    """Figures and latents as plain values. Raises UserError for a model without states or queries to change."""
    settings.check()
    model = load_model(run, stage).cpu()
    if not isinstance(model, SequenceModel) or type(model).score is not SequenceModel.score:
        raise UserError(
            f"the model '{run.config.model.name}' has no state that its scores are made of, so there is nothing to take apart; "
            "probe a run of a sequence model, such as sasrec"
        )
    train = TrainingData.of(stage.data, stage.split)
    found = collect_states(model, train, settings)
    m = settings.width * found.states.shape[1]
    if settings.k > m:
        raise UserError(f"k={settings.k} is more than the {m} latents")
    learned, dead = learn_dictionary(found.states, m, settings.k, settings.epochs, seed=settings.seed)
    again, _ = learn_dictionary(found.states, m, settings.k, settings.epochs, seed=settings.seed + 1)
    attributes = attributes_of(
        found.last, found.following, item_attributes(stage.data, train.item_counts()), stage.data.n_items
    )
    fired, chance = Fired.of(learned, found), random_dictionary(found.states, m, settings.k, settings.seed)
    concepts = concepts_of(fired, found, attributes)
    controls = controls_of(chance, found, attributes, settings)
    alone = item_detectors(fired.values.numpy(), fired.which.numpy(), m, found.last)
    fires = concepts.rate > 0
    figures = {
        "states": len(found.states),
        "latents": m,
        "dead_share": dead,
        "unexplained_variance": learned.unexplained(found.states),
        "unexplained_variance_random": chance.unexplained(found.states),
        "item_detectors_share": float(alone[fires].mean()) if fires.any() else 0.0,
        "matched_by_second_seed": matched_share(learned, again),
        "confidence": mean_confidence(concepts, settings.shown),
        **{f"confidence_{name}": mean_confidence(other, settings.shown) for name, other in controls.items()},
        **rankings(model, stage, run, learned),
    }
    rows = latent_rows(model, stage, run, fired, concepts, attributes, alone, found, settings)
    return {"run": run.folder.key, "kind": "sae", "settings": asdict(settings), "figures": figures, "rows": rows}


def collect_states(model: Recommender, train: TrainingData, settings: SaeSettings) -> States:
    """The last layer's states at the real positions of training windows, in evaluation mode; a draw of windows where there are too many."""
    windows = training_windows(train.start, train.end, model.max_length)
    dataset, generator = WindowDataset(train.data, windows), np.random.default_rng(settings.seed)
    order = generator.permutation(len(windows.length))
    order = order[np.cumsum(windows.length[order]) <= max(settings.most_states, int(windows.length[order[0]]))]
    order = order[np.argsort(windows.length[order], kind="stable")]
    states, last, following, users = [], [], [], []
    for rows in np.array_split(order, -(-len(order) // WINDOWS_AT_ONCE)):
        batch = dataset[rows]
        assert batch.targets is not None
        with torch.no_grad():
            states.append(model.hidden_states(batch)[-1][batch.mask].float())
        last.append(batch.items[batch.mask].numpy())
        following.append(batch.targets[batch.mask].numpy())
        users.append(np.repeat(windows.user[rows], windows.length[rows]))
    half = np.random.default_rng(settings.seed + 1).random(train.n_users) < 0.5
    return States(torch.cat(states), np.concatenate(last), np.concatenate(following), half[np.concatenate(users)])


def concepts_of(fired: Fired, found: States, attributes: Attributes) -> Concepts:
    """Of every latent."""
    m = fired.dictionary.decode.shape[0]
    return find_concepts(fired.values.numpy(), fired.which.numpy(), m, attributes, found.half_a)


def controls_of(
    chance: Dictionary, found: States, attributes: Attributes, settings: SaeSettings
) -> dict[str, Concepts]:
    """The same of directions that nobody learned, and of attributes dealt anew over the states."""
    rows = np.random.default_rng(settings.seed).permutation(len(found.last))
    dealt = Attributes(attributes.names, attributes.has[rows], attributes.of_items)
    by_chance = Fired.of(chance, found)
    return {
        "random_dictionary": concepts_of(by_chance, found, attributes),
        "neurons": concepts_of(Fired.of(neurons(found.states, settings.k), found), found, attributes),
        "principal_axes": concepts_of(Fired.of(principal_axes(found.states, settings.k), found), found, attributes),
        "dealt_attributes": concepts_of(by_chance, found, dealt),
    }


def mean_confidence(concepts: Concepts, shown: int) -> float:
    """Mean F1 on held-out users of the latents that are best on the others: chosen on half A, measured on half B."""
    best = np.argsort(-concepts.found, kind="stable")[:shown]
    return float(concepts.confidence[best].mean())


def rankings(model: SequenceModel, stage: RunContext, run: Run, dictionary: Dictionary) -> dict[str, float]:
    """NDCG@10 of the test from the states as they are, from their reconstruction, and from one mean state for all."""

    def by(change: Any) -> float:
        def score(batch: Batch) -> Tensor:
            return scores_of(model, change(model.last_states(batch)[-1].float()))

        ranked = evaluate(score, stage.data, stage.split.test, stage.split, run.config.training.max_length)
        return ranked.metrics([LIST])[f"ndcg@{LIST}"]

    return {
        "ndcg@10": by(lambda x: x),
        "ndcg@10_reconstructed": by(dictionary.reconstructed),
        "ndcg@10_mean_state": by(lambda x: dictionary.centre.expand_as(x)),
    }


def scores_of(model: SequenceModel, states: Tensor) -> Tensor:
    """[B, V] from the states [B, D] that the model ranks from."""
    queries, vectors = model.queries(states), model.item_vectors()
    return queries @ vectors.T if model.heads is None else model.heads.scores(queries, vectors)  # type: ignore[operator]


def latent_rows(
    model: SequenceModel,
    stage: RunContext,
    run: Run,
    fired: Fired,
    concepts: Concepts,
    attributes: Attributes,
    alone: np.ndarray,
    found: States,
    settings: SaeSettings,
) -> list[dict[str, Any]]:
    """The latents whose concept is surest on held-out users: what they say, where they fire, what taking them away does."""
    states = test_states(model, stage, run)
    dictionary = fired.dictionary
    active, which = dictionary.latents(states)
    titles = stage.data.item_table().sort("item_id")["title"].to_list()
    shown = [j for j in np.argsort(-concepts.confidence, kind="stable")[: settings.shown] if concepts.attribute[j] >= 0]
    by_rate = np.argsort(concepts.rate, kind="stable")
    place = np.empty(len(by_rate), dtype=np.int64)
    place[by_rate] = np.arange(len(by_rate))
    rows = []
    for j in shown:
        bears = torch.from_numpy(attributes.of_items[concepts.attribute[j]])
        like = int(by_rate[place[j] + 1 if place[j] + 1 < len(by_rate) else place[j] - 1])
        strongest = (fired.values * (fired.which == j)).amax(1).topk(min(200, len(fired.values))).indices.numpy()
        items = list(dict.fromkeys(found.last[strongest].tolist()))[:SHOWN_ITEMS]
        rows.append(
            {
                "latent": int(j),
                "concept": attributes.names[concepts.attribute[j]],
                "kind": "item" if alone[j] else "concept",
                "confidence": float(concepts.confidence[j]),
                "fires": float(concepts.rate[j]),
                "effect": ablation(model, states, active, which, dictionary, int(j), int(j), bears),
                "effect_of_another": ablation(model, states, active, which, dictionary, int(j), like, bears),
                "items": [titles[item - 1] or f"item {item}" for item in items],
            }
        )
    return rows


def test_states(model: SequenceModel, stage: RunContext, run: Run) -> Tensor:
    """[C, D] the states that the test is ranked from."""
    found = []
    for _, batch in evaluation_batches(stage.data, stage.split.test, run.config.training.max_length, WINDOWS_AT_ONCE):
        with torch.no_grad():
            found.append(model.last_states(batch)[-1].float())
    return torch.cat(found)


@torch.no_grad()
def ablation(
    model: SequenceModel,
    states: Tensor,
    active: Tensor,
    which: Tensor,
    dictionary: Dictionary,
    latent: int,
    taken: int,
    bears: Tensor,
) -> float | None:
    """Change of the share of items [V] bool ``bears`` in the top 10 of the users where ``latent`` fires, when the part of ``taken`` is subtracted.

    Where ``taken`` is another latent, as much is subtracted along its direction, so that only the direction differs. The rest of the state,
    the reconstruction's error too, stays. None if it fires for nobody.
    """
    part = (active * (which == latent)).sum(1)
    rows = (part > 0).nonzero()[:, 0][:1000]
    if not len(rows):
        return None
    before = states[rows]
    after = before - part[rows, None] * dictionary.decode[taken]
    shares = []
    for x in (before, after):
        scores = scores_of(model, x)
        scores[:, 0] = -torch.inf
        shares.append(bears[scores.topk(min(LIST, scores.shape[1] - 1), dim=1).indices].float().mean())
    return float(shares[1] - shares[0])
