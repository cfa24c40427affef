"""The same layers, models and callbacks in TensorFlow Recommenders.

TensorFlow Recommenders runs on Keras 2, by `tf_keras`. What is here is of that
Keras, has the names of its twins in Keras 3, and does the same by the same
code; weights move between them by `.weights.h5`. Importing it before `tf.keras`
has been used makes that the legacy one; keras-pep itself stays on Keras 3.
"""

from keras_pep.tfrs import legacy

legacy.use()

from keras_pep.tfrs import (  # noqa: E402
    callbacks,
    layers,
    models,
    optimizers,
)
from keras_pep.tfrs.callbacks import PEPRetraining  # noqa: E402
from keras_pep.tfrs.layers import PEPEmbedding, PrunedEmbedding  # noqa: E402
from keras_pep.tfrs.ranking import RankingModel  # noqa: E402
from keras_pep.tfrs.retrieval import RetrievalModel  # noqa: E402

__all__ = [
    "PEPEmbedding",
    "PEPRetraining",
    "PrunedEmbedding",
    "RankingModel",
    "RetrievalModel",
    "callbacks",
    "layers",
    "models",
    "optimizers",
]
