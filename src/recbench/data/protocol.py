"""Protocols: what counts as training, validation and test, and what a target is ranked against.

Only configs and their ids live here, so that the command line can import this file without any heavy library; the
arrays are built in ``recbench.data.split``. Every protocol has an id that stands beside every number it produced; two
numbers may share a table only if their ids are equal. An id is read from left to right: rule, cuts and targets,
candidates, seen items, version of the code that builds it (raised whenever the same config would give other arrays).

Another package adds protocols through the entry-point group ``recbench.protocols``: each entry is ``name = "package.module:Config"``, a
ProtocolConfig with ``identity`` and ``parts``.
"""

from __future__ import annotations

from recbench.core.errors import UserError, nearest
from recbench.core.plug_ins import PlugIns
from recbench.data.clicks.protocol import ClicksConfig
from recbench.data.protocol_base import VERSION, ProtocolConfig
from recbench.data.session_protocol import SessionRule, SessionsConfig
from recbench.data.set_protocols import GivenConfig, HoldoutConfig
from recbench.data.time_protocols import (
    FixedDateConfig,
    LeaveKOutConfig,
    LeaveOneOutConfig,
    SampledConfig,
    TemporalConfig,
)
from recbench.data.user_folds_protocol import UserFoldsConfig

__all__ = [
    "PLUG_INS",
    "PROTOCOLS",
    "VERSION",
    "ClicksConfig",
    "FixedDateConfig",
    "GivenConfig",
    "HoldoutConfig",
    "LeaveKOutConfig",
    "LeaveOneOutConfig",
    "ProtocolConfig",
    "SampledConfig",
    "SessionRule",
    "SessionsConfig",
    "TemporalConfig",
    "UserFoldsConfig",
    "protocol_class",
    "protocol_names",
]

#: Every protocol by name.
PROTOCOLS: dict[str, type[ProtocolConfig]] = {
    "leave_one_out": LeaveOneOutConfig,
    "temporal": TemporalConfig,
    "sampled_999": SampledConfig,
    "sessions": SessionsConfig,
    "holdout": HoldoutConfig,
    "given": GivenConfig,
    "leave_k_out": LeaveKOutConfig,
    "fixed_date": FixedDateConfig,
    "user_folds": UserFoldsConfig,
    "clicks": ClicksConfig,
}
PLUG_INS = PlugIns("recbench.protocols", "protocol", PROTOCOLS)


def protocol_names() -> list[str]:
    """All known names, sorted; imports none of them."""
    return sorted({*PROTOCOLS, *PLUG_INS.names()})


def protocol_class(name: str) -> type[ProtocolConfig]:
    """The config class of a protocol.

    Raises UserError, with the nearest name, for an unknown one, and for a plug-in that cannot be loaded or bears a name of ours.
    """
    PLUG_INS.refuse_clash(name)
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    if name not in PLUG_INS:
        raise UserError(f"unknown protocol '{name}'; {nearest(name, protocol_names())}")
    config = PLUG_INS.load(name)
    own = isinstance(config, type) and issubclass(config, ProtocolConfig)
    if not own or config.parts is ProtocolConfig.parts:
        raise PLUG_INS.refusal(name, "is no ProtocolConfig with a method parts")
    return config
