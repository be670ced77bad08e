"""One measurement in a process of its own, so that its peak memory is its own: ``python one.py '{"layers": 4, ...}'`` prints one line of JSON.

The backbone has the shape of Llama-2-7B divided by ``width``, with random frozen weights and LoRA, over a random item table. Time and memory
do not depend on what the weights are.
"""

from __future__ import annotations

import contextlib
import gc
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recbench.data.batches import Batch
from recbench.models.base import ModelContext, count_parameters
from recbench.models.language.slmrec import SLMRec, SLMRecConfig
from recbench.objectives.distillation.base import Objective
from recbench.objectives.distillation.configs import SLMRecDistillation
from recbench.objectives.distillation.slmrec import SLMRecObjective
from recbench.objectives.distillation.teacher import OnlineLessons

#: Llama-2-7B: width, feed-forward width, heads.
LLAMA = (4096, 11008, 32)
#: Forms of the prompt. full: recomputed for every row, as the paper's code does | prefix: computed once a batch, its keys and values reused,
#: the suffix behind every history | none: items alone.
FORMS = ("full", "prefix", "none")


@dataclass(frozen=True)
class Case:
    """What is measured. task: inference | one_target (training on the last event of a history, as the paper does) | all_targets (training on
    every event) | taught_offline, taught_online (all_targets with the objective of SLMRec and a teacher of ``teacher_layers``)."""

    layers: int
    form: str
    task: str
    width: int
    batch: int
    history: int = 30
    prompt: tuple[int, int] = (63, 6)
    n_items: int = 12101
    item_width: int = 128
    teacher_layers: int = 8
    n_blocks: int = 4
    device: str = "cpu"
    precision: str = "float32"
    threads: int = 1
    repeats: int = 5
    budget: float = 60.0


class RandomTable(nn.Module):
    """Stands for the run that lends its item vectors."""

    def __init__(self, n_items: int, width: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(n_items + 1, width) * 0.1)

    def item_vectors(self) -> Tensor:
        return self.table


