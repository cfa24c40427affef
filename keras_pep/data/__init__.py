"""Datasets, and how they become batches."""

from keras_pep.data.dataset import DataError, Dataset, Split
from keras_pep.data.fields import Field, Vocabulary
from keras_pep.data.growth import Earlier
from keras_pep.data.load import NAMES, load
from keras_pep.data.pipeline import Batches, batches

__all__ = [
    "NAMES",
    "Batches",
    "DataError",
    "Dataset",
    "Earlier",
    "Field",
    "Split",
    "Vocabulary",
    "batches",
    "load",
]
