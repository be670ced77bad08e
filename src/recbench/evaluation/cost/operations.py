"""Seeing every operation that torch carries out."""

from __future__ import annotations

from torch.utils._python_dispatch import TorchDispatchMode


class OperationMode(TorchDispatchMode):
    """A context in which ``__torch_dispatch__`` sees each operation, of code that is not compiled."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """torch would hide this class from its compiler, and so import that, which takes longer than a short run."""
        return False
