from collections.abc import Mapping
from typing import Any, ClassVar

class ModelContract:
    name: ClassVar[str]
    keys: ClassVar[Mapping[str, Any]]
    training_keys: ClassVar[Mapping[str, Any]]
    epochs: ClassVar[int]
    beats_popularity: ClassVar[bool]

def contract_tests(name: str, **settings: Any) -> dict[str, type[ModelContract]]: ...

__all__ = ["ModelContract", "contract_tests"]
