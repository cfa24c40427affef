"""keras-pep: learnable embedding sizes for Keras 3."""

from keras_pep import (
    callbacks,
    data,
    distribution,
    layers,
    metrics,
    models,
    optimizers,
    replicas,
)
from keras_pep.layers import PEPEmbedding, PrunedEmbedding
from keras_pep.search import (
    Ticket,
    pruned_model,
    retrain,
    search,
    soft_labels,
)
from keras_pep.serving import export_saved_model

__version__ = "0.1.0"

__all__ = [
    "PEPEmbedding",
    "PrunedEmbedding",
    "Ticket",
    "callbacks",
    "data",
    "distribution",
    "export_saved_model",
    "layers",
    "metrics",
    "models",
    "optimizers",
    "pruned_model",
    "replicas",
    "retrain",
    "search",
    "soft_labels",
]
