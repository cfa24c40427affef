"""The callbacks, for `tf_keras`; see their twins in `keras_pep.callbacks`."""

import tf_keras

from keras_pep.callbacks import ExactValidationMixin
from keras_pep.search.callback import PEPRetrainingMixin


class PEPRetraining(PEPRetrainingMixin, tf_keras.callbacks.Callback):  # noqa: D101
    __doc__ = PEPRetrainingMixin.__doc__


class ExactValidation(ExactValidationMixin, tf_keras.callbacks.Callback):  # noqa: D101
    __doc__ = ExactValidationMixin.__doc__
