"""Methods that keras-pep is compared with."""

from keras_pep.lab.baselines.mixed_dimension import (
    BudgetTooSmallError,
    MixedDimensionEmbedding,
    mixed_dimensions,
)

__all__ = [
    "BudgetTooSmallError",
    "MixedDimensionEmbedding",
    "mixed_dimensions",
]
