"""A model's program as an ONNX graph, and the same proof that it scores as the model does, by onnxruntime. Needs the extra ``onnx``.

torch converts the program of ``torch.export``. What the write on a diagonal means in ONNX, which it does not convert, stands here. Layers with
operations that ONNX lacks (complex numbers, stable sorts, running maxima, writes in place) have a form for export, which
``torch.compiler.is_exporting()`` chooses. A model with any other such operation is refused with the operation's name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from recbench.cli.export.program import input_names, quiet
from recbench.core.errors import UserError, first_line
from recbench.models.base import Recommender

#: The one output, [B, n_items + 1].
OUTPUT = "scores"


def check_packages() -> None:
    """Raise UserError where the extra is not installed, before anything is computed."""
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(
            "--format onnx needs the extra 'onnx'; install it with: pip install 'recbench[onnx]'"
        ) from error


def save_onnx(program: ExportedProgram, model: Recommender, name: str, path: Path) -> None:
    """Convert a program and write it, its weights inside (or beside, above the 2 GB of a protobuf). Raises UserError with the reason."""
    try:
        with quiet(), torch.no_grad():
            converted = torch.onnx.export(
                program,
                dynamo=True,
                input_names=input_names(model),
                output_names=[OUTPUT],
                custom_translation_table=_translations(),
                verbose=False,
            )
            assert converted is not None
            converted.save(path)
    except Exception as error:
        raise UserError(
            f"'{name}' cannot be exported as ONNX: {_reason(error)}; leave out --format onnx for a program of torch"
        ) from error


def onnx_scorer(path: Path, names: Sequence[str]) -> Callable[..., Tensor]:
    """The stored graph as a function of the tensors of ``names``, on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def score(*inputs: Tensor) -> Tensor:
        given = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
        try:
            return torch.from_numpy(session.run([OUTPUT], given)[0])
        except Exception as error:
            raise UserError(
                f"onnxruntime refuses the graph's own inputs ({_reason(error)}); leave out --format onnx for a program of torch; nothing was written"
            ) from error

    return score


def _reason(error: BaseException) -> str:
    """The innermost cause, in a line: torch puts advice of its own around it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)[:200]


def _translations() -> dict[Any, Callable[..., Any]]:
    """Operations that torch's converter lacks, in those of ONNX."""
    from onnxscript import opset18

    op: Any = opset18  # its types of operators are narrower than what it takes

    def diagonal_scatter(table: Any, source: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
        """``source`` on the main diagonal of the last two, equally long dimensions, which is all that our models ask for."""
        rank = len(table.shape)
        if offset or {dim1 % rank, dim2 % rank} != {rank - 2, rank - 1}:
            raise NotImplementedError("only the main diagonal of the last two dimensions can be written")
        size = op.Gather(op.Shape(table), op.Constant(value_int=-1))
        place = op.Range(op.Constant(value_int=0), size, op.Constant(value_int=1))
        on = op.Equal(
            op.Unsqueeze(place, op.Constant(value_ints=[0])), op.Unsqueeze(place, op.Constant(value_ints=[1]))
        )
        return op.Where(on, op.Unsqueeze(source, op.Constant(value_ints=[-1])), table)

    return {torch.ops.aten.diagonal_scatter.default: diagonal_scatter}
