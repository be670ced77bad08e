"""The keys of each contrastive auxiliary, and the part of a model's config that holds them; light to import.

A model offers them all when its config derives from ``AuxiliaryConfig``; nothing else about the model changes. They stand in the model's config
because they belong to how that model is trained: a teacher, an item table and a student may each have other ones.

Another package adds auxiliaries through the entry-point group ``recbench.auxiliaries``: each entry is ``name = "package.module"``, a module that
registers that name when it is imported (``recbench.objectives.contrastive.base.register``). Its keys lie in ``model.auxiliary_keys.<name>``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

from recbench.core.errors import UserError, nearest
from recbench.core.key_fields import LATER, NO_KEY
from recbench.core.plug_ins import PlugIns
from recbench.models.checks import check_choices, check_number
from recbench.models.term_config import AugmentedConfig, PairConfig, TermConfig
from recbench.nn.text.generated import content_hash


@dataclass
class CL4SRecConfig(AugmentedConfig):
    """Two random augmentations of a history attract each other: see ``cl4srec.py``."""


@dataclass
class DuoRecConfig(PairConfig):
    """Two histories with the same next item attract each other: see ``duorec.py``."""


@dataclass
class MCLRecConfig(AugmentedConfig):
    """Learned views beside random ones: see ``mclrec.py``. The defaults are the authors' for Beauty."""

    weight: float = 0.05  # beta, of the pairs with a learned view
    crop: float = 0.5
    mask: float = 0.5
    reorder: float = 0.8
    random_weight: float = 0.0  # lambda, of the pair of random views
    regulariser: float = 0.1  # gamma / beta
    augmenter_sizes: list[int] = field(default_factory=lambda: [32, 16])  # inner layers of each augmenter
    lr: float = 1e-3  # of the augmenters
    stages: str = "paper"  # paper: model, augmenters | released: model, augmenters, and the model once more

    def check(self, where: str) -> None:
        super().check(where)
        for key in ("random_weight", "regulariser"):
            check_number(f"{where}.{key}", getattr(self, key), least=0.0)
        check_number(f"{where}.lr", self.lr, above=0.0)
        if any(size < 1 for size in self.augmenter_sizes):
            raise UserError(f"{where}.augmenter_sizes must be positive numbers, not {self.augmenter_sizes}")
        check_choices(self, {"stages": ("paper", "released")}, where)


@dataclass
class TextsConfig(PairConfig):
    """What the auxiliaries have that read texts which a language model wrote about histories.

    texts: the file. content: its hash, which enters the key in place of the path; filled in. shuffle: a seed gives every history another's text.
    """

    temperature: float = 0.07
    texts: str = field(default="", metadata=NO_KEY)
    content: str = ""
    width: int = 64
    shuffle: int | None = None

    def check(self, where: str) -> None:
        super().check(where)
        if self.n_contrasts:
            raise UserError(
                f"{where}.n_contrasts is of auxiliaries that draw prefixes; texts belong to windows: leave it at 0"
            )
        if self.width < 1:
            raise UserError(f"{where}.width must be at least 1, not {self.width}")
        if not self.texts and not self.content:
            raise UserError(
                f"{where}.texts is missing: name a file of generated texts, as recbench write-texts makes it"
            )
        if self.texts and Path(self.texts).expanduser().is_file():
            self.content = content_hash(Path(self.texts).expanduser())
        elif not self.content:
            raise UserError(f"{where}.texts={self.texts} is not there; recbench write-texts makes one")


@dataclass
class RationaleConfig(TextsConfig):
    """A history and a text that a language model wrote about it attract each other: see ``rationale.py``."""


@dataclass
class LLMCFConfig(TextsConfig):
    """A history is read beside others like it and the texts about those: see ``llm_cf.py``."""

    context_weight: float = 0.1  # of the term in which the history, read behind its examples, points at the next item
    k: int = 4  # examples of a history
    size: int = 32  # width of the two layers that read them
    blank: bool = False  # texts of zeros, the control

    def check(self, where: str) -> None:
        super().check(where)
        check_number(f"{where}.context_weight", self.context_weight, least=0.0)
        check_number(f"{where}.k", self.k, least=1)
        if self.size < 2 or self.size % 2:
            raise UserError(f"{where}.size must be an even number of at least 2, not {self.size}")


