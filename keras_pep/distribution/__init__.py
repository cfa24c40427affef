"""Training on several devices: JAX sharding, and `tf.distribute`."""

from keras_pep.distribution import replicas
from keras_pep.distribution.row_parallel import RowParallel

__all__ = ["RowParallel", "replicas"]
