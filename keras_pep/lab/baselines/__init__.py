"""Methods that keras-pep is compared with."""

from keras_pep.lab.baselines.bet import BudgetedTable
from keras_pep.lab.baselines.cel import CELEmbedding
from keras_pep.lab.baselines.clustered import ClusteredEmbedding
from keras_pep.lab.baselines.compressed import CompressedEmbedding
from keras_pep.lab.baselines.dhe import DeepHashEmbedding
from keras_pep.lab.baselines.gradual import GradualMagnitude
from keras_pep.lab.baselines.hash_embedding import HashEmbedding
from keras_pep.lab.baselines.hashing import (
    CompositionalEmbedding,
    HashingEmbedding,
)
from keras_pep.lab.baselines.hot_rows import HotRowsEmbedding
from keras_pep.lab.baselines.low_rank import LowRankEmbedding
from keras_pep.lab.baselines.mixed_dimension import (
    BudgetTooSmallError,
    MixedDimensionEmbedding,
    mixed_dimensions,
)
from keras_pep.lab.baselines.quotient_remainder import QREmbedding
from keras_pep.lab.baselines.robe import RobeEmbedding
from keras_pep.lab.baselines.tensor_train import TensorTrainEmbedding

# By the names of `--compare`.
COMPRESSED: dict[str, type[CompressedEmbedding]] = {
    "hashing": HashingEmbedding,
    "compositional": CompositionalEmbedding,
    "qr": QREmbedding,
    "hash-embedding": HashEmbedding,
    "robe": RobeEmbedding,
    "tensor-train": TensorTrainEmbedding,
    "dhe": DeepHashEmbedding,
    "low-rank": LowRankEmbedding,
    "cce": ClusteredEmbedding,
}
# Those that are made with counts or sizes of fields besides.
OF_FIELDS: dict[str, type[CompressedEmbedding]] = {
    "hot-rows": HotRowsEmbedding,
    "cel": CELEmbedding,
}

__all__ = [
    "COMPRESSED",
    "OF_FIELDS",
    "BudgetTooSmallError",
    "BudgetedTable",
    "CELEmbedding",
    "ClusteredEmbedding",
    "CompositionalEmbedding",
    "CompressedEmbedding",
    "DeepHashEmbedding",
    "GradualMagnitude",
    "HashEmbedding",
    "HashingEmbedding",
    "HotRowsEmbedding",
    "LowRankEmbedding",
    "MixedDimensionEmbedding",
    "QREmbedding",
    "RobeEmbedding",
    "TensorTrainEmbedding",
    "mixed_dimensions",
]
