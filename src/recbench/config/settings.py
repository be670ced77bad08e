"""The keys that every run has, whatever its model, data and protocol: how it trains, what it reports, where it computes and is sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from recbench.core.errors import UserError
from recbench.core.key_fields import LATER, NO_KEY


@dataclass
class SparsityConfig:
    """Tensors that stay sparse while they are trained (``recbench.training.sparsity``); at density 1 there are none."""

    density: float = 1.0  # share of the values that are not 0
    every: int = 200  # steps from one exchange of weights to the next
    update_ratio: float = 0.5  # share of the non-zeros that the first exchange takes; 0: the mask stays as it was drawn
    stop: float = 0.75  # share of all steps after which the masks stay
    tensors: str = "embeddings"  # embeddings (of items) | all

    def check(self) -> None:
        """Raise UserError for numbers that make no sense."""
        if not 0 < self.density <= 1:
            raise UserError(f"training.sparsity.density={self.density:g} must lie above 0 and be at most 1")
        if self.every < 1 or not 0 <= self.update_ratio < 1 or not 0 <= self.stop <= 1:
            raise UserError(
                f"training.sparsity: every={self.every} must be at least 1, update_ratio={self.update_ratio:g} at least 0 and below 1, "
                f"stop={self.stop:g} in 0..1"
            )
        if self.tensors not in ("embeddings", "all"):
            raise UserError(f"unknown training.sparsity.tensors '{self.tensors}'; known: embeddings, all")


@dataclass
class TrainingConfig:
    """How a model is trained; the same keys for every model, so that budgets can be compared."""

    max_epochs: int = 100
    batch_size: int = 512  # predicted events (targets) a step, however many users they come from
    lr: float = 1e-3
    weight_decay: float = 0.0
    patience: int = 10  # epochs without a better validation (evaluation.monitor) before training stops
    max_length: int = 50  # the most recent events of a history that a model sees
    warmup_steps: int = 0  # steps over which the learning rate rises from 0
    # constant | cosine (to 0 over max_epochs) | step (times 0.1 every step_epochs) | inverse_sqrt (lr for warmup_steps, then 1 / sqrt(step) of it)
    schedule: str = "constant"
    gradient_clip: float = 0.0  # largest norm of the gradient; 0 clips nothing
    step_epochs: int = field(default=3, metadata=LATER)  # of schedule=step
    # L2 penalty as a part of the gradient (Adam), where weight_decay stands apart from it (AdamW). They differ for rare items.
    l2: float = field(default=0.0, metadata=LATER)
    optimizer: str = field(default="adamw", metadata=LATER)  # adamw | adagrad, GRU4Rec's own
    # Of item tables: dense | sparse, which moves only the rows that a step looks up (training.row_adam). Another optimiser, for large catalogues.
    embedding_gradients: str = field(default="dense", metadata=LATER)
    # Epochs from one validation to the next; the last epoch always has one. For models whose validation costs as much as an epoch.
    validate_every: int = field(default=1, metadata=LATER)
    # Steps of an epoch, of the batches that it draws; 0: as many as all rows take. For data whose epoch is too long to wait for a validation.
    epoch_steps: int = field(default=0, metadata=LATER)
    # Of models that are trained on single events: events (each once an epoch) | users_uniform (a user, uniformly, and then one of its events)
    rows: str = field(default="events", metadata=LATER)
    # Folder or key of a finished run of the same model whose weights the training starts from (experiment.warm_start). Its key enters ours.
    init_from: str | None = field(default=None, metadata=LATER)
    # They stay as they are: nothing is trained. For keys that change answers alone.
    keep_weights: bool = field(default=False, metadata=LATER)
    # Which training events are targets: none (all) | random | dealrec | denoise | propensity | holdout, each a run of its own (select_NAME).
    selection: str = field(default="none", metadata=LATER)
    selection_keys: dict[str, Any] = field(default_factory=dict, metadata=LATER)  # of that run
    # An epoch has as many steps as without the selection: what is kept comes round several times.
    equal_steps: bool = field(default=False, metadata=LATER)
    sparsity: SparsityConfig = field(default_factory=SparsityConfig, metadata=LATER)
    # A seed: the last day of training is drawn anew with it. For the stability of lists; evaluation stays as it is (recbench.data.resampled).
    resample_day: int | None = field(default=None, metadata=LATER)

    def __post_init__(self) -> None:
        if isinstance(self.sparsity, Mapping):  # as a stored config holds it
            self.sparsity = SparsityConfig(**self.sparsity)


@dataclass
class EvaluationConfig:
    """What is reported, and the validation metric that decides: which epoch is kept, when training stops, which value a search chooses.

    monitor: hr, ndcg, mrr, recall or precision at any cutoff, as in ``hr@7``, or mrr. It is NDCG at 10 unless given, or at the largest cutoff where
    10 is none of them.
    """

    cutoffs: list[int] = field(default_factory=lambda: [1, 5, 10, 20])
    # Metrics of installed packages, computed beside our own. In no key: a finished run that lacks one is tested once more.
    metrics: list[str] = field(default_factory=list, metadata=NO_KEY)
    # Also test with the events of each history in random order (``shuffled_ndcg@10`` ...). In no key, as the metrics above.
    shuffled_histories: bool = field(default=False, metadata=NO_KEY)
    # false: a model that is computed, not trained, is tested alone. Where answers are slow a validation costs as much as the test. In no key.
    validate: bool = field(default=True, metadata=NO_KEY)

    monitor: str = field(default="", metadata=LATER)  # "": the usual one, which is filled in

    def __post_init__(self) -> None:
        self.monitor = self.monitor or self.usual_monitor

    @property
    def usual_monitor(self) -> str:
        return f"ndcg@{10 if 10 in self.cutoffs else max(self.cutoffs, default=10)}"


@dataclass
class HardwareConfig:
    """Where a run computes. Never part of a run's key, because it changes no result beyond rounding."""

    name: str = "auto"
    accelerator: str = "auto"  # auto | cpu | gpu
    devices: int = 1  # processes on each machine
    nodes: int = 1  # machines; more than one needs torchrun or srun
    strategy: str = "auto"  # of several processes: auto (ddp) | ddp | fsdp
    precision: str = "fp32"  # of training: fp32 | bf16-mixed
    compile: bool = False  # torch.compile for the layers in training
    threads: int = 0  # CPU threads of torch; 0 leaves them as they are
    logits: str = "auto"  # precision of the catalogue product in training: auto | float32 | bfloat16
    estimate_energy: bool = False  # where no energy counter can be read: CodeCarbon's estimate (extra 'energy')


