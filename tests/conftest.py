"""Fixtures that the whole test suite shares: a small synthetic data set, typed configs, and the command line with and without a process."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.fixtures.warm import WarmProcess

# Before torch is imported: the models are so small that a second thread only costs, and one thread gives the same bits everywhere.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# No test asks a server for anything.
os.environ["HF_HUB_OFFLINE"] = "1"

pytest_plugins = [
    "tests.fixtures.language_models",
    "tests.fixtures.cheap",
    "tests.fixtures.dear",
    "tests.fixtures.garbage",
    "tests.fixtures.plug_ins",
    "tests.fixtures.quick_logging",
    "tests.fixtures.run_folders",
    "tests.fixtures.small_data",
    "tests.fixtures.study",
]

ROOT = Path(__file__).resolve().parents[1]


def pytest_sessionstart(session: pytest.Session) -> None:
    """Lightning comes as it comes into a run, without the accessories that take two seconds, before a test module imports it with them."""
    collects = hasattr(session.config, "workerinput") or not session.config.getoption("numprocesses", None)
    if collects and len(session.config.args) > 1:  # the whole suite: anything less may do without Lightning
        from recbench.training.quick_import import without_accessories

        with without_accessories():
            import pytorch_lightning  # noqa: F401


class Finished(NamedTuple):
    """What a command left behind."""

    status: int
    out: str
    err: str


@contextlib.contextmanager
def _own_messages() -> Iterator[None]:
    """The package's logger bare, and put back afterwards: a command speaks through a handler on the stderr of its call, which is gone after it."""
    package = logging.getLogger("recbench")
    kept = list(package.handlers), package.level, package.propagate
    package.handlers.clear()
    package.propagate = True
    try:
        yield
    finally:
        package.handlers[:], package.propagate = kept[0], kept[2]
        if package.level != kept[1]:  # or every logger there is would forget its level
            package.setLevel(kept[1])


@pytest.fixture(autouse=True)
def own_messages() -> Iterator[Callable[[], contextlib.AbstractContextManager[None]]]:
    """Of each test; ``with own_messages():`` also of each of several commands in one."""
    with _own_messages():
        yield _own_messages


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the checkout; tests that read it are skipped where it is absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real data folder ../shared/data is not here")
    return folder


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Prepared data of the tests lie in a folder of their own, also for processes that a test starts."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECBENCH_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def tiny() -> list[str]:
    """Command-line words for the tiny data, those of the contract tests, on the CPU, untracked."""
    from recbench.experiment.model_contract.world import DATA

    return [
        "data=synthetic",
        "hardware=cpu",
        "tracking=off",
        *(f"data.{key}={value}" for key, value in DATA.items()),
    ]


@pytest.fixture(scope="session")
def tiny_data(own_cache: Path) -> Any:
    """The tiny data, prepared."""
    from recbench.data.sources.synthetic_config import SyntheticConfig
    from recbench.data.store import prepare
    from recbench.experiment.model_contract.world import DATA

    return prepare(SyntheticConfig(**DATA), own_cache)


@pytest.fixture(scope="session")
def tiny_split(tiny_data: Any) -> Any:
    from recbench.data.protocol import LeaveOneOutConfig
    from recbench.data.split import make_split

    return make_split(tiny_data, LeaveOneOutConfig(), None)


