"""``recbench probe leakage RUN attribute=gender``: how well somebody who sees a run's states, or its lists, can tell an attribute of the users.

    seen        the state that the test is ranked from (sequence models) | the top-k list | the history itself: no list can hide what it says
    told by     logistic regression, and a small network, trained anew on four fifths of the users and asked about the others, five times round
    beside it   the commonest value for all (balanced accuracy: one by the number of values), and the attribute dealt anew over the users

Balanced accuracy: the mean over values of the share of their users that are told right. The adversary of ``model.auxiliary=[fairrec]`` is never
asked.

Shapes: U users whose attribute is known, D width of the states, V = n_items + 1.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy import sparse

from recbench.cli.probe.settings import check_least
from recbench.core.errors import UserError
from recbench.data.batches import evaluation_batches
from recbench.data.cases import Cases, flat_ranges
from recbench.data.user_attributes import numbered
from recbench.experiment.asking import rank_cases
from recbench.experiment.build import known_of_users, load_model
from recbench.experiment.context import Run, RunContext
from recbench.experiment.device import device_of
from recbench.models.base import Recommender
from recbench.models.sequence_model import SequenceModel
from recbench.posthoc.probes.telling import dealt, telling

ROWS_AT_ONCE = 512


@dataclass
class LeakageSettings:
    """What the figures depend on."""

    attribute: str = ""  # a column of the users' table
    k: int = 10  # length of a list
    folds: int = 5
    users: str = ""  # a table of users, in place of what the run's data know
    user: str = "user"  # its column of raw user ids
    seed: int = 0

    def check(self) -> None:
        """Raise UserError for values that make no sense."""
        if not self.attribute:
            raise UserError("name the attribute, as in attribute=gender")
        check_least(self, k=1, folds=2, seed=0)


def probe_leakage(run: Run, stage: RunContext, settings: LeakageSettings) -> dict[str, Any]:
    """Figures and a row for each thing seen, as plain values. Raises UserError where nothing is known of the users."""
    settings.check()
    if run.config.protocol.asks_clicks:
        raise UserError(f"{run.folder.key} gives no lists of items; probe a run that ranks")
    config, data = run.config, run.config.data
    if settings.users:
        users = replace(data.users, path=settings.users, user=settings.user, attributes=[])
        config = replace(config, data=replace(data, users=users))
    label, words = numbered(known_of_users(config, stage.data), settings.attribute)
    test = stage.split.test
    _, first = np.unique(test.user, return_index=True)  # a case a user
    cases = test.select(first[label[test.user[first]] >= 0])
    label = label[cases.user]
    model = load_model(run, stage)
    seen = {"list": lists(model, run, stage, cases, settings.k), "history": histories(stage, cases)}
    if isinstance(model, SequenceModel):
        seen = {"state": states(model, run, stage, cases), **seen}
    rows = []
    for name, features in seen.items():
        found = telling(features, label, settings.folds, settings.seed)
        chance = telling(features, dealt(label, settings.seed), settings.folds, settings.seed)
        rows.append({"name": name, **found, **{f"{key}_dealt": chance[key] for key in ("logistic", "network")}})
    counts = np.bincount(label, minlength=len(words))
    figures: dict[str, Any] = {"users": len(label), "values": len(words), "chance": 1 / int((counts > 0).sum())}
    figures["commonest_share"] = float(counts.max() / len(label))
    figures |= {f"{key}_{row['name']}": row[key] for row in rows for key in row if key != "name"}
    return {
        "run": run.folder.key,
        "kind": "leakage",
        "settings": asdict(settings),
        "figures": figures,
        "rows": rows,
    }


@torch.no_grad()
def states(model: SequenceModel, run: Run, stage: RunContext, cases: Cases) -> np.ndarray:
    """[U, D] what the cases are ranked from."""
    device = device_of(run.config.hardware)
    model = model.to(device).eval()
    found = np.zeros((len(cases), model.width), dtype=np.float32)
    for numbers, batch in evaluation_batches(stage.data, cases, run.config.training.max_length, ROWS_AT_ONCE):
        found[numbers] = model.last_states(batch.to(device))[-1].float().cpu().numpy()
    return found


def lists(model: Recommender, run: Run, stage: RunContext, cases: Cases, k: int) -> sparse.csr_array:
    """[U, V] 1 where an item is in the list of a user."""
    found = rank_cases(model, stage.data, stage.split, cases, run.config, top_k=min(k, stage.data.n_items)).top_k
    assert found is not None
    user = np.repeat(np.arange(len(cases)), found.shape[1])
    return bags(user, found.ravel(), len(cases), stage.data.n_items)


def histories(stage: RunContext, cases: Cases) -> sparse.csr_array:
    """[U, V] 1 where an item is in the history of a user."""
    user, place = flat_ranges(cases.start, cases.end)
    return bags(user, np.asarray(stage.data.items[place]), len(cases), stage.data.n_items)


def bags(user: np.ndarray, item: np.ndarray, n_users: int, n_items: int) -> sparse.csr_array:
    """[U, V] of pairs; the pad is left out."""
    real = item > 0
    pairs = np.unique(user[real].astype(np.int64) * (n_items + 1) + item[real])
    made = (np.ones(len(pairs), dtype=np.float32), (pairs // (n_items + 1), pairs % (n_items + 1)))
    return sparse.csr_array(made, shape=(n_users, n_items + 1))
