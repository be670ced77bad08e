from recbench.core.errors import UserError as UserError
from recbench.core.key_fields import LATER as LATER
from recbench.core.key_fields import NO_KEY as NO_KEY
from recbench.data.batches import Batch as Batch
from recbench.data.batches import WindowDataset as WindowDataset
from recbench.data.cases import Cases as Cases
from recbench.data.cases import SplitParts as SplitParts
from recbench.data.prepared import PreparedData as PreparedData
from recbench.data.protocol import ProtocolConfig as ProtocolConfig
from recbench.data.schema import PATH_ONLY as PATH_ONLY
from recbench.data.schema import DataConfig as DataConfig
from recbench.data.schema import RawData as RawData
from recbench.data.training import TrainingData as TrainingData
from recbench.evaluation.added_metrics import RankedLists as RankedLists
from recbench.models.base import (
    ModelConfig as ModelConfig,
)
from recbench.models.base import (
    ModelContext as ModelContext,
)
from recbench.models.base import (
    Recommender as Recommender,
)
from recbench.models.closed_form import ClosedForm as ClosedForm
from recbench.models.registry import register as register
from recbench.models.sequence_model import SequenceConfig as SequenceConfig
from recbench.models.sequence_model import SequenceModel as SequenceModel
from recbench.models.term_config import PairConfig as PairConfig
from recbench.models.tokenizers.tokenizer import ItemTokenizer as ItemTokenizer
from recbench.models.tokenizers.tokenizer import TokenizerConfig as TokenizerConfig
from recbench.nn.losses.catalogue import CatalogueLoss as CatalogueLoss
from recbench.objectives.contrastive.base import Auxiliary as Auxiliary
from recbench.objectives.contrastive.base import register as register_auxiliary
from recbench.objectives.distillation.base import Objective as Objective
from recbench.objectives.distillation.base import register as register_distillation
from recbench.objectives.distillation.configs import (
    DistillationConfig as DistillationConfig,
)
from recbench.objectives.distillation.configs import (
    StudentOnlyConfig as StudentOnlyConfig,
)
from recbench.objectives.distillation.configs import (
    TaughtConfig as TaughtConfig,
)

__all__ = [
    "LATER",
    "NO_KEY",
    "PATH_ONLY",
    "Auxiliary",
    "Batch",
    "Cases",
    "CatalogueLoss",
    "ClosedForm",
    "DataConfig",
    "DistillationConfig",
    "ItemTokenizer",
    "ModelConfig",
    "ModelContext",
    "Objective",
    "PairConfig",
    "PreparedData",
    "ProtocolConfig",
    "RankedLists",
    "RawData",
    "Recommender",
    "SequenceConfig",
    "SequenceModel",
    "SplitParts",
    "StudentOnlyConfig",
    "TaughtConfig",
    "TokenizerConfig",
    "TrainingData",
    "UserError",
    "WindowDataset",
    "register",
    "register_auxiliary",
    "register_distillation",
]