@dataclass
class SlurmConfig(HardwareConfig):
    """Hardware that a Slurm job asks for; read by the launcher of a sweep, since a run inside the job has it already."""

    name: str = "slurm"
    partition: str | None = None
    account: str | None = None
    gpus: int | None = None  # on each node
    cpus: int | None = None  # of each task
    memory_gb: int | None = None  # on each node
    minutes: int = 60
    requeue: int = 3  # times that a job which was preempted or ran out of time is queued again


@dataclass
class RayConfig(HardwareConfig):
    """What each job of a sweep asks of a Ray cluster; read by the launcher, since a run inside the job has it already."""

    name: str = "ray"
    cpus: int = 1
    gpus: float = 0.0  # a part of one shares it between jobs
    memory_gb: float | None = None


@dataclass
class TrackingConfig:
    """Where finished runs are sent."""

    name: str = "mlflow"
    enabled: bool = True
    uri: str = "sqlite:///mlflow.db"
    experiment: str = "recbench"
    timeout_seconds: int = 10  # how long a server may be silent before the run is kept for a later sync


@dataclass
class TunedConfig:
    """Which values come from a file of ``conf/tuned`` in place of the model's own. In no key: the values themselves are in it.

    name: the file, as in ``tuned=NAME``; "off": none is read; None: there is none. One of the working folder begins with ``here/``.
    automatic: the name of the file that is read unless another is named, whether there is one or not.
    values: what the file says, as in ``{"training.lr": 0.003}``; other words of the command line may overrule it.
    """

    name: str | None = None
    automatic: str | None = None
    values: dict[str, Any] = field(default_factory=dict)


@dataclass
class RootConfig:
    """Everything that one command line decides. The groups are filled by the dataclass of the chosen option."""

    seed: int = 1
    runs_dir: str = "runs"
    cache_dir: str = "~/.cache/recbench"
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    model: Any = None
    data: Any = None
    protocol: Any = None
    attack: Any = None
    distillation: Any = None
    compression: Any = None
    hardware: Any = None
    tracking: Any = None
    tuned: TunedConfig = field(default_factory=TunedConfig)
