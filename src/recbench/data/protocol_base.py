"""What every protocol has: the keys that all of them share, and how their ids are made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from recbench.core.errors import UserError
from recbench.core.key_fields import LATER
from recbench.data.schema import check_choice

if TYPE_CHECKING:
    from recbench.data.cases import SplitParts
    from recbench.data.prepared import PreparedData

VERSION = "v1"
SEEN_ITEMS = ("auto", "mask", "keep")
COLD_ITEMS = ("rank", "drop")


@dataclass
class ProtocolConfig:
    """What every protocol has.

    seen_items: ``mask`` ranks no item of the user's history, ``keep`` ranks them like any other, ``auto`` masks where
    the data has no repeats (there a seen item cannot be the answer) and keeps elsewhere. The rule is decided once per
    data set and protocol, never by a model.

    fit_on_validation: train in two parts. The first is the same run without it: its validation chooses the number of epochs, and gives the validation
    figures. The second trains from the start on training and validation together, for that many epochs. Where validation can choose nothing
    (``training.validate_every`` reaches ``training.max_epochs``) there is no first part, and all epochs are trained.

    cold_items: items without a training event. ``rank`` has them in the catalogue and among the targets: a model that reads texts or features can
    know them, any other gives them the score of untrained weights. ``drop`` ranks only items that training holds and leaves out the other targets.

    users: ask at most so many users, drawn with ``users_seed`` and the same for every model, in validation and test; null: all. Training is not
    changed. For models whose every answer is dear.
    """

    name: str = "leave_one_out"
    seen_items: str = "auto"
    fit_on_validation: bool = field(default=False, metadata=LATER)
    cold_items: str = field(default="rank", metadata=LATER)
    users: int | None = field(default=None, metadata=LATER)
    users_seed: int = field(default=0, metadata=LATER)

    @property
    def takes_given_parts(self) -> bool:
        """Whether it uses the parts of data that others split (``data.parts``), and so needs them."""
        return False

    @property
    def asks_clicks(self) -> bool:
        """Whether it asks how likely clicks are, in place of which items come next."""
        return False

    @property
    def metric_prefix(self) -> str:
        """Stands before every metric name of this protocol; empty where the whole catalogue is ranked."""
        return ""

    def validate(self) -> None:
        """Raises UserError that names the key and lists the choices."""
        check_choice("protocol.seen_items", self.seen_items, SEEN_ITEMS)
        check_choice("protocol.cold_items", self.cold_items, COLD_ITEMS)
        if self.users is not None and self.users < 1:
            raise UserError(f"protocol.users={self.users} must be at least 1")
        if self.users_seed < 0:
            raise UserError(f"protocol.users_seed={self.users_seed} must not be negative")

    @property
    def fitted(self) -> list[str]:
        """What an id says of the training: nothing, or that it holds validation."""
        return ["fitval"] if self.fit_on_validation else []

    @property
    def catalogue(self) -> str:
        """What an id says of the items that are ranked: all of them, or those that training holds."""
        return "full" if self.cold_items == "rank" else "warm"

    def with_users(self, identity: str) -> str:
        """An id with the sample of users in it, before the version."""
        if self.users is None:
            return identity
        version = f"-{VERSION}" if identity.endswith(f"-{VERSION}") else ""
        return f"{identity.removesuffix(version)}-users{self.users}.s{self.users_seed}{version}"

    def resolve_seen_items(self, has_repeats: bool) -> str:
        """``mask`` or ``keep``."""
        if self.seen_items == "auto":
            return "keep" if has_repeats else "mask"
        return self.seen_items

    def identity(self, seen_items: str) -> str:
        """The protocol id; seen_items is the resolved rule. It must differ wherever two configs of this protocol could give other arrays."""
        raise NotImplementedError

    def identity_for(self, data: PreparedData, seen_items: str) -> str:
        """The id for these data, which may know more than the config: what the protocols of ours override that depend on it. That of another
        package's protocol says at its end what ``identity`` may not know of."""
        found = self.identity(seen_items)
        if type(self).parts is ProtocolConfig.parts:
            return found
        more = [*self.fitted, *(["warm"] if self.catalogue == "warm" else [])]
        return "-".join([found, *(word for word in more if word not in found.split("-"))])

    def parts(self, data: PreparedData) -> SplitParts:
        """Training, validation and test. Protocols of other packages give this; our own are built in ``recbench.data.split``."""
        raise NotImplementedError
