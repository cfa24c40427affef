"""Recommenders that any embedding layer plugs into."""

from keras_pep.models.base import FieldModel
from keras_pep.models.fm import FM
from keras_pep.models.logistic_regression import LogisticRegression

__all__ = ["FM", "FieldModel", "LogisticRegression"]
