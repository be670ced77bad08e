"""A model's config as a tensor, for a model that keeps another one whole in its own weights and must build it again from them alone."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import torch
from torch import Tensor

from recbench.models.registry import lookup


def packed(config: Any) -> Tensor:
    """A registered model's config as JSON, uint8 [bytes]. Groups of keys within it, which only training reads, are left out."""
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    plain = {name: value for name, value in values.items() if not dataclasses.is_dataclass(value)}
    return torch.frombuffer(bytearray(json.dumps(plain).encode()), dtype=torch.uint8).clone()


def config_of(stored: Tensor) -> Any:
    """What ``packed`` was given, with the groups it left out at their defaults."""
    values = json.loads(bytes(stored.cpu().tolist()))
    return lookup(values["name"]).config(**values)
