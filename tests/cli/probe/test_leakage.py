"""``recbench probe leakage RUN``."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import sparse

from recbench.core.errors import UserError
from recbench.posthoc.probes.telling import dealt, telling


def test_what_is_planted_is_told_and_what_is_not_is_chance():
    """An attribute in one of twelve directions, for a tenth of the users the other way: .9 could be told at best."""
    generator = np.random.default_rng(0)
    label = (generator.random(600) < 0.3).astype(int)
    features = generator.standard_normal((600, 12)).astype(np.float32)
    features[:, 3] += 4.0 * np.where(generator.random(600) < 0.1, 1 - label, label)
    found, chance = (telling(features, part, 5, 0) for part in (label, dealt(label, 0)))
    for name in ("logistic", "network"):
        assert found[name] - found[f"{name}_half_width"] > 0.75, found  # .87 and .81 when this was written
        assert abs(chance[name] - 0.5) < 0.08, chance
    wide = sparse.csr_array(np.eye(2, dtype=np.float32)[label].repeat(40, axis=1))
    assert telling(wide, label, 3, 0)["logistic"] == 1.0


def test_too_few_users_of_a_value_are_refused():
    with pytest.raises(UserError, match="fewer than 5 users"):
        telling(np.zeros((20, 2)), np.array([0] * 17 + [1] * 3), 5, 0)


@pytest.fixture(scope="module")
def folder(cli, tiny, tmp_path_factory):
    made = tmp_path_factory.mktemp("leakage")
    for words in (("model=markov",), ("model=sasrec", "model.hidden_size=16", "training.max_epochs=2")):
        assert cli(*words, *tiny, cwd=made).status == 0
    return made


def test_a_page_for_a_model_with_states_and_one_without(folder, cli):
    for name in ("sasrec", "markov"):
        run = next((folder / "runs").glob(f"{name}-*"))
        done = cli("probe", "leakage", f"runs/{run.name}", "attribute=group", "folds=2", cwd=folder)
        assert done.status == 0, done.err
        (result,) = (folder / "probes" / run.name).glob("leakage-*/probe.json")
        found = json.loads(result.read_text())
        assert [row["name"] for row in found["rows"]] == ["state"] * (name == "sasrec") + ["list", "history"]
        assert found["figures"]["users"] == 160
        assert found["figures"]["chance"] == 0.5
        assert "the history itself" in result.with_name("page.html").read_text()


def test_another_table_of_users_and_mistakes(folder, cli):
    run = next((folder / "runs").glob("markov-*")).name
    (folder / "who.csv").write_text("id,liking\n" + "".join(f"u{n:03},{'xy'[n % 2]}\n" for n in range(160)))
    words = "users=who.csv", "user=id", "attribute=liking", "folds=2"
    assert cli("probe", "leakage", f"runs/{run}", *words, cwd=folder).status == 0
    for words, message in (
        ((), "name the attribute"),
        (("attribute=grup",), "nothing is known of the users' 'grup'; did you mean 'group'?"),
        (("attribute=group", "folds=1"), "folds=1 must be at least 2"),
        (("attribute=group", "users=nowhere.csv"), "nowhere.csv"),
    ):
        done = cli("probe", "leakage", f"runs/{run}", *words, cwd=folder)
        assert done.status == 2
        assert message in done.err