@pytest.fixture(scope="session")
def stored_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a Llama of 4 layers, 16 wide, as Hugging Face stores one."""
    import torch
    from transformers import LlamaConfig, LlamaModel

    folder = tmp_path_factory.mktemp("llama")
    torch.manual_seed(1)
    LlamaModel(
        LlamaConfig(
            vocab_size=30,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=4,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=64,
        )
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def compose() -> Callable[..., Any]:
    """compose("model=sasrec", ...) -> the composed DictConfig, as the command line would make it."""
    from recbench.config.compose import composed

    return lambda *words: composed(words)


@pytest.fixture(scope="session")
def run_config(compose: Callable[..., Any], tiny: list[str]) -> Callable[..., Any]:
    """run_config(runs_dir, "model=sasrec", ...) -> RunConfig on the tiny data."""
    from recbench.config.run import RunConfig

    return lambda runs_dir, *words: RunConfig.from_hydra(compose(*tiny, f"runs_dir={runs_dir}", *words))


@pytest.fixture(scope="session")
def cli() -> Callable[..., Finished]:
    """cli("model=popularity", ..., cwd=FOLDER): the command line in this process, where imports are paid once."""

    def run(*words: str, cwd: Path) -> Finished:
        from recbench.cli import main as module

        out, err = io.StringIO(), io.StringIO()
        with (
            _as_found(),
            contextlib.chdir(cwd),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            sys.argv = ["recbench", *words]
            try:
                status = module.main()
            except SystemExit as end:
                status = int(end.code or 0)
        return Finished(status, out.getvalue(), err.getvalue())

    return run


@contextlib.contextmanager
def _as_found() -> Iterator[None]:
    """Put back what a command changes in its process: arguments, environment, logging, the statuses of a sweep."""
    from recbench.experiment.sweep import SweepCallback

    arguments, environment = list(sys.argv), dict(os.environ)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        with _own_messages():
            yield
    finally:
        SweepCallback.statuses, SweepCallback.sender = [], None
        sys.argv = arguments
        os.environ.clear()
        os.environ.update(environment)
        root.handlers[:] = handlers
        root.setLevel(level)


@pytest.fixture(scope="session")
def cli_process() -> Callable[..., WarmProcess]:
    """cli_process("model=popularity", ..., cwd=FOLDER, module="recbench"): the command line as a process that was just started (and is warm)."""

    def start(*words: str, cwd: Path, module: str = "recbench") -> WarmProcess:
        return WarmProcess(
            [sys.executable, "-m", module, *words], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    return start


@pytest.fixture(scope="session")
def exact_softmax() -> Callable[..., Any]:
    """exact_softmax(hidden, table, targets) -> (loss, gradient by hidden, gradient by table) by torch, in float64, over items 1..n_items."""
    import torch
    import torch.nn.functional as F

    def value(hidden, table, targets):
        hidden, table = hidden.double().requires_grad_(), table.double().requires_grad_()
        loss = F.cross_entropy(hidden @ table[1:].T, targets - 1)
        return loss.detach(), *torch.autograd.grad(loss, (hidden, table))

    return value


@pytest.fixture(scope="session")
def our_softmax() -> Callable[..., Any]:
    """The same by ``full_softmax``, in the types that it is given: our_softmax(hidden, table, targets, bfloat16=False)."""
    import torch

    from recbench.nn.losses.catalogue import full_softmax

    def value(hidden, table, targets, bfloat16=False):
        hidden, table = hidden.clone().requires_grad_(), table.clone().requires_grad_()
        loss = full_softmax(hidden, table, targets, bfloat16)
        return loss.detach(), *torch.autograd.grad(loss, (hidden, table))

    return value


@pytest.fixture(scope="session")
def opened_of(tiny_data, tiny_split, run_config, tmp_path_factory):
    """opened_of("sasrec") -> any model that ranks, built small, as an opened run on the tiny data; with fresh weights where it would be trained."""
    from dataclasses import replace

    from recbench.cli.recommend.model_of_run import Opened
    from recbench.config.schemas import compose_model
    from recbench.experiment.context import RunContext
    from recbench.experiment.model_contract.world import MAX_LENGTH
    from recbench.experiment.model_contract.world import build as built
    from tests.fixtures.model_sizes import SIZES

    def build(name, **keys):
        sizes = {**SIZES.get(name, {}), **keys}
        model = built(name, sizes, tiny_data, tiny_split).requires_grad_(False)
        config = run_config(tmp_path_factory.getbasetemp(), "model=popularity", f"training.max_length={MAX_LENGTH}")
        config = replace(config, model=compose_model({"model": name, **sizes}, "model", "none")[0])
        return Opened(f"{name}-0", config, RunContext(tiny_data, tiny_split), model)

    return build


@pytest.fixture(scope="session")
def largest_made() -> Callable[..., Any]:
    """largest_made() -> a context that notes in ``values`` the most values of any tensor that an operation within makes."""
    import torch

    from recbench.evaluation.cost.operations import OperationMode

    class Largest(OperationMode):
        def __init__(self) -> None:
            super().__init__()
            self.values = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            if not func.is_view:
                made = [part for part in torch.utils._pytree.tree_leaves(out) if isinstance(part, torch.Tensor)]
                self.values = max([self.values, *(part.numel() for part in made)])
            return out

    return Largest
