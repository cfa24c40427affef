"""Layers: embeddings to search with and to serve, and what models need."""

from keras_pep.layers.attention import InteractingLayer
from keras_pep.layers.interactions import (
    CrossLayer,
    FactorizationMachine,
    FieldPairInteraction,
)
from keras_pep.layers.linear import Linear
from keras_pep.layers.mlp import MLP
from keras_pep.layers.pep_embedding import PEPEmbedding
from keras_pep.layers.pruned_embedding import PrunedEmbedding
from keras_pep.layers.row_embedding import RowEmbedding
from keras_pep.lazy import register

__all__ = [
    "MLP",
    "CrossLayer",
    "FactorizationMachine",
    "FieldPairInteraction",
    "InteractingLayer",
    "Linear",
    "PEPEmbedding",
    "PrunedEmbedding",
    "RowEmbedding",
]

register()  # the other packages, if this one is the first to be imported
