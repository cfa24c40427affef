"""The optimizers that tables with thresholds need."""

from keras_pep.lazy import register
from keras_pep.optimizers.adam_l2 import AdamL2, AdamL2Mixin
from keras_pep.optimizers.by_row import catch_up, parts, taken_by
from keras_pep.optimizers.lazy_adam import LazyAdam, LazyAdamMixin
from keras_pep.optimizers.rowwise_adagrad import (
    RowwiseAdagrad,
    RowwiseAdagradMixin,
)

__all__ = [
    "AdamL2",
    "AdamL2Mixin",
    "LazyAdam",
    "LazyAdamMixin",
    "RowwiseAdagrad",
    "RowwiseAdagradMixin",
    "catch_up",
    "parts",
    "taken_by",
]

register()  # the other packages, if this one is the first to be imported
