"""Models that transformers knows by name or folder: their first layers, read or drawn, as a backbone needs them.

Only the first layers are built, and of the stored weights only theirs are read: transformers maps the files into memory and takes a
tensor out of them when a module asks for it, so that a layer that is not built is never loaded.
"""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from recbench.core.errors import UserError, first_line
from recbench.data.download import is_offline
from recbench.nn.language.gguf import gguf_file, load_first_layers, read_gguf_config, source_of

if TYPE_CHECKING:
    from recbench.nn.language.backbone_config import BackboneConfig

logger = logging.getLogger(__name__)

#: Weights of ``init=random_frozen`` are never stored; drawn from this seed, they are the same when a run is opened again.
FROZEN_SEED = 0


def read_config(name: str, n_layers: int = 1) -> Any:
    """The transformers config of a named model. Raises UserError if it cannot be had or has fewer layers than asked."""
    from transformers import AutoConfig

    path = gguf_file(name)
    try:
        with few_words():
            full = (
                read_gguf_config(path)
                if path is not None
                else AutoConfig.from_pretrained(
                    source_of(name)[0], trust_remote_code=False, local_files_only=is_offline()
                )
            )
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot read the backbone '{name}' ({first_line(error)}); "
            "without a network, put config.json and the safetensors weights into a folder and set model.backbone to its path "
            "(recbench language-model makes such a folder)"
        ) from error
    depth = getattr(full, "num_hidden_layers", None)
    if depth is None or getattr(full, "hidden_size", None) is None:
        raise UserError(
            f"the backbone '{name}' ({full.model_type}) has no layer count; name a decoder or a BERT-like encoder"
        )
    if n_layers > depth:
        raise UserError(f"the backbone '{name}' has {depth} layers, fewer than model.n_layers={n_layers}")
    return full


def read_tokenizer(name: str) -> Any:
    """The tokenizer of a named model, or the one in its GGUF file. Raises OSError, ValueError or ImportError where there is none."""
    from transformers import AutoTokenizer

    folder, words = source_of(name)
    with few_words():
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=is_offline(), **words)


def first_layers(
    config: BackboneConfig, max_length: int, prompt_length: int, dtype: torch.dtype, tokens: bool = True
) -> Any:
    """The first layers of a named model, without adapters. ``tokens``: whether the vectors of its tokens are needed.

    Raises UserError if the model cannot be had, is too shallow, reads fewer positions than history and prompt have, or cannot take a prompt.
    """
    from transformers import AutoModel

    full = read_config(config.backbone, config.n_layers)
    # A BERT-like encoder becomes causal as a decoder; its weights were trained without that mask.
    changes: dict[str, Any] = {"num_hidden_layers": config.n_layers}
    if hasattr(full, "is_decoder"):
        changes["is_decoder"] = True
    path = gguf_file(config.backbone)
    if config.init == "pretrained" and path is not None:
        full.update(changes)
        model = _from_gguf(path, full, config, dtype, tokens)
    elif config.init == "pretrained":
        model = _stored(config, changes, dtype, tokens)
    else:
        full.update(changes)
        model = drawn(
            lambda wanted: AutoModel.from_config(full, dtype=wanted, trust_remote_code=False),
            config,
        )
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # it sees the first position only, and nothing reads what it says
    _check_positions(model, config, max_length, prompt_length)
    return model


def _stored(config: BackboneConfig, changes: dict[str, Any], dtype: torch.dtype, tokens: bool) -> Any:
    from transformers import AutoModel, BitsAndBytesConfig

    if config.precision == "int8":
        changes = {**changes, "quantization_config": BitsAndBytesConfig(load_in_8bit=True)}
    try:
        with few_words():
            model, found = AutoModel.from_pretrained(
                source_of(config.backbone)[0],
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=is_offline(),
                dtype=dtype,
                output_loading_info=True,
                **changes,
            )
    except (OSError, ValueError, ImportError) as error:
        if config.precision == "int8" and not isinstance(error, OSError):
            raise UserError(
                f"bitsandbytes does not work here ({first_line(error)}); set model.precision=bfloat16"
            ) from error
        raise UserError(
            f"the weights of '{config.backbone}' cannot be read ({first_line(error)}); "
            "they must lie beside config.json as safetensors"
        ) from error
    table = model.get_input_embeddings()
    unread = {name for name, module in model.named_modules() if module is table and not tokens}
    missing = sorted(
        name
        for name in found["missing_keys"]
        if not name.startswith("pooler.") and name.rpartition(".")[0] not in unread
    )
    if missing:
        logger.warning("'%s' holds no weights for %s; they start at random", config.backbone, ", ".join(missing))
    return model


