"""The protocol ``user_folds``: users are dealt into folds; those of one fold are asked, and no event of theirs is trained on."""

from __future__ import annotations

from dataclasses import dataclass

from recbench.core.errors import UserError
from recbench.data.protocol_base import VERSION, ProtocolConfig
from recbench.data.schema import check_choice


@dataclass
class UserFoldsConfig(ProtocolConfig):
    """Users are dealt into ``folds`` of equal size, drawn with ``seed``: those of ``fold`` are tested, those of the next one validate, all others
    train. What is asked is how a model serves people whom it never saw ("strong generalisation": Marlin, 2004; Liang et al., WWW 2018).

    target: the ``last`` event of an asked user, or the ``rest`` behind the first ``known`` share of the events, as one set. All before is history.
    Each fold is a protocol of its own; for the whole catalogue of users sweep over ``protocol.fold``.
    """

    name: str = "user_folds"
    folds: int = 5
    fold: int = 0
    target: str = "last"
    known: float = 0.8
    seed: int = 0

    def validate(self) -> None:
        super().validate()
        check_choice("protocol.target", self.target, ("last", "rest"))
        if self.folds < 3:
            raise UserError(
                f"protocol.folds={self.folds} must be at least 3: one to test, one to validate, one to train"
            )
        if not 0 <= self.fold < self.folds:
            raise UserError(f"protocol.fold={self.fold} must lie in 0..{self.folds - 1}")
        if not 0 < self.known < 1:
            raise UserError(f"protocol.known={self.known} must lie between 0 and 1")
        if self.seed < 0:
            raise UserError(f"protocol.seed={self.seed} must not be negative")

    def identity(self, seen_items: str) -> str:
        target = self.target if self.target == "last" else f"rest{self.known}"
        rule = f"user_folds-{self.fold}of{self.folds}.s{self.seed}"
        return "-".join([rule, target, *self.fitted, self.catalogue, seen_items, VERSION])
