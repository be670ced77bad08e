"""What experiments/gpu shows on a GPU, tried on the CPU: the pieces run, a difference is seen, and what is known is not asked again."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch

from experiments.gpu import agree, run, speed
from experiments.gpu.bring import data as bring_data
from experiments.gpu.bring import use
from experiments.gpu.cpu_random import CpuRandom
from recbench.config.compose import compose
from recbench.core.errors import UserError
from recbench.data.brought import FILE
from recbench.data.store import prepare
from recbench.study.run import part_of
from tests.fixtures.model_sizes import SIZES

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["sasrec", "markov", "bpr_mf"])
def test_a_model_agrees_with_itself(name):
    found = agree.compare(name, SIZES.get(name, {}), CPU)
    assert found["within"]
    assert found["scores"] == 0.0
    assert ("gradients" in found) == (name != "markov")


def test_a_model_that_computes_something_else_there_is_found(monkeypatch):
    def changed(model, device):
        model = agree.copy.deepcopy(model)
        with torch.no_grad():
            next(part for part in model.parameters() if part.dim() == 2).mul_(1.01)
        return model

    monkeypatch.setattr(agree, "moved", changed)
    found = agree.compare("sasrec", SIZES["sasrec"], CPU)
    assert not found["within"]
    assert found["gradients"] > agree.TOLERANCE


def test_every_kind_of_random_number_is_drawn_on_the_cpu():
    """The device "meta" has no numbers of its own: what comes from there would stay there."""
    like = torch.empty(3, device="meta")
    drawn = []
    with CpuRandom(seed=5):
        drawn.append(torch.rand(3))
        assert torch.rand(3, device="meta").device.type == "meta"
        assert torch.rand_like(like).device.type == "meta"
        drawn.append(torch.rand(3))
        drawn.append(torch.nn.functional.dropout(torch.ones(100), 0.25, True))
    torch.manual_seed(5)
    made = [torch.rand(3) for _ in range(4)]
    assert torch.equal(drawn[0], made[0])
    assert torch.equal(drawn[1], made[3])  # the two in between used the same generator
    assert drawn[2][drawn[2] > 0].tolist() == pytest.approx([1 / 0.75] * int((drawn[2] > 0).sum()))
    assert 10 < int((drawn[2] == 0).sum()) < 45


def test_what_is_known_is_not_asked_again(tmp_path, capsys):
    words = ["go", "--out", str(tmp_path), "--device", "cpu", "--pieces", "agree", "--models", "markov,popularity"]
    assert run.main(words) == 0
    lines = [json.loads(line) for line in (tmp_path / "figures.jsonl").read_text().splitlines()]
    assert [(line["piece"], line["name"]) for line in lines][1:] == [("agree", "markov"), ("agree", "popularity")]
    capsys.readouterr()
    assert run.main(words) == 0
    assert "markov" not in capsys.readouterr().out
    assert run.main([*words, "--minutes", "0.1", "--models", "ease"]) == 3


def test_a_figure_that_fails_stops_no_other(tmp_path):
    def broken():
        raise RuntimeError("no memory\nmore")

    figures = run.Figures(tmp_path / "figures.jsonl")
    assert not figures.add("agree", "one", broken)
    assert figures.add("agree", "two", lambda: {"scores": 0.0})
    assert run.Figures(figures.path).known == {("agree", "two")}
    assert "RuntimeError: no memory" in figures.path.read_text()


def test_throughput_has_every_figure(tmp_path):
    small = {"n_users": 60, "n_items": 40, "min_length": 4, "mean_length": 6.0, "max_length": 10, "n_clusters": 4}
    found = speed.measure("sasrec", CPU, tmp_path, steps=2, shape=small)
    assert found["targets_per_second"] > 0
    assert found["flops_per_step"] > 0
    assert abs(found["bf16_loss_over_float32"]) < 0.05


def test_prepared_data_that_were_brought_need_no_raw_file(tmp_path):
    log = tmp_path / "log.csv"
    rows = "".join(f"u{i % 7},i{i % 5},{1_600_000_000 + i},{i % 3},said {i}\n" for i in range(70))
    log.write_text(f"user,item,timestamp,stars,words\n{rows}")
    words = ["data=table", f"data.path={log}", f"cache_dir={tmp_path / 'here'}", "data.k_core=0"]
    words += ["data.keep=[ratings,reviews]", "data.columns.rating=stars", "data.columns.review=words"]
    bring_data(words, tmp_path / "set" / "cache")
    made = prepare(compose(["model=popularity", *words]).data, tmp_path / "here")
    log.unlink()
    use(tmp_path / "set", tmp_path / "out")
    config = compose(["model=popularity", *words]).data
    found = prepare(config, tmp_path / "out" / "cache")
    assert found.fingerprint == made.fingerprint
    assert (found.ratings.tolist(), found.reviews().to_list()) == (made.ratings.tolist(), made.reviews().to_list())
    other = compose(["model=popularity", *words, "data.k_core=2"]).data
    with pytest.raises(UserError, match=r"log\.csv"):
        prepare(other, tmp_path / "out" / "cache")
    (tmp_path / "out" / "cache" / "prepared" / FILE).write_text("{")
    with pytest.raises(UserError, match="bring the data again"):
        prepare(config, tmp_path / "out" / "cache")


def test_some_rows_of_a_study_with_what_they_refer_to():
    rows = {
        "a": SimpleNamespace(references=list),
        "b": SimpleNamespace(references=lambda: [("a", "training.lr")]),
        "c": SimpleNamespace(references=list),
    }
    from recbench.study.definition import Study

    study = Study("s", None, "why?", rows, 1, ())
    assert list(part_of(study, ["b"]).rows) == ["a", "b"]
    with pytest.raises(UserError, match="no row 'bb'; did you mean 'b'"):
        part_of(study, ["bb"])


def test_steps_are_compared_under_one_kind_of_dropout():
    """Ours draws its masks in another way on a CPU than elsewhere, so both sides get torch's."""
    model = agree.plain_dropout(agree.fresh("sasrec", SIZES["sasrec"]))
    kinds = [type(part) for part in model.modules() if "ropout" in type(part).__name__]
    assert kinds
    assert set(kinds) == {torch.nn.Dropout}


def test_attention_with_fewer_key_heads_is_counted_as_with_repeated_ones():
    query = torch.empty(2, 6, 5, 8, device="meta")
    few, many = (torch.empty(2, heads, 5, 8, device="meta") for heads in (3, 6))
    attention = torch.ops.aten._scaled_dot_product_flash_attention
    with speed.FlopCounterMode(display=False, custom_mapping=speed.ATTENTION) as ours:
        attention(query, few, few)
    with speed.FlopCounterMode(display=False) as theirs:
        attention(query, many, many)
    assert ours.get_total_flops() == theirs.get_total_flops() > 0
