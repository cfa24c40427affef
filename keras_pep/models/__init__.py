"""Recommenders that any embedding layer plugs into."""

from keras_pep.lazy import register
from keras_pep.models.autoint import AutoInt
from keras_pep.models.base import FieldModel
from keras_pep.models.dcn import DCN
from keras_pep.models.deepfm import DeepFM
from keras_pep.models.fm import FM
from keras_pep.models.fvfm import FvFM
from keras_pep.models.gem import GEM
from keras_pep.models.logistic_regression import LogisticRegression

__all__ = [
    "DCN",
    "FM",
    "GEM",
    "AutoInt",
    "DeepFM",
    "FieldModel",
    "FvFM",
    "LogisticRegression",
]

register()  # the other packages, if this one is the first to be imported