def _from_gguf(path: Path, full: Any, config: BackboneConfig, dtype: torch.dtype, tokens: bool) -> Any:
    from transformers import AutoModel
    from transformers.initialization import no_init_weights

    if config.precision == "int8":
        raise UserError(
            f"model.precision=int8 is made of weights in safetensors, not of {path.name}; convert it with recbench language-model"
        )
    # Nothing is drawn, and memory that nobody writes to is not taken.
    with no_init_weights():
        model = AutoModel.from_config(full, dtype=dtype, trust_remote_code=False)
    load_first_layers(model, path, tokens)
    return model


def drawn(build: Callable[[torch.dtype], Any], config: BackboneConfig) -> Any:
    """A model with random weights; those that are to stay frozen do not depend on the seed of the run."""
    if config.init != "random_frozen":
        return build(torch.float32)
    generator = torch.default_generator
    state = generator.get_state()
    generator.manual_seed(FROZEN_SEED)
    try:
        return build(torch.float32 if config.precision == "float32" else torch.bfloat16)
    finally:
        generator.set_state(state)


def _check_positions(model: Any, config: BackboneConfig, max_length: int, prompt_length: int) -> None:
    limits = [getattr(model.config, "max_position_embeddings", None)]
    if limits[0]:
        limits[0] -= first_position(model)
    if prompt_length:
        # The masks of a prompt know no sliding window, so none may be exceeded.
        limits.append(getattr(model.config, "sliding_window", None))
        if not {"position_ids", "past_key_values"} <= set(inspect.signature(model.forward).parameters):
            raise UserError(
                f"the backbone '{config.backbone}' ({model.config.model_type}) does not let positions be chosen, as a prompt needs; "
                "set model.prompt=none"
            )
    reads = min((limit for limit in limits if limit), default=None)
    if reads is None or reads >= max_length + prompt_length:
        return
    asked = f"training.max_length={max_length}"
    if prompt_length:
        asked += f" and the {prompt_length} of the prompt together"
    raise UserError(f"the backbone '{config.backbone}' reads {reads} positions, fewer than {asked}")


def first_position(model: Any) -> int:
    """The number that a model gives its first position: 0, or behind the pad's in those of RoBERTa's kind."""
    table = getattr(getattr(model, "embeddings", None), "position_embeddings", None)
    padding = getattr(table, "padding_idx", None)
    return 0 if padding is None else padding + 1


def final_norm(model: Any) -> str | None:
    """The name of the norm that follows the last layer, in the model's own naming; None where there is none.

    Every other norm stands inside a numbered layer or beside an embedding.
    """
    names = [
        name
        for name, module in model.named_modules()
        if type(module).__name__.endswith("Norm")
        and "embed" not in name
        and not any(part.isdigit() for part in name.split("."))
    ]
    return names[-1] if names else None


def without_token_table(model: Any) -> None:
    """Leave one row of the token table: no text goes in, and a vocabulary is wide."""
    table = model.get_input_embeddings()
    if table.num_embeddings > 1:
        row = torch.zeros(1, table.embedding_dim, dtype=table.weight.dtype, device=table.weight.device)
        model.set_input_embeddings(nn.Embedding.from_pretrained(row, freeze=True))


@contextmanager
def few_words() -> Iterator[None]:
    """Keep transformers from listing every weight of the layers that are left out, and from drawing bars into a file."""
    from transformers.utils import logging as speech

    level, bars = speech.get_verbosity(), speech.is_progress_bar_enabled()
    speech.set_verbosity_error()
    if not sys.stderr.isatty():
        speech.disable_progress_bar()
    try:
        yield
    finally:
        speech.set_verbosity(level)
        if bars:
            speech.enable_progress_bar()


def hub_folder(name: str, wanted: Sequence[str], what: str, otherwise: str) -> Path:
    """The folder of a hub's model in its cache, with the files that match ``wanted``, fetched where they are not there.

    Raises UserError if that fails: ``what`` cannot be had, and what to do ``otherwise``.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        with few_words():
            return Path(snapshot_download(name, allow_patterns=list(wanted), local_files_only=is_offline()))
    except (OSError, ValueError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        raise UserError(f"cannot get the {what} '{name}' ({first_line(error)}); {otherwise}") from error


def files_of(folder: Path, patterns: Sequence[str]) -> list[Path]:
    """The files of a model's folder that match a pattern, by name."""
    return sorted({path for pattern in patterns for path in folder.glob(pattern)})
