"""Which registered models become programs, and that those score as the model does."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from recbench.cli.export.program import Scorer, export_model, input_names, inputs_of, largest_difference
from recbench.core.errors import UserError
from recbench.evaluation.cost.efficiency import batches_of
from recbench.models.registry import lookup, model_names

NAMES = [name for name in model_names() if lookup(name).model.ranks]

#: Models that cannot be exported, each with what its refusal says.
REFUSED = {
    "srgnn": "sparse_graphs",
    "gcsan": "sparse_graphs",
    "tagnn": "sparse_graphs",
    "llmgr": "sparse_graphs",
    "gcegnn": "data-dependent control flow",
    "itemknn": "data-dependent control flow",
    "gfcf": "sparse",
    "markov": "data-dependent control flow",
    "prompted": "reading their texts",
    "llamarec": "reading their texts",
    "x_cross": "reading their texts",
    "mllm_msr": "reading their texts",
    "tiger": "search over item codes",
    "lcrec": "search over item codes",
    "p5": "search over item codes",
    "preference": "search over item codes",
    "bigrec": "search over item codes",
    "next_number": "Constraints violated",
    **dict.fromkeys(("dgvae", "easyrec", "recformer"), "data-dependent control flow"),
    **dict.fromkeys(("din", "tin", "dare", "qin"), "reading their texts"),
}

#: The layers of a model are all alike and each is traced anew: one is enough, but for a model of which two are tried.
TWO_LAYERS = ("sasrec",)


def one_layer(name):
    """The key that leaves a model one of its layers."""
    return {"n_layers": 1} if name not in TWO_LAYERS and hasattr(lookup(name).config, "n_layers") else {}


def batch_of(opened, n):
    take = batches_of(opened.stage.data, opened.stage.split.test, opened.config.training.max_length, "cpu")
    return take(np.arange(n))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in REFUSED])
def test_a_program_scores_any_number_of_histories_as_the_model_does(name, opened_of):
    opened = opened_of(name, **one_layer(name))
    width = opened.config.training.max_length
    program = export_model(opened.model, name, batch_of(opened, 5), width)
    batches = [batch_of(opened, n) for n in (1, 2, 5, 33)]
    assert largest_difference(program, opened.model, batches, width) < 1e-4
    one, many = (program.module()(*inputs_of(opened.model, batch, width)) for batch in (batches[0], batches[-1]))
    assert many.shape == (33, opened.stage.data.n_items + 1)
    torch.testing.assert_close(one[0], many[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", REFUSED)
def test_a_model_that_cannot_be_exported_is_refused_by_name_with_the_reason(name, opened_of):
    opened = opened_of(name)
    with pytest.raises(UserError, match=f"'{name}' cannot be exported: .*{REFUSED[name]}") as caught:
        export_model(opened.model, name, batch_of(opened, 5), opened.config.training.max_length)
    assert "\n" not in str(caught.value)


def test_a_single_test_history_is_enough_to_export(opened_of):
    opened = opened_of("sasrec")
    program = export_model(opened.model, "sasrec", batch_of(opened, 1), 20)
    assert largest_difference(program, opened.model, [batch_of(opened, 7)], 20) < 1e-5


def test_inputs_are_those_that_the_model_reads(opened_of):
    assert input_names(opened_of("sasrec").model) == ["items", "lengths"]
    assert input_names(opened_of("tim4rec").model) == ["items", "lengths", "timestamps"]
    hicg = opened_of("hicg")
    assert input_names(hicg.model) == ["items", "lengths", "behaviours"]
    bare = batch_of(hicg, 2)
    bare.behaviours = None
    with pytest.raises(UserError, match="have no behaviours"):
        inputs_of(hicg.model, bare, 20)


def test_a_program_of_other_weights_does_not_pass(opened_of):
    opened = opened_of("sasrec")
    program = export_model(opened.model, "sasrec", batch_of(opened, 5), 20)
    other = copy.deepcopy(opened.model)  # the program holds the very tensors of the model until it is stored
    with torch.no_grad():
        other.item_embedding.weight[3] *= 1.5
    with pytest.raises(UserError, match=r"does not score as the model does.*nothing was written"):
        largest_difference(program, other, [batch_of(opened, 5)], 20)


def test_a_model_that_reads_what_the_program_is_not_given_does_not_pass(opened_of):
    opened = opened_of("sasrec")
    plain = opened.model.score
    opened.model.score = lambda batch: plain(batch) + batch.timestamps[:, :1]
    program = torch.export.export(Scorer(opened.model), inputs_of(opened.model, batch_of(opened, 2), 20))
    with pytest.raises(UserError, match="does not score"):
        largest_difference(program, opened.model, [batch_of(opened, 2)], 20)
