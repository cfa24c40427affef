"""Recommenders that any embedding layer plugs into."""

from keras_pep.lazy import register
from keras_pep.models.autoint import AutoInt
from keras_pep.models.base import FieldModel
from keras_pep.models.deepfm import DeepFM
from keras_pep.models.fm import FM
from keras_pep.models.logistic_regression import LogisticRegression

__all__ = ["FM", "AutoInt", "DeepFM", "FieldModel", "LogisticRegression"]

register()  # the other packages, if this one is the first to be imported
