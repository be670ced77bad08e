"""Lightning imported without what only torchmetrics' plots and text metrics need.

Lightning imports the whole of torchmetrics, and that, where they are installed, matplotlib, transformers' automatic classes and
``scipy.signal``: two of the five CPU seconds before a training begins. Nothing here calls them. torchmetrics leaves out what it does not find, so for
the moment of its import it does not find these; in this process its plots and its text metrics then say that they are not installed.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

#: What torchmetrics shall not find.
ACCESSORIES = ("matplotlib", "transformers", "scipy")


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
        yield
    finally:
        imports.package_available, imports._version = package_available, version
        # What others ask later is answered anew.
        imports.module_available.cache_clear()