@dataclass
class VATConfig(PairConfig):
    """The same loss once more, over vectors that are moved where it hurts: see ``vat.py``."""

    weight: float = 1.0  # lambda, of the loss over moved vectors
    eps: float = 0.5  # length of a move, as a share of the mean length of an item vector
    adaptive: bool = True  # further for windows that are fitted well; false: all alike (APR)
    direction: str = "gradient"  # gradient | random, the control
    passes: str = field(default="separate", metadata=LATER)  # separate | shared: the gradient of the pass that trains

    may_be_idle: ClassVar[bool] = True

    def check(self, where: str) -> None:
        super().check(where)
        check_number(f"{where}.eps", self.eps, least=0.0)
        check_choices(self, {"direction": ("gradient", "random"), "passes": ("separate", "shared")}, where)


@dataclass
class SRACLConfig(PairConfig):
    """Histories whose texts are alike attract each other: see ``sra_cl.py``."""

    weight: float = 0.1  # beta, of two views of a history with items exchanged for neighbours
    user_weight: float = 0.1  # alpha, of a history and one of another user with a like text
    k: int = 10  # neighbours
    replaced: float = 0.2  # share of the events that are exchanged in a view
    neighbours: str = (
        "text"  # text | random | popularity (the text neighbours of another item that is as popular), the controls
    )

    may_be_idle: ClassVar[bool] = True

    def check(self, where: str) -> None:
        super().check(where)
        check_number(f"{where}.user_weight", self.user_weight, least=0.0)
        check_number(f"{where}.replaced", self.replaced, least=0.0, most=1.0)
        check_number(f"{where}.k", self.k, least=1)
        check_choices(self, {"neighbours": ("text", "random", "popularity")}, where)


@dataclass
class FairRecConfig(TermConfig):
    """The states of histories shall not tell an attribute of the user: see ``fairrec.py``."""

    weight: float = 1.0  # a, of what the adversary finds; 0 leaves training as it is
    attribute: str = ""  # the column of the users' table, as in gender
    width: int = 32  # of the adversary's inner layer
    steps: int = 4  # that the adversary learns by before each step of the model
    lr: float = 0.01  # of the adversary
    aware: float = 0.0  # g, of a second part that shall tell the attribute
    orthogonal: float = 0.0  # o, of the cosine between the state and that part
    shuffle: int | None = None  # a seed deals the attribute anew over the users: the control

    may_be_idle: ClassVar[bool] = True

    def check(self, where: str) -> None:
        super().check(where)
        for key in ("aware", "orthogonal"):
            check_number(f"{where}.{key}", getattr(self, key), least=0.0)
        for key in ("width", "steps"):
            check_number(f"{where}.{key}", getattr(self, key), least=1)
        check_number(f"{where}.lr", self.lr, above=0.0)
        if not self.attribute:
            raise UserError(f"{where}.attribute is missing: name a column of the users' table, as in gender")


#: Our own auxiliaries of histories, for sequence models; each has a field of its name in AuxiliaryConfig.
AUXILIARIES = ("cl4srec", "duorec", "fairrec", "llm_cf", "mclrec", "rationale", "sra_cl", "vat")
#: Those of users and items; each has a field of its name in UserItemAuxiliaryConfig (``user_item_terms.py``).
OF_USERS_AND_ITEMS = ("directau", "sgl", "simgcl", "xsimgcl", "lightgcl", "rlmrec_con", "rlmrec_gen")
#: Those of either kind that read the vectors of the items' texts.
READ_TEXT = ("sra_cl", "rlmrec_con", "rlmrec_gen")
#: Those that read what is known of the users.
READ_USERS = ("fairrec",)
OURS = (*AUXILIARIES, *OF_USERS_AND_ITEMS)
PLUG_INS = PlugIns("recbench.auxiliaries", "auxiliary", OURS)
#: Config dataclasses of the auxiliaries that other packages registered.
_added: dict[str, type[TermConfig]] = {}


def auxiliary_names() -> list[str]:
    """All known names, sorted; imports none of them."""
    return sorted({*OURS, *PLUG_INS.names(), *_added})


def names_for(config: Any) -> list[str]:
    """Those that a model config could name: ours that it has keys for, and what other packages add."""
    return [name for name in auxiliary_names() if name not in OURS or hasattr(config, name)]


