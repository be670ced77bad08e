"""Throughput on a GPU: targets a second, seconds a step, memory, and the share of the device's own best bf16 product (utilisation).

SASRec and TIGER (the paper's sizes) on data of Amazon Beauty's shape, SLMRec on a Llama-like backbone of SmolLM2-135M's sizes at 4, 8 and 30
layers. Weights are random: they do not change how long a step takes. Beside each its loss under bfloat16 over that under float32, for the same batch.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.shape import BEAUTY
from benchmarks.steps import Steps, steps_of
from recbench.config.compose import compose
from recbench.experiment.context import RunContext

#: SmolLM2-135M without its token vectors, which no row here reads.
BACKBONE = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "num_hidden_layers": 30,
    "vocab_size": 49152,
    "max_position_embeddings": 8192,
    "rope_theta": 100000,
    "tie_word_embeddings": True,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
}
#: Name of a row -> words of its run.
ROWS: dict[str, list[str]] = {
    "sasrec": ["model=sasrec", "training.batch_size=2048"],
    "tiger_paper": ["model=tiger_paper", "training.batch_size=1024", "training.max_length=20"],
    **{
        f"slmrec_{depth}_layers": [
            "model=slmrec_plain",
            f"model.n_layers={depth}",
            "model.backbone={folder}",
            "model.init=random_frozen",
            "training.batch_size=1024",
        ]
        for depth in (4, 8, 30)
    },
}


def attention_flops(
    query: Sequence[int], key: Sequence[int], value: Sequence[int], *rest: Any, out_shape: Any = None, **keys: Any
) -> int:
    """Operations of attention, forward, from shapes [B, H, L, D]. Keys may have fewer heads than queries, which torch's own count refuses."""
    batch, heads, length, width = query
    return 2 * batch * heads * length * key[-2] * (width + value[-1])


def attention_flops_back(
    grad: Any, query: Sequence[int], key: Sequence[int], value: Sequence[int], *rest: Any, **keys: Any
) -> int:
    """Operations of attention, backward: the scores once more, and two products for each of the forward's two."""
    batch, heads, length, width = query
    return 2 * batch * heads * length * key[-2] * (3 * width + 2 * value[-1])


#: What FlopCounterMode counts an attention by.
ATTENTION = {
    operation: count
    for kind in ("flash", "efficient", "cudnn")
    for operation, count in (
        (getattr(torch.ops.aten, f"_scaled_dot_product_{kind}_attention"), attention_flops),
        (getattr(torch.ops.aten, f"_scaled_dot_product_{kind}_attention_backward"), attention_flops_back),
    )
}


def measure(
    name: str, device: torch.device, folder: Path, steps: int = 20, shape: Mapping[str, int] = BEAUTY
) -> dict[str, Any]:
    """One row of ROWS. folder: where the cache and the backbone's config may lie. steps: timed ones, after a quarter as many that warm up."""
    config = compose(
        [
            *(word.format(folder=backbone(folder)) for word in ROWS[name]),
            "data=synthetic",
            *(f"data.{key}={value}" for key, value in shape.items()),
            f"cache_dir={folder / 'cache'}",
            "tracking=off",
            "tuned=off",
            "hardware=cpu" if device.type == "cpu" else "hardware=gpu",
        ]
    )
    made = steps_of(config, RunContext.of(config), 4, device)
    exact = loss_of(made, device, bf16=False)
    close = loss_of(made, device, bf16=True)
    with FlopCounterMode(display=False, custom_mapping=ATTENTION) as counter:
        take(made, 0, device)
    seconds = timed(made, steps, device)
    targets = sum(made.targets(i % len(made.plan)) for i in range(steps)) / steps
    flops = counter.get_total_flops()
    return {
        "targets_per_second": targets / seconds,
        "seconds_per_step": seconds,
        "flops_per_step": flops,
        "utilisation": flops / seconds / best_product(device),
        "memory_gib": torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None,
        "bf16_loss_over_float32": close / exact - 1.0,
    }


def backbone(folder: Path) -> Path:
    """A folder with the backbone's sizes alone."""
    to = folder / "backbone"
    to.mkdir(parents=True, exist_ok=True)
    (to / "config.json").write_text(json.dumps(BACKBONE))
    return to


def loss_of(made: Steps, device: torch.device, bf16: bool) -> float:
    """The loss of the first batch, without dropout."""
    made.learner.eval()
    with torch.no_grad(), autocast(device, bf16):
        batch = made.dataset[made.plan[0]].to(device)
        value = float(made.model.training_loss(batch))
    made.learner.train()
    return value


def autocast(device: torch.device, bf16: bool = True) -> Any:
    """bfloat16 products, or nothing."""
    return torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext()


def take(made: Steps, index: int, device: torch.device) -> None:
    """One step with bfloat16 products, as ``hardware.precision=bf16-mixed`` makes it."""
    with autocast(device):
        made.take(index % len(made.plan), lambda kind: nullcontext(), lambda kind: nullcontext())


def timed(made: Steps, steps: int, device: torch.device) -> float:
    """Seconds a step."""
    for index in range(max(1, steps // 4)):
        take(made, index, device)
    wait(device)
    began = time.perf_counter()
    for index in range(steps):
        take(made, index, device)
    wait(device)
    return (time.perf_counter() - began) / steps


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def best_product(device: torch.device) -> float:
    """Operations a second of one large bf16 matrix product here."""
    n = 8192 if device.type == "cuda" else 512
    a = torch.randn(n, n, device=device, dtype=torch.bfloat16)
    times = 10 if device.type == "cuda" else 2
    for _ in range(2):
        a @ a
    wait(device)
    began = time.perf_counter()
    for _ in range(times):
        a @ a
    wait(device)
    return 2 * n**3 * times / (time.perf_counter() - began)
