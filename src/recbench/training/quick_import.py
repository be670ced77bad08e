"""Lightning imported without what nothing here calls: torch's compiler, and what torchmetrics' plots and text metrics need.

- Lightning imports torch's compiler for the name of a class. It takes as long as torch itself.
- It imports the whole of torchmetrics, and that, where they are installed, matplotlib, transformers' automatic classes and ``scipy.signal``: two of
  five CPU seconds. torchmetrics leaves out what it does not find, so for the moment of its import it does not find these; in this process its
  plots and its text metrics then say that they are not installed.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

#: What torchmetrics shall not find.
ACCESSORIES = ("matplotlib", "transformers", "scipy")
COMPILER = "torch._dynamo"


@contextlib.contextmanager
def without_accessories() -> Iterator[None]:
    """Around the first import of Lightning. It has no effect where torchmetrics was imported before, or looks for packages in another way."""
    try:
        from lightning_utilities.core import imports
    except ImportError:
        yield
        return
    names = ("package_available", "_version")
    if "torchmetrics" in sys.modules or not all(hasattr(imports, name) for name in names):
        yield
        return
    package_available, version = imports.package_available, imports._version

    def there(name: str) -> bool:
        return name not in ACCESSORIES and package_available(name)

    def version_of(name: str) -> Any:
        if name in ACCESSORIES:
            raise imports.PackageNotFoundError(name)
        return version(name)

    imports.package_available, imports._version = there, version_of  # type: ignore[assignment]
    try:
        _without_compiler()
        yield
    finally:
        imports.package_available, imports._version = package_available, version
        # What others ask later is answered anew.
        imports.module_available.cache_clear()


class _Compiled(type):
    def __instancecheck__(cls, instance: object) -> bool:
        """No module is compiled as long as the compiler was not imported."""
        compiler = sys.modules.get(COMPILER)
        return compiler is not None and isinstance(instance, compiler.OptimizedModule)


class _OptimizedModule(metaclass=_Compiled):
    """The compiler's class of modules, for ``isinstance`` alone."""


def _as_it_is(function: Callable[..., Any], *_: Any, **__: Any) -> Callable[..., Any]:
    return function


def _without_compiler() -> None:
    """Import Lightning with a stand-in for the compiler, which is gone afterwards. Lightning asks it for a class, and to leave its results alone if
    it should ever compile the whole module; we compile layers of models (``hardware.compile``)."""
    if COMPILER in sys.modules or "pytorch_lightning" in sys.modules:
        return
    stand_in: Any = ModuleType(COMPILER)
    stand_in.OptimizedModule, stand_in.disable = _OptimizedModule, _as_it_is
    sys.modules[COMPILER] = stand_in
    try:
        import pytorch_lightning  # noqa: F401
    except (ImportError, AttributeError):
        pass  # it wants more of the compiler: who asked for Lightning imports both
    finally:
        if sys.modules.get(COMPILER) is stand_in:
            del sys.modules[COMPILER]