def add_config(name: str, config: type[TermConfig]) -> None:
    """Make the config of an added auxiliary known. Raises ValueError if the name is one of ours or another's."""
    known = _added.get(name)
    if name in OURS or (known is not None and known.__qualname__ != config.__qualname__):
        raise ValueError(f"the auxiliary name '{name}' is registered twice: {known or 'one of recbench'} and {config}")
    _added[name] = config


@dataclass
class AuxiliaryConfig:
    """The part of a model's config that adds contrastive terms to its loss."""

    # Any of cl4srec, duorec, fairrec, llm_cf, mclrec, rationale, sra_cl, vat, and what other packages add.
    auxiliary: list[str] = field(default_factory=list, metadata=LATER)
    cl4srec: CL4SRecConfig = field(default_factory=CL4SRecConfig, metadata=LATER)
    duorec: DuoRecConfig = field(default_factory=DuoRecConfig, metadata=LATER)
    fairrec: FairRecConfig = field(default_factory=FairRecConfig, metadata=LATER)
    llm_cf: LLMCFConfig = field(default_factory=LLMCFConfig, metadata=LATER)
    mclrec: MCLRecConfig = field(default_factory=MCLRecConfig, metadata=LATER)
    rationale: RationaleConfig = field(default_factory=RationaleConfig, metadata=LATER)
    sra_cl: SRACLConfig = field(default_factory=SRACLConfig, metadata=LATER)
    vat: VATConfig = field(default_factory=VATConfig, metadata=LATER)
    # Keys of the auxiliaries of other packages, by name. ``check_auxiliaries`` fills in the defaults, so that all of them enter the run's key.
    auxiliary_keys: dict[str, Any] = field(default_factory=dict, metadata=LATER)


def check_auxiliaries(config: Any, where: str = "model") -> None:
    """Raise UserError for auxiliaries of a model config that are unknown or named twice, and for wrong keys of those that are named.

    The keys of those that other packages add are completed with their defaults.
    """
    names = getattr(config, "auxiliary", [])
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{where}.auxiliary names '{name}' twice")
        settings_of(config, name, where).check(where_of(name, where))
    for name in getattr(config, "auxiliary_keys", {}):
        if name not in names:
            raise UserError(f"{where}.auxiliary_keys.{name} is set, but {where}.auxiliary does not name '{name}'")
        if name in OURS:
            raise UserError(f"{where}.auxiliary_keys is for other packages; the keys of '{name}' are {where}.{name}")
    for name in (name for name in names if name not in OURS):
        config.auxiliary_keys[name] = asdict(settings_of(config, name, where))


def where_of(name: str, where: str = "model") -> str:
    """The place of an auxiliary's keys on the command line."""
    return f"{where}.{name}" if name in OURS else f"{where}.auxiliary_keys.{name}"


def settings_of(config: Any, name: str, where: str = "model") -> TermConfig:
    """The keys of one auxiliary of a model config, as its own dataclass.

    Raises UserError for an unknown auxiliary, for keys that it does not have, and for a plug-in that cannot be loaded or bears a name of ours.
    """
    PLUG_INS.refuse_clash(name)
    if name in OURS:
        settings: TermConfig | None = getattr(config, name, None)
        if settings is None:
            kinds = "histories, as sequence models read them", "users and items, such as bpr_mf and lightgcn"
            raise UserError(
                f"{where}.auxiliary={name} is for models of {kinds[name in OF_USERS_AND_ITEMS]}; '{config.name}' is none of them"
            )
        return settings
    if name not in _added and name in PLUG_INS:
        PLUG_INS.load(name)
        if name not in _added:
            raise PLUG_INS.refusal(name, "registers no auxiliary of that name with its config")
    if name not in _added:
        raise UserError(f"unknown {where}.auxiliary '{name}'; {nearest(name, names_for(config))}")
    return _typed(_added[name], config.auxiliary_keys.get(name, {}), where_of(name, where))


def _typed(schema: type[TermConfig], values: dict[str, Any], where: str) -> TermConfig:
    """Loose keys as a dataclass. Raises UserError for a key that it does not have and a value of another type."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    known = [part.name for part in fields(schema)]
    for key in values:
        if key not in known:
            raise UserError(f"unknown key '{where}.{key}'; {nearest(key, known)}")
    try:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), dict(values)))  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        raise UserError(f"{where}: {str(error).splitlines()[0]}") from error