def build(case: Case, layers: int, folder: Path) -> SLMRec:
    """The model of a case with so many layers, on its device."""
    hidden, feedforward, heads = (max(1, size // case.width) for size in LLAMA)
    shape = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": hidden,
        "intermediate_size": feedforward,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "num_hidden_layers": layers,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "vocab_size": 32000,
        "pad_token_id": 0,
    }
    (folder / "config.json").write_text(json.dumps(shape))
    config = SLMRecConfig(
        backbone=str(folder),
        n_layers=layers,
        init="random_frozen",
        precision=case.precision,
        prompt="none" if case.form == "none" else "learned",
        prompt_lengths=list(case.prompt),
    )
    torch.manual_seed(0)
    with torch.device(case.device):  # billions of weights are drawn in seconds on a GPU, in minutes beside it
        table: Any = RandomTable(case.n_items, case.item_width)
        model = SLMRec(config, ModelContext(case.n_items, 1, case.history, dependencies={"item_table": table}))
    model.backbone.reuse_prefix = case.form != "full"
    return model.to(case.device)


def random_batch(case: Case) -> Batch:
    """Histories of full length."""
    generator = torch.Generator().manual_seed(1)
    drawn = torch.randint(1, case.n_items + 1, (case.batch, case.history + 1), generator=generator)
    full = torch.full((case.batch,), case.history)
    times = torch.zeros(case.batch, case.history, dtype=torch.int64)
    return Batch(drawn[:, :-1], times, full, torch.arange(case.batch), targets=drawn[:, 1:]).to(case.device)


def step_of(case: Case, folder: Path) -> tuple[SLMRec, Callable[[], object]]:
    """(model, what is timed): a call that scores one batch, or that trains on it."""
    model, batch = build(case, case.layers, folder), random_batch(case)
    if case.task == "inference":
        model.eval()

        def score() -> object:
            with torch.inference_mode():
                return model.score(batch)

        return model, score
    model.train()
    loss, modules = loss_of(case, model, batch, folder)
    optimizer = torch.optim.AdamW([p for m in modules for p in m.parameters() if p.requires_grad], lr=1e-4)

    def train() -> object:
        value = loss()
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        return value

    return model, train


def loss_of(case: Case, model: SLMRec, batch: Batch, folder: Path) -> tuple[Callable[[], Tensor], list[nn.Module]]:
    """(the loss of one training step, the modules that it trains)."""
    assert batch.targets is not None
    if case.task == "one_target":
        last = batch.targets[:, -1]
        return lambda: model.catalogue_loss(model.queries(model.last_states(batch)[-1]), last), [model]
    if case.task == "all_targets":
        return lambda: model.training_loss(batch), [model]
    teacher = build(case, case.teacher_layers, folder).eval().requires_grad_(False)
    config = SLMRecDistillation(n_blocks=case.n_blocks)
    objective = SLMRecObjective(config, model, teacher).to(case.device)

    offline = case.task == "taught_offline"
    taught = stored_answers(objective, teacher, batch, folder) if offline else OnlineLessons(objective, teacher)

    def loss() -> Tensor:
        states = model.hidden_states(batch)
        terms = objective.terms(model, states, taught(batch), batch)
        return model.loss_from_states(states, batch) + torch.stack(list(terms.values())).sum()

    return loss, [model, objective]


def stored_answers(
    objective: Objective, teacher: SLMRec, batch: Batch, folder: Path
) -> Callable[[Batch], dict[str, Tensor]]:
    """What the teacher says of a batch, written to files and read from them at every call; the teacher is not kept."""
    for name, value in OnlineLessons(objective, teacher)(batch).items():
        np.save(folder / f"{name}.npy", value.float().cpu().numpy())
    stored = {path.stem: np.load(path, mmap_mode="r") for path in folder.glob("state_*.npy")}
    return lambda asked: {name: torch.from_numpy(np.array(v)).to(asked.items.device) for name, v in stored.items()}


def timed(case: Case, call: Callable[[], object]) -> list[float]:
    """Seconds of each repetition after one that is not counted; at least two, and no more than the budget allows."""

    def once() -> float:
        started = time.perf_counter()
        call()
        if case.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    once()
    seconds: list[float] = []
    while len(seconds) < 2 or (len(seconds) < case.repeats and sum(seconds) < case.budget):
        seconds.append(once())
    return seconds


def peak_bytes(device: str) -> int:
    """The most memory that this process held: of the GPU, or of the machine."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status")
    if status.is_file():  # the count of getrusage starts with that of the parent process
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def forget_peak(device: str) -> None:
    """Let the peak start again from what is held now, where the system can."""
    gc.collect()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def measure(case: Case) -> dict[str, float]:
    """Seconds, memory and parameters of a case. libraries_bytes: what the process held before there was a model."""
    import peft  # noqa: F401 - the libraries that a model brings in count as libraries
    from transformers import LlamaModel  # noqa: F401

    torch.set_num_threads(case.threads)
    before = peak_bytes(case.device)
    with tempfile.TemporaryDirectory() as folder:
        model, call = step_of(case, Path(folder))
        forget_peak(case.device)  # building a model, or a teacher that is gone again, is not what is measured
        seconds = timed(case, call)
        peak = peak_bytes(case.device)
    return {
        "seconds": statistics.median(seconds),
        "seconds_least": min(seconds),
        "seconds_most": max(seconds),
        "repeats": len(seconds),
        "peak_bytes": peak,
        "libraries_bytes": before,
        **{f"parameters_{name}": value for name, value in count_parameters(model).items()},
        "parameters_layers": sum(p.numel() for name, p in model.backbone.named_parameters() if ".layers." in name),
    }


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    print(json.dumps(measure(Case(**{**given, "prompt": tuple(given["prompt"])}))))
