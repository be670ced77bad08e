"""Weights in 8 bits: a row of a matrix is int8 numbers and one float scale, and what is multiplied with it is rounded as it comes.

    s_r = max_c |w_rc| / 127        q_rc = round(w_rc / s_r)                 rows of a weight, once
    t_n = max_c |x_nc| / 127        p_nc = round(x_nc / t_n)                 rows of an input, at every call
    y_nr = t_n s_r sum_c p_nc q_rc                                           the sum in int32

Symmetric, one scale a row of the weight ("per channel") and one a row of the input ("dynamic, per token"), so a score does not depend on
what else is in its batch. Done to every ``nn.Linear`` and to the item vectors, be they an embedding, a buffer or the weight of a head;
norms, biases and positions are small and stay as they are.

Why not a library: ``torch.ao.quantization`` is deprecated and keeps weights in objects that safetensors cannot hold; torchao's tensors
cannot be stored in safetensors either, and cost 0.2 ms a layer and call unless the model is compiled, where a whole SASRec takes
less. The integer product is the same one that torchao calls, ``torch._int_mm``. Measured on one core with AVX-512 VNNI: the product of 128
queries with 12,102 items of width 64 takes 1.0 ms instead of 2.8, of width 384 4.2 instead of 20; a single row through a 64 x 64 layer takes
17 us instead of 2. Elsewhere than on a CPU the same numbers are multiplied as float32: the weights stay small, the product gains nothing.

Shapes: N rows of an input, C columns, R rows of a weight.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recbench.core.errors import UserError
from recbench.models.base import Recommender


def quantise_rows(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """[N, C] of any float type -> (int8 [N, C], scales [N, 1] float32). A row of zeros stays one; a NaN makes its scale NaN."""
    matrix = matrix.float()
    scales = matrix.abs().amax(dim=1, keepdim=True).clamp_min(SMALLEST) / 127
    return (matrix / scales).round_().to(torch.int8), scales


#: Largest value of a row below which it is taken for zeros: far enough from where float32 ends that nothing overflows.
SMALLEST = 1e-30


def whole_product(left: Tensor, right: Tensor) -> Tensor:
    """left [N, C] int8, right [R, C] int8 -> left times the transposed right [N, R] float32, summed in int32."""
    return torch._int_mm(left, right.T).float()


def float_product(left: Tensor, right: Tensor) -> Tensor:
    """The same in float32, which holds such sums exactly for C <= 1040, and to 24 bits beyond."""
    return left.float() @ right.float().T


class Int8Matrix(nn.Module):
    """A matrix [R, C] in 8 bits, which stands where a model has a tensor of weights.

    What models do with their item vectors can be done with it: ``matrix[ids]`` gives rows, ``queries @ matrix.T`` multiplies integers, and
    ``matrix.detach()`` is the float32 tensor that it means. As a parameter it is counted like the weight that it replaces, though it
    cannot learn.
    """

    values: Tensor  # [R, C] int8
    scales: Tensor  # [R] float32

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        values, scales = quantise_rows(matrix.detach())
        if isinstance(matrix, nn.Parameter):
            self.values = nn.Parameter(values, requires_grad=False)
        else:
            self.register_buffer("values", values)
        self.register_buffer("scales", scales.squeeze(1))

    @property
    def weight(self) -> Int8Matrix:
        """Itself, where a model asks its embedding or its head for the weight."""
        return self

    @property
    def shape(self) -> torch.Size:
        return self.values.shape

    @property
    def T(self) -> Transposed:
        return Transposed(self)

    def detach(self) -> Tensor:
        """[R, C] float32, made anew at each call."""
        return self.values.float() * self.scales[:, None]

    def __getitem__(self, ids: Tensor) -> Tensor:
        """ids [...] -> rows [..., C] float32."""
        return self.values[ids].float() * self.scales[ids].unsqueeze(-1)

    def product(self, x: Tensor) -> Tensor:
        """x [..., C] -> x times the transposed matrix [..., R], in the type of x."""
        flat, row_scales = quantise_rows(x.reshape(-1, x.shape[-1]))
        out = whole_product(flat, self.values) if x.device.type == "cpu" else float_product(flat, self.values)
        return out.mul_(self.scales).mul_(row_scales).view(*x.shape[:-1], -1).to(x.dtype)


class Transposed:
    """What ``queries @ matrix.T`` multiplies with."""

    def __init__(self, matrix: Int8Matrix) -> None:
        self.matrix = matrix

    def __rmatmul__(self, x: Tensor) -> Tensor:
        return self.matrix.product(x)


class Int8Linear(Int8Matrix):
    """Stands for an ``nn.Linear``: [..., C] -> [..., R]."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear.weight)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        out = self.product(x)
        return out if self.bias is None else out.add_(self.bias)


class Int8Table(Int8Matrix):
    """Stands for an ``nn.Embedding`` or a bare tensor of item vectors: ids [...] -> rows [..., C] float32."""

    def forward(self, ids: Tensor) -> Tensor:
        return self[ids]


def quantise(model: Recommender) -> None:
    """Replace the linear layers and the item vectors of a model, in place. Raises UserError for a model that has neither.

    Item vectors are the embeddings with a row for each item and the pad, and the bare tensors of such a shape in the model itself.
    """
    rows = model.n_items + 1
    new: dict[str, Int8Matrix] = {}
    for path, module in model.named_modules():
        if type(module) is nn.Linear:
            new[path] = Int8Linear(module)
        elif isinstance(module, nn.Embedding) and module.num_embeddings == rows:
            new[path] = Int8Table(module.weight)
    own = [*model.named_parameters(recurse=False), *model.named_buffers(recurse=False)]
    for name, tensor in own:
        if tensor.ndim == 2 and len(tensor) == rows and tensor.is_floating_point():
            delattr(model, name)
            new[name] = Int8Table(tensor)
    if not new:
        raise UserError(
            f"the model '{model.config.name}' has no linear layer and no item vectors for compression=int8; set compression=none"
        )
    for path, matrix in new.items():
        owner, _, leaf = path.rpartition(".")
        setattr(model.get_submodule(owner), leaf, matrix)
