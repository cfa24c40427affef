"""The recommenders, for `tf_keras`; see their twins in `keras_pep.models`."""

from typing import Any

import tf_keras

from keras_pep.models.autoint import AutoIntMixin
from keras_pep.models.base import FieldModelMixin
from keras_pep.models.dcn import DCNMixin
from keras_pep.models.deepfm import DeepFMMixin
from keras_pep.models.fm import FMMixin
from keras_pep.models.fvfm import FvFMMixin
from keras_pep.models.gem import GEMMixin
from keras_pep.models.logistic_regression import LogisticRegressionMixin

_registered = tf_keras.saving.register_keras_serializable(package="keras_pep")


class FieldModel(FieldModelMixin, tf_keras.Model):  # noqa: D101
    __doc__ = FieldModelMixin.__doc__

    def __dir__(self) -> list[str]:
        # Files store a layer under the first name that a sorted `dir` has for
        # it. With Keras 3 that is its attribute; `tf_keras` sorts backwards,
        # and would find it in `layers` first.
        return [name for name in super().__dir__() if name != "layers"]

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        settings = tf_keras.layers.Layer.get_config(self)
        return {**settings, **super().get_config()}

    def get_build_config(self) -> dict[str, Any]:
        """The shape of a batch."""
        return {"input_shape": (None, sum(self.field_lengths))}

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Create the weights."""
        self.build()


@_registered
class FM(FMMixin, FieldModel):  # noqa: D101
    __doc__ = FMMixin.__doc__


@_registered
class FvFM(FvFMMixin, FM):  # noqa: D101
    __doc__ = FvFMMixin.__doc__


@_registered
class GEM(GEMMixin, FM):  # noqa: D101
    __doc__ = GEMMixin.__doc__


@_registered
class DeepFM(DeepFMMixin, FM):  # noqa: D101
    __doc__ = DeepFMMixin.__doc__


@_registered
class DCN(DCNMixin, FieldModel):  # noqa: D101
    __doc__ = DCNMixin.__doc__


@_registered
class AutoInt(AutoIntMixin, FieldModel):  # noqa: D101
    __doc__ = AutoIntMixin.__doc__


@_registered
class LogisticRegression(LogisticRegressionMixin, FieldModel):  # noqa: D101
    __doc__ = LogisticRegressionMixin.__doc__
