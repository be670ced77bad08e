"""``model=fading``: a history is the mean of its items' vectors, in which older events fade at a rate that is learned.

Shapes: B rows, L positions, D hidden size.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recbench.models import Batch, CatalogueLoss, ModelContext, SequenceConfig, SequenceModel, UserError, register


@dataclass
class FadingConfig(SequenceConfig):
    """What can be set on the command line, as in ``model.hidden_size=128``."""

    name: str = "fading"
    hidden_size: int = 64


@register("fading", FadingConfig)
class Fading(SequenceModel):
    """The loss, the scores and every distillation objective follow from ``hidden_states`` and ``item_vectors``."""

    def __init__(self, config: FadingConfig, context: ModelContext) -> None:
        super().__init__(config, context)
        if config.hidden_size < 1:
            raise UserError(f"model.hidden_size must be at least 1, not {config.hidden_size}")
        self.width = config.hidden_size
        self.item_embedding = nn.Embedding(context.n_items + 1, self.width, padding_idx=0)
        nn.init.normal_(self.item_embedding.weight[1:], std=0.1)
        self.rate = nn.Parameter(torch.zeros(()))
        self.output = nn.Linear(self.width, self.width)
        self.loss = CatalogueLoss(config, context.n_items, context.item_counts)

    def hidden_states(self, batch: Batch) -> list[Tensor]:
        """After the input and after the mean, [B, L, D] each. Position t reads the events up to t, never a later one."""
        events = self.item_embedding(batch.items)
        place = torch.arange(events.shape[1], device=events.device)
        age = (place[:, None] - place).clamp(min=0)
        weights = torch.sigmoid(self.rate) ** age * (place[:, None] >= place)
        return [events, self.output((weights / weights.sum(1, keepdim=True)) @ events)]

    def item_vectors(self) -> Tensor:
        """[n_items + 1, D]."""
        return self.item_embedding.weight
