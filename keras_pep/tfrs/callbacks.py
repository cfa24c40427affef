"""The callbacks, for `tf_keras`; see their twins in `keras_pep.callbacks`."""

from typing import Any

import tensorflow_recommenders as tfrs
import tf_keras

from keras_pep.callbacks import ExactValidationMixin
from keras_pep.pruning.callback import PEPRetrainingMixin


class PEPRetraining(PEPRetrainingMixin, tf_keras.callbacks.Callback):  # noqa: D101
    __doc__ = PEPRetrainingMixin.__doc__

    def set_model(self, model: Any) -> None:
        """Refuse a figure that says nothing."""
        if isinstance(model, tfrs.Model) and self.monitor == "val_loss":
            raise ValueError(
                "In a `tfrs.Model` `val_loss` is the loss of the last batch "
                "alone: pass `monitor`, the name of a metric."
            )
        super().set_model(model)


class ExactValidation(ExactValidationMixin, tf_keras.callbacks.Callback):  # noqa: D101
    __doc__ = ExactValidationMixin.__doc__
